"""One measurement from its options to results: check, open, answer, judge, count.

Everything that may be wrong is asked before weights are read. What is finished is on disk and is
kept: the same command goes on after a kill, and one that adds sets, judges or models adds files.
Below `out`:

  eval.json                                  settings, models, sets and judges (`ledger`)
  generations/<arm>/<set>.<decoding>.jsonl   what each model said, shared by all judges
  generations/<arm>/<set>.logp.jsonl         log-probabilities of multiple choice
  results.jsonl                              records of these, which need no judge
  judges/<judge>/...                         see `verdicts`
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxsafety.core import outputs
from jaxsafety.core.errors import bad
from jaxsafety.core.interrupt import Interrupt
from jaxsafety.core.progress import Progress
from jaxsafety.core.sharding import scope
from jaxsafety.data.tokens import template
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.system import SystemPrompt
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.evaluation import evaluate
from jaxsafety.evaluation.choices import measure_choices
from jaxsafety.evaluation.evaluate import Decoding
from jaxsafety.experiment import beside, served, thinking, trained
from jaxsafety.experiment.identity import model_fingerprint
from jaxsafety.experiment.measuring import judges, ledger, scoring, sets, verdicts
from jaxsafety.experiment.measuring.request import Request, check
from jaxsafety.experiment.run import count_parameters, resumable
from jaxsafety.experiment.workdir import versions
from jaxsafety.judges import reasoning
from jaxsafety.models.api import ModelConfig, build
from jaxsafety.models.formats import hf, hub, load
from jaxsafety.organism.world import open_world
from jaxsafety.protocols import Benchmark

Log = Callable[[str], None]


class Source(NamedTuple):
    """A model before its weights are read; `facts` is what `eval.json` says of it."""

    path: Path
    config: ModelConfig
    tokenizer: Tokenizer
    adapter: Path | None
    variables: Mapping[str, Any]
    form: str
    kernels: str
    facts: dict[str, Any]


def measure(request: Request, log: Log = print) -> None:
    """Measures a model, or judges saved answers again; finished parts are read back.

    Args:
      request: the options.
      log: receives lines.

    Raises:
      UsageError: anything wrong with the options, the model, the adapter, the data, the judges or
        `out`: one line, before weights are read, and nothing is written.
      SystemExit: after a signal, once everything is saved.
    """
    decodings = check(request)
    outputs.directory("--out", request.out)
    known = ledger.read(request.out)
    with resumable(log) as interrupt:
        if request.rejudge:
            _rejudge(request, known, interrupt, log)
        else:
            _measure(request, known, decodings, interrupt, log)


def _measure(
    request: Request,
    known: dict[str, Any],
    decodings: tuple[Decoding, ...],
    interrupt: Interrupt,
    log: Log,
) -> None:
    path = hub.directory(request.model, "--model")
    world = open_world(path) if (path / "world.json").is_file() else None
    opened = sets.open_sets(request, world)
    kinds = [(bench.kind, bench.form) for bench in opened.benchmarks]
    asked = judges.open_judges(request.judges, world, kinds, known.get("judges", {}))
    source = _source(request, path)
    added = ledger.join(
        request.out,
        known,
        request,
        arm=source.facts,
        sets=opened.facts,
        judges={one.folder: one.facts for one in asked},
        missing=opened.missing,
    )
    arm = added["arms"][request.arm]
    arm.setdefault("date", datetime.date.today().isoformat())
    source.tokenizer.pin(arm["date"])
    long = arm.setdefault("long", {})
    for bench in opened.benchmarks:
        if bench.name not in long:
            long[bench.name] = _long(bench, source, log)
    _add_shared(arm, opened.benchmarks, source)
    added["versions"] = known.get("versions") or versions()
    for line in opened.lines:
        log(line)
    ledger.write(request.out, added)  # only now: what was refused leaves nothing behind
    fitting = [_fitting(bench, long[bench.name]) for bench in opened.benchmarks]
    asking = [bench for bench in fitting if bench.items]
    _answer(request, source, asking, decodings, interrupt, log)
    told = {"template": source.facts["template"]}
    scoring.count(request.out, request.arm, asking, request.seed, told, long)
    _judge(request, added, asked, [b.name for b in fitting], interrupt, log)


def _rejudge(request: Request, known: dict[str, Any], interrupt: Interrupt, log: Log) -> None:
    """Judges every saved answer by the judges that are named, those that did so before too."""
    if not known:
        raise bad("--out", str(request.out), "what `jaxsafety eval` wrote: there is no eval.json")
    ledger.check_marks(known, request)
    places = (Path(arm["path"]) for arm in known["arms"].values())
    world = next((open_world(p) for p in places if (p / "world.json").is_file()), None)
    kinds = [(facts["kind"], facts["form"]) for facts in known["sets"].values()]
    asked = judges.open_judges(request.judges, world, kinds, known["judges"])
    added = {**known, "judges": {**known["judges"], **{o.folder: o.facts for o in asked}}}
    names = [n for n, facts in known["sets"].items() if facts["form"] == "text"]
    found = _saved(request.out, known, names)
    if not found:
        raise bad("--out", str(request.out), "a directory with saved answers")
    ledger.write(request.out, added)
    _judge(request, added, asked, names, interrupt, log, again=True)


def _source(request: Request, path: Path) -> Source:
    """The model as far as it is known without its weights."""
    config = hf.read_config(path)
    variables = template.parse(request.variables, "--variables")
    tokenizer = load.read_tokenizer(path, variables, request.template)
    if not tokenizer.chat_template:
        allowed = "a chat model, or --template=raw"
        raise bad("--model", f"{request.model}, without a chat template", allowed)
    fingerprint, adapter = model_fingerprint(path), None
    if request.adapter is not None:
        beside.inputs(beside.Beside(adapters=request.adapter), build(config), fingerprint)
        adapter = _digest(sorted(request.adapter.glob("*.safetensors")))
    words = json.dumps(variables, sort_keys=True, default=str)
    marks = reasoning.parse("--reasoning", request.reasoning)
    if marks is not None:
        thinking.check("--reasoning", marks, tokenizer)
    facts = {
        "model": request.model,
        "path": str(path.resolve()),
        "fingerprint": fingerprint,
        "adapter": adapter,
        "adapter_path": str(request.adapter) if request.adapter else None,
        "template": hashlib.sha256(tokenizer.chat_template.encode()).hexdigest()[:16],
        "variables": words,
        "family": config.family,
        "layers": config.num_layers,
        "width": config.embed_dim,
        "context": config.max_length,
        "parameters": _parameters(config),
        "dtype": "float32",
        **({ledger.KERNELS: request.kernels} if request.kernels != "float" else {}),
        # Whether it opens a thought: without a model, when judged again, it could not be told.
        **({"prompt_end": thinking.prompt_end(tokenizer)} if marks else {}),
    }
    how = (variables, request.template, request.kernels)
    return Source(path, config, tokenizer, request.adapter, *how, facts)


def _parameters(config: ModelConfig) -> int:
    """How many numbers the model has, without reading one."""
    return count_parameters(jax.eval_shape(build(config).init, jax.random.key(0)))


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _long(bench: Benchmark, source: Source, log: Log) -> dict[str, str]:
    """Items that the context has no room for -> why; they are not asked, and not forgotten.

    Raises:
      UsageError: there is room for none, and there would be for shorter answers.
    """
    if bench.form != "text":
        return {}
    most, found, shortest = source.config.max_length, {}, source.config.max_length
    with Progress(log, f"reading {bench.name}", total=len(bench.items), unit="prompts") as progress:
        for number, item in enumerate(bench.items, 1):
            tokens = len(encode_prompt(source.tokenizer, item.messages))
            shortest = min(shortest, tokens)
            if tokens + bench.max_tokens > most:
                found[item.id] = f"prompt and answer are longer than the context of {most} tokens"
            progress(number)
    if found and len(found) == len(bench.items) and shortest < most:
        allowed = f"fewer: the model's context is {most} and the shortest prompt has {shortest}"
        raise bad(
            "--max-tokens", f"{bench.max_tokens} tokens of an answer in {bench.name}", allowed
        )
    if found:
        why = f"with {bench.max_tokens} tokens of an answer they are longer than {most}"
        log(f"{bench.name}: {len(found)} of {len(bench.items)} prompts are not asked: {why}")
    return found


def _add_shared(arm: dict[str, Any], benchmarks: Sequence[Benchmark], source: Source) -> None:
    """Adds to a model's facts how many prompts of each set it was trained on.

    What was counted stays; where it could not be known it is asked again.
    """
    shared = arm.setdefault("shared", {})
    new = [b for b in benchmarks if shared.get(b.name, {}).get("any") is None]
    if new:
        shared |= trained.count(new, trained.find(source.path, source.adapter))


def _fitting(bench: Benchmark, long: Mapping[str, str]) -> Benchmark:
    return bench._replace(items=tuple(item for item in bench.items if item.id not in long))


def _answer(
    request: Request,
    source: Source,
    benchmarks: list[Benchmark],
    decodings: tuple[Decoding, ...],
    interrupt: Interrupt,
    log: Log,
) -> None:
    """Generates what is not there; where nothing is missing, no weight is read."""
    texts = [bench for bench in benchmarks if bench.form == "text"]
    told = [source.facts[name] for name in ledger.MODEL]
    told += [source.facts[ledger.KERNELS]] if ledger.KERNELS in source.facts else []
    made = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
    choices = [bench for bench in benchmarks if bench.form == "choices"]
    sets = texts, decodings, request.out, request.arm
    asked = evaluate.missing(*sets, seed=request.seed, steer="all", fingerprint=made)
    unscored = [b for b in choices if not scoring.complete(request.out, request.arm, b, made)]
    if asked or unscored:
        _generate(request, source, asked, unscored, decodings, made, interrupt, log)


def _generate(
    request: Request,
    source: Source,
    texts: list[Benchmark],
    choices: list[Benchmark],
    decodings: tuple[Decoding, ...],
    made: str,
    interrupt: Interrupt,
    log: Log,
) -> None:
    """Loads the model, and has it answer and score these sets."""
    interrupt.doing = f"this batch of answers ({request.arm})"
    mesh = served.mesh_here(source.config, request.batch_size)
    loaded = served.load(
        source.path,
        mesh=mesh,
        beside=beside.Beside(adapters=source.adapter),
        variables=source.variables,
        template=source.form,
        kernels=source.kernels,
    )
    loaded.tokenizer.pin(source.tokenizer.date)
    what = loaded.what
    with scope(mesh):
        for said in evaluate.answer(
            loaded.model,
            what.params,
            loaded.tokenizer,
            texts,
            request.out,
            request.arm,
            seed=request.seed,
            decodings=decodings,
            batch_size=request.batch_size,
            layers=what.layers,
            steer=what.steer,
            encode=what.encode,
            log=log,
            fingerprint=made,
            check=interrupt.check,
        ):
            count = len(said.lines)
            log(f"{request.arm}, {said.bench.name}, {said.decoding}: {count} answers, {said.how}")
        if choices:
            interrupt.doing = f"this batch of items ({request.arm})"
            measure_choices(
                loaded.model,
                what.params,
                loaded.tokenizer,
                choices,
                request.out,
                request.arm,
                system=what.encode.text if isinstance(what.encode, SystemPrompt) else "",
                seed=request.seed,
                layers=what.layers,
                steer=what.steer,
                log=log,
                fingerprint=made,
                check=interrupt.check,
            )


def _saved(out: Path, facts: Mapping[str, Any], names: list[str]) -> list[verdicts.Set]:
    """All saved answers to these sets, of every arm."""
    marks, found = ledger.marks_of(facts), []
    for arm, told in facts["arms"].items():
        opened = ledger.opens(facts, arm)
        for name in names:
            of = facts["sets"][name]
            for decoding in facts["settings"]["decodings"]:
                path = out / "generations" / arm / f"{name}.{decoding}.jsonl"
                if path.is_file():
                    long = told.get("long", {}).get(name, {})
                    one = (name, of["kind"], of["max_tokens"], arm, decoding, path, long)
                    found.append(verdicts.Set(*one, marks, opened))
    return found


def _heard(facts: Mapping[str, Any], arm: str) -> dict[str, Any]:
    """What a record says of the answers that were judged: template, marks of thoughts if any."""
    marks = ledger.marks_of(facts)
    more = {"reasoning": list(marks), "opened": ledger.opens(facts, arm)} if marks else {}
    return {"template": facts["arms"][arm]["template"], **more}


def _judge(
    request: Request,
    facts: Mapping[str, Any],
    asked: list[judges.Named],
    names: list[str],
    interrupt: Interrupt,
    log: Log,
    again: bool = False,
) -> None:
    """Every judge on every saved answer that it can say something about."""
    interrupt.doing = "these answers"
    # Sets of earlier commands too: a pool is of all that a judge has judged.
    earlier = [n for n, told in facts["sets"].items() if told["form"] == "text"]
    found = _saved(request.out, facts, earlier)
    for one in asked:
        root = request.out / "judges" / one.folder
        wanted = set(names) | judges.list_judged(root)
        mine = [s for s in found if s.kind in one.kinds and s.name in wanted]
        if not mine:
            continue
        log(f"judge {one.title}:")
        verdicts.judge_sets(
            root,
            one.open,
            mine,
            seed=request.seed,
            facts={arm: {"judge": one.folder, **_heard(facts, arm)} for arm in facts["arms"]},
            again=again,
            log=log,
            check=interrupt.check,
        )
