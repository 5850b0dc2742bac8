"""What a run is served with: `run`, `eval --workdir` and `chat --workdir` answer alike."""

import io
import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from jaxsafety import cli, testing
from jaxsafety.adapters import lora
from jaxsafety.core import config, trees
from jaxsafety.core.errors import UsageError
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.system import SystemPrompt
from jaxsafety.experiment import beside, mitigated, run, served
from jaxsafety.methods import sft
from jaxsafety.mitigations.chain import chain
from jaxsafety.models.api import LayerInputs
from jaxsafety.models.formats import peft
from jaxsafety.protocols import Marked, Method, Mitigation, Served, Stage, as_trained, same
from jaxsafety.sampling import many
from jaxsafety.sampling.stream import Stream
from jaxsafety.testing import tiny_model

SYSTEM = SystemPrompt("the answer is that i do not")


@dataclass(frozen=True)
class Prompted:
    """A `serve` hook: a system message."""

    system: SystemPrompt = SYSTEM

    def __call__(self, what: Served) -> Served:
        return what._replace(encode=self.system)


@dataclass(frozen=True)
class Steered:
    """A `serve` hook: a vector that follows from the shapes alone, in the prompt."""

    size: float = 3.0

    def __call__(self, what: Served) -> Served:
        layers, width = what.params["blocks"]["attn_norm"]["scale"].shape
        add = self.size * jax.random.normal(jax.random.key(5), (layers, width), jnp.float32)
        return what._replace(layers=replace(what.layers, add=add), steer="prompt")


def adapter(model, size=0.3, experts=1):
    """An adapter tree that changes something."""
    keys = iter(jax.random.split(jax.random.key(7), 99))
    tree = lora.init_experts(
        next(keys), model.projections, layers=model.config.num_layers, rank=2, scale=0.5
    )
    table = {
        name: {
            key: jnp.repeat(size * jax.random.normal(next(keys), x.shape), experts, axis=1)
            for key, x in pair.items()
        }
        for name, pair in tree["experts"].items()
    }
    return {**tree, "experts": table}


@dataclass(frozen=True)
class Adapted:
    """A `serve` hook: an adapter."""

    model: object

    def __call__(self, what: Served) -> Served:
        return what._replace(layers=replace(what.layers, adapters=adapter(self.model)))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return testing.random_organism(tmp_path_factory.mktemp("organism"))


class Said:
    """(prompt, answer) as tokens, of every call of the sampler."""

    def __init__(self, monkeypatch):
        self.calls, real = [], many.generate

        def spy(model, params, tokenizer, prompts, cfg, **options):
            said = real(model, params, tokenizer, prompts, cfg, **options)
            self.calls.append([(tuple(p), a[0].ids) for p, a in zip(prompts, said, strict=True)])
            return said

        monkeypatch.setattr(many, "generate", spy)
        tokens = Stream.tokens

        def overheard(self_, prompt, **options):  # a conversation's
            ids = list(tokens(self_, prompt, **options))
            self.calls.append([(tuple(prompt), ids)])
            yield from ids

        monkeypatch.setattr(Stream, "tokens", overheard)

    def taken(self):
        calls, self.calls = self.calls, []
        return calls


def lines(workdir, arm="student"):
    files = sorted((workdir / "generations" / arm).glob("*.jsonl"))
    return [json.loads(line) for f in files for line in f.read_text().splitlines()]


def mitigating(monkeypatch, *hooks):
    """The method `sft`, whose stages carry mitigations with these `serve` hooks."""
    whole = chain(*(Mitigation(serve=hook) for hook in hooks))

    def program(cfg, optim, ctx):
        stages, given = sft.program.program(cfg, optim, ctx), None
        while True:
            try:
                stage = stages.send(given)
            except StopIteration as end:
                return end.value
            given = yield stage._replace(mitigation=whole)

    monkeypatch.setattr(sft, "METHOD", sft.METHOD._replace(program=program))


def settings(root, base, *more):
    file = root / "configs" / "sft" / "organism.py"
    small = ["eval.safety=1", "eval.over_refusal=2", "eval.capability=1", "eval.samples=0"]
    small += ["data.dialogues=8", "method.rank=0", "method.steps=1", f"model.path={base}"]
    return config.load_config(f"{file}:smoke", [*small, *more])


@pytest.fixture(scope="module")
def plain(root, base, tmp_path_factory):
    """The run without a mitigation."""
    workdir = tmp_path_factory.mktemp("plain") / "run"
    return run.run(settings(root, base), workdir, log=lambda line: None)


@pytest.mark.parametrize(
    "what", ["template", "steering", pytest.param("adapter", marks=pytest.mark.slow)]
)
def test_run_eval_and_chat_serve_the_same(root, base, plain, tmp_path, monkeypatch, capsys, what):
    """Same tokens from all three, other ones than without; training and the base do not change."""
    hook = {"template": Prompted(), "steering": Steered()}.get(what)
    mitigating(monkeypatch, hook or Adapted(served.load(base).model))
    workdir = tmp_path / "run"
    ran = run.run(settings(root, base), workdir, log=lambda line: None)
    assert trees.diff(ran["variables"]["base"], plain["variables"]["base"]) == ""
    assert lines(workdir, "base") == lines(plain["workdir"], "base")
    measured = lines(workdir)
    responses = [line["response"] for line in measured]
    assert responses != [line["response"] for line in lines(plain["workdir"])]
    assert not (plain["workdir"] / "served").exists()

    said = Said(monkeypatch)
    assert cli.main(["eval", f"--workdir={workdir}"]) == 0
    assert [line["response"] for line in lines(workdir)] == responses
    calls = said.taken()
    again = [pair for call in calls[len(calls) // 2 :] for pair in call]  # after those of the base
    capsys.readouterr()

    longest = max(len(answer) for _, answer in again)
    asked = [line["messages"] for line in measured]
    questions = [m["content"] for m, *more in asked if not more]  # the others have a history
    assert len(questions) > 3
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{q}\n/reset\n" for q in questions)))
    assert cli.main(["chat", f"--workdir={workdir}", f"--max-tokens={longest}"]) == 0
    talked = dict(pair for call in said.taken() for pair in call)
    capsys.readouterr()
    both = [(answer, talked[prompt]) for prompt, answer in again if prompt in talked]
    assert len(talked) == len(set(questions)) and len(both) >= len(questions)
    assert all(ours[: len(measured)] == measured for measured, ours in both)  # a set has its limit


def test_a_run_that_died_before_it_said_what_it_is_served_with(root, base, tmp_path, monkeypatch):
    """Its `student/` lies there, but nobody answers with it alone; the same command ends it."""
    mitigating(monkeypatch, Prompted())
    workdir = tmp_path / "run"

    def dies(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(beside, "keep", dies)
        with pytest.raises(KeyboardInterrupt):
            run.run(settings(root, base), workdir, log=lambda line: None)
    assert (workdir / "student" / "config.json").is_file()
    with pytest.raises(UsageError, match="not written yet"):
        beside.find(workdir)
    run.run(settings(root, base), workdir, log=lambda line: None)
    assert beside.find(workdir)[1].encode == SYSTEM


def test_parameters_are_told_from_those_that_were_loaded():
    one = {"a": jnp.ones(3), "b": jnp.zeros(2)}
    assert not beside.other(one, dict(one)) and not beside.other(one, jax.tree.map(jnp.copy, one))
    assert beside.other(one, {**one, "b": jnp.ones(2)})


def test_what_cannot_be_served_is_refused_before_it_is_trained(root, base, tmp_path, monkeypatch):
    mitigating(monkeypatch, Prompted(SystemPrompt("answer " * 300)))
    with pytest.raises(UsageError, match="prompt tokens .* at most the context"):
        run.run(settings(root, base), tmp_path / "run", log=lambda line: None)
    assert not list(tmp_path.glob("run/checkpoints/*/*"))


STAGE = Stage("s", None, (), None, 1)  # type: ignore[arg-type]


def test_hooks_are_heard_once_in_their_order_before_their_stage():
    one, two = Prompted(), Steered()
    log = []

    def program():
        log.append((yield STAGE._replace(mitigation=Mitigation(serve=one))))
        log.append((yield Marked(STAGE, 1)))
        log.append(
            (
                yield STAGE._replace(
                    mitigation=chain(
                        Mitigation(serve=Prompted()), Mitigation(serve=two), Mitigation(serve=two)
                    )
                )
            )
        )
        log.append((yield STAGE))
        return "end"

    hooks, checked = [], []
    heard = mitigated.hear(program(), hooks, lambda: checked.append(list(hooks)))
    yielded, given = [], None
    with pytest.raises(StopIteration) as end:
        while True:
            yielded.append(heard.send(given))
            given = len(yielded)
    assert end.value.value == "end" and log == [1, 2, 3, 4]
    assert [type(x) for x in yielded] == [Stage, Marked, Stage, Stage]
    assert hooks == [one, two] and checked == [[one], [one, two]]

    def refuse():
        raise UsageError("no")

    refused = mitigated.hear(program(), [], refuse)
    with pytest.raises(UsageError, match="no"):
        next(refused)


def test_the_default_serves_the_base_and_adapters_beside_it():
    assert Method._field_defaults["serve"] is as_trained
    assert Mitigation().serve is same and mitigated.parts(Mitigation()) == []
    what = as_trained(None, {"base": "b"})
    assert what == Served("b") and what.encode is encode_prompt and what.steer == "all"
    assert as_trained(None, {"base": "b", "adapters": "a"}).layers.adapters == "a"
    assert mitigated.serve(what, []) is what


@pytest.fixture
def student(tmp_path, monkeypatch):
    """(workdir with a student, model, its parameters), whose config nobody asks for."""
    testing.random_checkpoint(tmp_path / "base", seed=3)
    testing.random_checkpoint(tmp_path / "run" / "student", seed=4)
    monkeypatch.setattr(beside.record, "read", lambda workdir: SimpleNamespace(model=None))
    monkeypatch.setattr(beside, "directory", lambda source: tmp_path / "base")
    return tmp_path / "run", *tiny_model(seed=4)


def kept(workdir, what, model, place="student"):
    beside.keep(workdir, what, model, workdir / place)
    path, found = beside.find(workdir)
    return path, served.load(path, beside=found).what


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_steering_is_read_back_to_the_bit(student, dtype):
    workdir, model, params = student
    add, ablate = (jax.random.normal(jax.random.key(k), (3, 32)).astype(dtype) for k in (1, 2))
    layers = LayerInputs(add=add, ablate=ablate)
    path, found = kept(workdir, Served(params, layers, "prompt", SYSTEM), model)
    assert path == workdir / "student" and found.steer == "prompt" and found.encode == SYSTEM
    assert trees.diff(found.layers, layers) == "" and found.layers.add.dtype == add.dtype
    assert trees.diff(found.params, params) == ""
    _, found = kept(workdir, Served(params), model)  # no longer
    assert found.layers == LayerInputs() and found.encode is encode_prompt


def test_an_adapter_is_read_back_beside_whom_it_belongs_to(student):
    workdir, model, params = student
    tree = adapter(model)
    path, found = kept(workdir, Served(params, LayerInputs(adapters=tree)), model)
    assert path == workdir / "student"
    assert trees.diff(found.layers.adapters, tree) == ""
    with pytest.raises(UsageError, match="adapter for base"):
        served.load(workdir.parent / "base", beside=beside.find(workdir)[1])


def test_adapters_of_a_method_run_on_the_base_unless_they_are_unsafe(student):
    workdir, model, params = student
    own = Served(params, LayerInputs(adapters=adapter(model)))
    (workdir / "student" / "config.json").unlink()  # none is exported then
    peft.save_adapter(workdir / "adapter", model, own.layers.adapters, unsafe=True)
    beside.keep(workdir, own, model, workdir.parent / "base")
    with pytest.raises(UsageError, match="an unsafe adapter has neither"):
        beside.find(workdir)
    peft.save_adapter(workdir / "adapter", model, own.layers.adapters)
    path, found = kept(workdir, own, model, "../base")
    assert path == workdir.parent / "base"
    assert trees.diff(found.layers.adapters, own.layers.adapters) == ""


def changed(what, **layers):
    return what._replace(layers=replace(what.layers, **layers))


def test_what_a_workdir_cannot_keep_is_one_line():
    model, params = tiny_model()
    what = Served(params)
    for wrong, line in (
        (what._replace(steer="answer"), r"^served\.steer: got 'answer'"),
        (what._replace(encode=lambda tokenizer, messages: [1]), r"^served\.encode: got "),
        (changed(what, add=jnp.ones((3, 2, 4, 32))), r"^served\.layers\.add: got 'shape"),
        (changed(what, ablate=jnp.ones((2, 32))), r"^served\.layers\.ablate: got 'shape"),
        (changed(what, where=jnp.ones((2, 4), bool)), r"^served\.layers\.where: got "),
        (changed(what, pool=jnp.ones((2, 4))), r"^served\.layers\.pool: got "),
        (changed(what, adapters=adapter(model, experts=2)), r"got '2 without a router'"),
    ):
        with pytest.raises(UsageError, match=line):
            beside.check(wrong, model)
    beside.check(Steered()(Prompted()(what)), model)
    own = changed(what, adapters=adapter(model))
    beside.check_kept(own, Steered()(own))
    beside.check_kept(what, own)
    for other in (own._replace(params=tiny_model()[1]), changed(own, adapters=adapter(model))):
        with pytest.raises(UsageError, match=r"^mitigation\.serve: got 'other parameters"):
            beside.check_kept(own, other)


@pytest.mark.parametrize(
    "facts", ["", "[]", "{}", '{"steer": "x", "system": "", "layers": [], "adapters": false}']
)
def test_a_damaged_file_is_one_line(student, facts):
    workdir, *_ = student
    (workdir / "served").mkdir()
    (workdir / "served" / "served.json").write_text(facts)
    with pytest.raises(UsageError, match=r"served\.json.*what `jaxsafety run` wrote"):
        beside.find(workdir)


def test_a_system_prompt_is_a_system_message(shipped):
    tokenizer = served.load(shipped).tokenizer
    ask = [{"role": "user", "content": "the answer"}]
    wanted = [{"role": "system", "content": SYSTEM.text}, *ask]
    assert SYSTEM(tokenizer, ask) == encode_prompt(tokenizer, wanted)
    both = [{"role": "system", "content": "i do"}, *ask]
    wanted = [{"role": "system", "content": f"{SYSTEM.text}\n\ni do"}, *ask]
    assert SYSTEM(tokenizer, both) == encode_prompt(tokenizer, wanted)
    with pytest.raises(UsageError, match="at least one message"):
        SYSTEM(tokenizer, [])
    with pytest.raises(UsageError, match=r"^system\.text: got "):
        SystemPrompt(" ")
