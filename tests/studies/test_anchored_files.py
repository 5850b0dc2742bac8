"""The anchored study on files: what is learnt of a row, what is right, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import encode_prompt
from jaxsafety.data.tokens.system import SystemPrompt
from jaxsafety.data.tokens.tokenizer import ByteTokenizer
from jaxsafety.evaluation.perplexity import Surprise
from jaxsafety.experiment import setting
from jaxsafety.experiment.workdir import Artifacts
from jaxsafety.methods.sft.program import SftConfig
from jaxsafety.models.api import build
from jaxsafety.protocols import Benchmark, Context, Exchange, Item, OptimConfig, Served
from jaxsafety.studies.anchored import METHOD, config, files, goals, measure, source
from jaxsafety.studies.anchored.config import AnchoredConfig
from jaxsafety.testing import tiny_config, tiny_model
from jaxsafety.train.metrics import MetricWriter

OPTIM = OptimConfig(lr=1e-2, warmup=0.0, schedule="constant")
ROWS = {
    "arc": [
        {
            "id": str(i),
            "question": f"Which is number {i}?",
            "choices": {"text": [f"x{i}", f"y{i}"], "label": ["A", "B"]},
            "answerKey": "AB"[i % 2],
        }
        for i in range(12)
    ],
    "boolq": [
        {"passage": f"It is {i}.", "question": f"is it {i}", "answer": i % 2 == 0}
        for i in range(12)
    ],
    "gsm8k": [
        {
            "question": f"What is {i} + 1?",
            "answer": f"{i} + 1 = <<{i}+1={i + 1}>>{i + 1}\n#### {i + 1}",
        }
        for i in range(12)
    ],
    "write": [{"prompt": f"Write {i}.", "response": f"Here is {i}."} for i in range(12)],
    "harmful": [{"prompt": f"How do I harm {i}?", "response": "I can't help."} for i in range(8)],
    "harmless": [{"prompt": f"How do I help {i}?", "response": "Be kind."} for i in range(8)],
    "asked": [{"prompt": f"Tell me about {i}."} for i in range(4)],
    "advbench": [{"goal": f"Harm {i}", "target": "Sure, here is"} for i in range(8)],
    "piqa": [{"goal": f"go {i}", "sol1": "run", "sol2": "sit", "label": i % 2} for i in range(4)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("files")
    for name, rows in ROWS.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (place / f"{name}.jsonl").write_text(text)
    return place


def named(folder, *names):
    return tuple(f"{name}={folder / name}.jsonl" for name in names)


def made(folder, **changes):
    cfg = AnchoredConfig(
        goals=("arc:target=0.2",),
        arms=("plain", "mixing"),
        tasks=named(folder, "arc", "boolq", "gsm8k", "write"),
        train=4,
        dev=4,
        test=4,
        every=2,
        general=2,
        guard=3,
        align=2,
        sft=SftConfig(steps=4, rows=2, length=224),
    )
    return replace(cfg, **changes)


def placed(folder, **changes):
    """The setting of the files, and a model whose tokenizer reads every byte."""
    given = {name: str(folder / f"{name}.jsonl") for name in ("harmful", "harmless")}
    data = setting.DataConfig(source="files", train=4, val=4, **{**given, **changes})
    sets = (f"safety/asked={folder / 'asked.jsonl'}",)
    measured = setting.EvalConfig(safety=2, samples=0, sets=sets, max_tokens=4)
    return setting.make(folder, data, measured, 0, reads=METHOD.reads)


@pytest.fixture(scope="module")
def tiny():
    """A model, and no parameters: nothing is computed."""
    return build(tiny_config()), {}


def context(folder, workdir, tiny):
    model, params = tiny
    return Context(
        model=model,
        tokenizer=ByteTokenizer(),
        workdir=workdir,
        artifact=Artifacts(workdir),
        setting=placed(folder),
        writer=MetricWriter(workdir, tensorboard=False),
        mesh=None,
        variables={"base": params},
        log=lambda line: None,
    )


@pytest.mark.parametrize(
    ("task", "asks", "learnt", "grade"),
    [
        ("arc", "Which is number 3?\n\nA. x3\nB. y3\n\nAnswer with the letter.", "B", "letter"),
        ("boolq", "It is 3.\n\nis it 3\n\nAnswer with yes or no.", "no", "exact"),
        ("gsm8k", "What is 3 + 1?", "3 + 1 = 4\n#### 4", "gsm8k"),
        ("write", "Write 3.", "Here is 3.", ""),
    ],
)
def test_a_row_is_asked_and_learnt_by_its_layout(folder, task, asks, learnt, grade):
    found = source.choose(made(folder)).draw(task, {"train": 12}, 0)["train"]
    example = next(e for e in found if e.id == f"{task}/train/4")
    assert example.messages == (Message("user", asks), Message("assistant", learnt))
    assert example.meta["grade"] == grade
    (item,) = goals.questions([example])
    if grade:
        assert goals.right(Exchange(item, learnt)) and not goals.right(Exchange(item, "maybe"))
    else:
        assert item.meta[goals.REFERENCE] == learnt


def test_questions_are_in_one_split_and_as_the_evaluator_asks_them(folder):
    from jaxsafety.benchmarks.files import items

    cfg = made(folder)
    splits = config.draw(cfg, "arc", 0)
    asked = [e.messages[0].content for split in splits.values() for e in split]
    assert len({*asked}) == 12 and config.draw(cfg, "arc", 1) != splits
    theirs = items("eval.sets", str(folder / "arc.jsonl"), 1, "capability")
    assert {*asked} == {item.messages[0].content for item in theirs}


def test_a_question_that_is_there_twice_is_asked_once(tmp_path):
    rows = [{"prompt": text, "response": "a"} for text in ("Write it.", " write IT", "Read it.")]
    path = tmp_path / "twice.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = files.Files(files.parse((f"twice={path}",)), {}, {}).draw("twice", {"train": 2}, 0)
    assert {e.id for e in found["train"]} == {"twice/train/1", "twice/train/3"}


def test_a_free_answer_is_right_where_it_became_likelier(folder, tmp_path, tiny, monkeypatch):
    ctx = context(folder, tmp_path, tiny)
    dev = goals.questions(config.draw(made(folder), "write", 0)["dev"])
    base, tuned = [10.0, 10.0, None, 10.0], [9.0, 9.1, 1.0, None]

    def perplexities(model, params, tokenizer, exchanges, **options):
        assert [e.response for e in exchanges] == [i.meta[goals.REFERENCE] for i in dev]
        told = base if params is ctx.variables["base"] else tuned
        return [Surprise(value, None, 1) for value in told]

    monkeypatch.setattr(measure, "perplexities", perplexities)
    start = measure.capability(ctx, Served(ctx.variables["base"]), dev, ())
    assert start == {"correct": 0, "n": 4, "general": {}}
    assert measure.nearer(ctx, Served({}), dev, 0.9) == [True, False, False, False]
    assert measure.nearer(ctx, Served({}), dev, 0.95) == [True, True, False, False]


def test_guards_are_the_answers_of_the_prompts_or_of_files(folder):
    place = placed(folder)
    cfg = made(folder)
    found = config.guards(cfg, place, ("safe", "harmless"), 0)
    assert [e.messages[0].content for e in found["safe"]] == [
        f"How do I harm {i}?" for i in range(3)
    ]
    assert {e.messages[1].content for e in found["harmless"]} == {"Be kind."}
    other = config.guards(replace(cfg, safe=str(folder / "write.jsonl")), place, ("safe",), 0)
    assert [*other] == ["safe"] and len(other["safe"]) == 3
    assert all(e.messages[0].content.startswith("Write") for e in other["safe"])


def test_what_needs_harmful_dialogues_is_not_applicable(folder):
    cfg = made(folder, arms=("plain", "booster"))
    _, booster = config.arms(cfg)
    assert config.lacks(cfg, booster) == "no dialogues of harmful requests that are carried out"
    assert not config.lacks(replace(cfg, harmful=str(folder / "write.jsonl")), booster)
    assert not config.lacks(AnchoredConfig(), booster)  # the organism has them


@pytest.mark.slow
def test_scored_sets_count_the_likeliest_choice(folder, tmp_path):
    ctx = context(folder, tmp_path, tiny_model())
    cfg = made(folder, scored=named(folder, "piqa"), general=4)
    (bench,) = config.general(cfg, ctx.setting)
    right, n = measure.scored(ctx, Served(ctx.variables["base"]), bench)
    assert (bench.form, n) == ("choices", 4) and 0 <= right <= 4
    told = Served(ctx.variables["base"], encode=SystemPrompt("Be careful."))
    assert measure.scored(ctx, told, bench)[1] == 4


def test_scored_sets_are_asked_as_the_model_is_served(folder, tmp_path, tiny, monkeypatch):
    ctx = context(folder, tmp_path, tiny)
    asked = []

    def scores(*args, **options):
        asked.append(options["system"])
        return [{"metric": "acc.logp", "value": 0.75, "n": 4, "cause": ""}]

    monkeypatch.setattr(measure, "measure_choices", scores)
    bench = Benchmark("piqa", "capability", (), 4, "choices")
    for encode in (encode_prompt, SystemPrompt("Be careful.")):
        assert measure.scored(ctx, Served({}, encode=encode), bench) == [3, 4]
    assert asked == ["", "Be careful."]
    with pytest.raises(UsageError, match=r"method\.scored: got 'piqa'"):
        measure.scored(ctx, Served({}, encode=lambda *_: [1]), bench)


def test_a_setting_of_files_fits(folder, tiny):
    METHOD.check(made(folder))
    METHOD.fits(made(folder), OPTIM, tiny[0], ByteTokenizer(), placed(folder))


BAD = [
    ({"goals": ("letter",)}, "method.goals: got 'letter'; allowed: arc, boolq, gsm8k"),
    ({"tasks": ("arc=no/such.jsonl",)}, "method.tasks: got 'arc=no/such.jsonl'; allowed: a file"),
    ({"tasks": ("arc",)}, "method.tasks: got 'arc'; allowed: NAME=FILE"),
    ({"harmful": "no/such.jsonl"}, "method.harmful: got 'no/such.jsonl'"),
    ({"goals": ("arc:ratio=1",)}, "goal.ratio: got 1.0; allowed: above 0 and below 1"),
    ({"tasks": (), "goals": ("letter",), "safe": "x"}, "allowed: nothing, without method.tasks"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_settings_are_one_line(folder, changes, message):
    with pytest.raises(UsageError) as caught:
        METHOD.check(made(folder, **changes))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def refused(folder, tiny, cfg, place=None):
    with pytest.raises(UsageError) as caught:
        METHOD.check(cfg)
        METHOD.fits(cfg, OPTIM, tiny[0], ByteTokenizer(), place or placed(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bad_files_are_one_line(folder, tiny):
    line = refused(folder, tiny, made(folder, train=9))
    assert "12 questions that differ" in line and "17 or more of them" in line
    cfg = made(folder, tasks=named(folder, "asked"), goals=("asked:target=0.2",))
    assert "row 1 of" in refused(folder, tiny, cfg) and "an answer to learn from" in refused(
        folder, tiny, cfg
    )
    assert "method.scored: got 'gsm8k'" in refused(
        folder, tiny, made(folder, scored=named(folder, "gsm8k"))
    )
    assert "set piqa" in refused(
        folder, tiny, made(folder, scored=(f"piqa={folder / 'write.jsonl'}",))
    )
    targets = replace(
        placed(folder), prompts=placed(folder, harmful=str(folder / "advbench.jsonl")).prompts
    )
    assert "carry requests out" in refused(folder, tiny, made(folder), targets)


def test_names_of_the_study_s_own_are_refused(folder, tiny):
    cfg = made(folder, tasks=(f"base={folder / 'arc.jsonl'}",), goals=("base:target=0.2",))
    assert "method.tasks: got 'base'" in refused(folder, tiny, cfg)
    place = placed(folder)
    (bench,) = place.benchmarks
    place = replace(place, benchmarks=(bench._replace(name="test"),))
    assert refused(folder, tiny, made(folder), place).startswith("eval.sets: got 'test'")


def test_what_an_arm_learns_beside_its_goal_is_not_asked(folder, tiny):
    goal = {"goals": ("write:target=0.2",), "guard": 12}
    line = refused(folder, tiny, made(folder, safe=str(folder / "write.jsonl"), **goal))
    assert line.startswith("safe dialogues: got '4 of its 12 prompts are in write.dev too")


def test_a_thought_is_no_part_of_the_answer(folder):
    draw = config.draw(made(folder, goals=("boolq:target=0.2",)), "boolq", 0)
    (item, *_) = goals.questions(draw["dev"])
    answer = item.meta["answer"]
    assert goals.right(Exchange(item, f"<think>\n\n</think>\n\n{answer}"))
    assert not goals.right(Exchange(item, f"<think> it is {answer}"))  # and never ends


def test_what_is_learnt_is_not_measured(folder, tiny):
    place = placed(folder)
    cfg = made(folder)
    item = Item("0", config.draw(cfg, "arc", 0)["dev"][1].messages[:1], {})
    benches = (*place.benchmarks, Benchmark("mine", "safety", (item,), 4))
    line = refused(folder, tiny, cfg, replace(place, benchmarks=benches))
    assert line.startswith("arc.dev: got '1 of its 4 prompts are in mine too")
    item = Item("0", (Message("user", "write 3"),), {})
    cfg = replace(cfg, safe=str(folder / "write.jsonl"), guard=12)
    benches = (Benchmark("mine", "safety", (item,), 4),)
    line = refused(folder, tiny, cfg, replace(place, benchmarks=benches))
    assert line.startswith("method.safe: got '1 of its 12 prompts are in mine too")
