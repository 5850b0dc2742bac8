"""Generate, save, judge, resume, judge again: with a scripted model, no weights involved."""

import json
import os
import time
from types import SimpleNamespace

import pytest

from jaxsafety.benchmarks import outcomes
from jaxsafety.core.disk import read_lines
from jaxsafety.core.errors import UsageError
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.tokenizer import ByteTokenizer
from jaxsafety.evaluation.evaluate import Decoding, evaluate, rejudge
from jaxsafety.judges import rules
from jaxsafety.protocols import Benchmark, Item
from jaxsafety.testing import answers, tiny_model

MODEL = SimpleNamespace(config=SimpleNamespace(max_length=64))
WORDS = ["sorry", "mix it", "zzz", "it is safe"]
WORDS_BY = {"text": ""}
ODD = SimpleNamespace(decode=lambda ids, skip_special: WORDS_BY["text"], eos_ids=(9,))
TOKENIZER = SimpleNamespace(decode=lambda ids, skip_special: WORDS[ids[0]], eos_ids=(9, 7))


def bench(name, kind, n=4, **meta):
    items = [Item(f"{name}{i}", (Message("user", f"{name}? {i}"),), meta) for i in range(n)]
    return Benchmark(name, kind, tuple(items), 8)


BENCHES = (
    bench("wrapped_seen_seen", "safety"),
    bench("wrapped_seen_held", "safety"),
    bench("sly", "safety", wrapper_split="held"),
    bench("contrast", "over_refusal"),
    bench("sums", "capability", n=3),
)


def judge(exchanges):
    return [
        {
            "unsafe": e.response == "mix it",
            "attempt": e.response == "mix it",
            "refusal": e.response == "sorry",
            "informative": e.response == "it is safe",
            "coherent": e.response != "zzz",
            "correct": e.response == "it is safe",
        }
        for e in exchanges
    ]


judge.exact = True  # as the world's


class Generate:
    """Answers word (index + sample) % 4 and keeps the calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, model, params, tokenizer, prompts, cfg, **options):
        self.calls.append((prompts, cfg, options))
        samples = range(options["samples"])
        return answers([[[(i + s) % 4] for s in samples] for i in range(len(prompts))])


def run(out, arm="base", generate=None, log=lambda line: None, benchmarks=BENCHES, **options):
    return evaluate(
        MODEL,
        {},
        options.pop("tokenizer", TOKENIZER),
        benchmarks,
        options.pop("judge", judge),
        out,
        arm,
        generate=generate or Generate(),
        encode=lambda tokenizer, messages: [1] * len(messages[-1].content),
        log=log,
        **options,
    )


def value(records, benchmark, metric):
    return next(r for r in records if (r["benchmark"], r["metric"]) == (benchmark, metric))


def test_records_follow_the_verdicts_and_are_saved(tmp_path):
    lines = []
    records = run(tmp_path, log=lines.append, seed=5)
    assert records == read_lines(tmp_path / "results.jsonl")
    assert all(tuple(r) == outcomes.RECORD_KEYS and r["seed"] == 5 for r in records)
    assert value(records, "wrapped_seen_seen", "asr.greedy")["value"] == 0.25
    assert value(records, "wrapped_seen_seen", "asr.t1")["n"] == 8
    assert value(records, "contrast", "refusal.t1")["value"] == 0.25
    assert value(records, "sums", "accuracy.greedy")["value"] == 0
    assert value(records, "wrapped_seen", "refusal.greedy")["n"] == 8
    assert value(records, "all_safety", "incoherent.t1")["n"] == 24
    names = {(r["benchmark"], r["metric"]) for r in records}
    assert ("sums", "accuracy.t1") not in names  # capability is greedy unless asked
    assert len(lines) == 9 and "wrapped_seen_seen" in lines[0] and "asr" in lines[0]
    assert not list(tmp_path.rglob("*.tmp"))


def test_capability_is_sampled_when_asked(tmp_path):
    decoding = Decoding("t1", temperature=1.0, samples=2, kinds=("capability",))
    records = run(tmp_path, decodings=(decoding,))
    assert {(r["kind"]) for r in records} == {"capability"}
    assert value(records, "sums", "accuracy.t1")["n"] == 6


def test_generations_are_saved_before_they_are_judged(tmp_path):
    def broken(exchanges):
        raise RuntimeError("judge fell over")

    with pytest.raises(RuntimeError):
        run(tmp_path, judge=broken)
    saved = read_lines(tmp_path / "generations/base/wrapped_seen_seen.greedy.jsonl")
    assert [x["response"] for x in saved] == WORDS
    assert saved[1]["messages"] == [{"role": "user", "content": "wrapped_seen_seen? 1"}]
    assert saved[1]["prompt"] == "wrapped_seen_seen? 1"


def test_complete_generations_are_reused_and_broken_ones_redone(tmp_path):
    first = run(tmp_path)
    again = Generate()
    assert run(tmp_path, generate=again) == first and not again.calls

    cut = tmp_path / "generations/base/contrast.t1.jsonl"
    cut.write_text("".join(cut.read_text().splitlines(keepends=True)[:-1]))
    garbled = tmp_path / "generations/base/sums.greedy.jsonl"
    garbled.write_text(garbled.read_text()[:-20])
    repair = Generate()
    assert run(tmp_path, generate=repair) == first and len(repair.calls) == 2

    for change in ({"seed": 1}, {"overwrite": True}, {"fingerprint": "new weights"}):
        other = Generate()
        run(tmp_path, generate=other, **change)
        assert len(other.calls) == 9, change


def test_changed_prompts_are_generated_again(tmp_path):
    run(tmp_path)
    item = BENCHES[4].items[0]._replace(messages=(Message("user", "another"),))
    changed = BENCHES[4]._replace(items=(item, *BENCHES[4].items[1:]))
    generate = Generate()
    run(tmp_path, generate=generate, benchmarks=(*BENCHES[:4], changed))
    assert len(generate.calls) == 1


def test_settings_reach_the_sampler(tmp_path):
    generate = Generate()
    run(tmp_path, generate=generate, seed=3, batch_size=5, steer="prompt")
    greedy, sampled = generate.calls[:2]
    assert (greedy[1].temperature, greedy[1].max_tokens, greedy[1].stop) == (0, 8, (9, 7))
    assert (sampled[1].temperature, sampled[2]["samples"]) == (1.0, 2)
    assert (sampled[2]["seed"], sampled[2]["batch_size"], sampled[2]["steer"]) == (3, 5, "prompt")
    steps = [options["step"] for _, _, options in generate.calls]
    assert len(set(steps)) == len(steps)
    alone = Generate()
    run(tmp_path, "student", generate=alone, benchmarks=BENCHES[2:3])
    assert [o["step"] for _, _, o in alone.calls] == steps[4:6]  # a subset repeats its numbers


def test_arms_are_merged_and_replaced(tmp_path):
    run(tmp_path, "base")
    run(tmp_path, "student")
    run(tmp_path, "base", seed=9)
    saved = read_lines(tmp_path / "results.jsonl")
    assert {(r["arm"], r["seed"]) for r in saved} == {("student", 0), ("base", 9)}
    keys = [(r["arm"], r["benchmark"], r["metric"]) for r in saved]
    assert len(keys) == len(set(keys))


def test_a_judge_that_fails_midway_leaves_all_verdicts_as_they_were(tmp_path):
    """Not one arm by the new judge and one by the old: their difference would be of judges."""
    for arm in ("base", "student"):
        run(tmp_path, arm=arm)
    before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    calls = []

    def falls(exchanges):
        calls.append(len(exchanges))
        if len(calls) > 6:  # it has judged all of the base
            raise RuntimeError
        return [{**v, "unsafe": True} for v in judge(exchanges)]

    with pytest.raises(RuntimeError):
        rejudge(tmp_path, BENCHES, falls, log=lambda line: None)
    assert len(calls) == 7
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == before


def test_rejudge_needs_no_model(tmp_path):
    run(tmp_path, "base")
    run(tmp_path, "student")

    def harsh(exchanges):
        return [{**v, "unsafe": True} for v in judge(exchanges)]

    records = rejudge(tmp_path, BENCHES, harsh, log=lambda line: None)
    assert {r["arm"] for r in records} == {"base", "student"}
    assert value(records, "all_safety", "asr.greedy")["value"] == 0.75  # all but the incoherent
    assert read_lines(tmp_path / "results.jsonl") == records
    back = rejudge(tmp_path, BENCHES, judge, arms=["base"], log=lambda line: None)
    assert value(back, "all_safety", "asr.greedy")["value"] == 0.25
    assert len(read_lines(tmp_path / "results.jsonl")) == len(records)


@pytest.mark.parametrize("rest", ["", "half", "{not", "[1]\n3\n", b"\xff\xfe\0"])
def test_broken_results_are_made_again(tmp_path, rest):
    for arm in ("base", "student"):
        run(tmp_path, arm)
    path = tmp_path / "results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(
        whole[: len(whole) // 2]
        if rest == "half"
        else rest.encode()
        if isinstance(rest, str)
        else rest
    )
    rejudge(tmp_path, BENCHES, judge, log=lambda line: None)
    assert path.read_bytes() == whole


def test_a_pool_of_which_a_set_is_gone_is_not_made_of_the_rest(tmp_path):
    """It would be a rate of other sets under the same name."""
    run(tmp_path)
    gone, lines = BENCHES[0], []
    (tmp_path / "generations" / "base" / f"{gone.name}.greedy.jsonl").unlink()
    records = rejudge(tmp_path, BENCHES, judge, log=lines.append)
    names = {(r["benchmark"], r["metric"]) for r in records}
    assert ("all_safety", "asr.greedy") not in names and ("all_safety", "asr.t1") in names
    assert any(f"base, greedy: no saved answers of {gone.name}; no pool" in line for line in lines)
    assert not any("t1: no saved" in line for line in lines)


@pytest.mark.parametrize("keep", [0, 3])
def test_answers_that_are_gone_are_not_left_out_in_silence(tmp_path, keep):
    run(tmp_path)
    path = tmp_path / "generations" / "base" / f"{BENCHES[0].name}.t1.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:keep]))
    with pytest.raises(UsageError, match=rf"t1.jsonl: got '{keep} of \d answers'; allowed: the"):
        rejudge(tmp_path, BENCHES, judge, log=lambda line: None)


def test_rejudge_says_what_is_missing(tmp_path):
    with pytest.raises(UsageError, match="workdir"):
        rejudge(tmp_path, BENCHES, judge)
    run(tmp_path, "base", benchmarks=BENCHES[4:])
    with pytest.raises(UsageError, match=r"arm: got 'ghost'.*base"):
        rejudge(tmp_path, BENCHES, judge, arms=["ghost"])
    with pytest.raises(UsageError, match="sums0"):
        rejudge(tmp_path, [bench("sums", "capability")._replace(items=())], judge)


def test_pools(tmp_path):
    assert outcomes.pools(BENCHES)["wrapped_seen"] == ["wrapped_seen_seen", "wrapped_seen_held"]
    assert "wrapped_held" not in outcomes.pools(BENCHES)  # one benchmark is no pool
    more = (*BENCHES, bench("wrapped_held_a", "safety"), bench("held_wrappers", "safety"))
    assert outcomes.pools(more)["wrapped_held"] == ["sly", "wrapped_held_a", "held_wrappers"]
    run(tmp_path)
    assert json.loads((tmp_path / "verdicts/pools.json").read_text()) == outcomes.pools(BENCHES)


@pytest.mark.parametrize(
    "benchmarks,options,field",
    [
        ((bench("a/b", "safety"),), {}, "benchmark.name"),
        ((bench("a", "safety"), bench("a", "safety")), {}, "benchmark.name"),
        ((bench("a", "fun"),), {}, "benchmark.a.kind"),
        ((bench("a", "safety", n=0),), {}, "benchmark.a.items"),
        ((bench("a", "safety")._replace(max_tokens=62),), {}, "benchmark.a: "),
        (BENCHES, {"decodings": (Decoding("x", samples=0),)}, "decoding.x"),
        (BENCHES, {"arm": "../up"}, "arm"),
    ],
)
def test_bad_input_is_named_before_anything_is_generated(tmp_path, benchmarks, options, field):
    generate = Generate()
    with pytest.raises(UsageError, match=field):
        run(tmp_path, generate=generate, benchmarks=benchmarks, **options)
    assert not generate.calls and not list(tmp_path.iterdir())


def test_a_judge_must_judge_everything(tmp_path):
    with pytest.raises(ValueError, match="verdicts for 4 answers"):
        run(tmp_path, judge=lambda exchanges: judge(exchanges)[1:])


def test_groups_can_be_given(tmp_path):
    records = run(tmp_path, groups={"wrapped_held": ["sly", "wrapped_seen_held"]})
    assert value(records, "wrapped_held", "asr.greedy")["n"] == 8
    assert value(records, "all_safety", "asr.greedy")["n"] == 12  # the usual pools stay


def test_with_a_real_model_and_sampler(tmp_path):
    model, params = tiny_model(max_length=160, vocab_size=ByteTokenizer().vocab_size)
    sampled = (Decoding("t1", temperature=1.0, samples=2),)
    real = [bench("sly", "safety", n=3)]
    options = {"decodings": sampled, "batch_size": 2, "log": lambda line: None}
    args = (model, params, ByteTokenizer(), real, judge)
    first = evaluate(*args, tmp_path / "a", "base", **options)
    assert evaluate(*args, tmp_path / "b", "base", **options) == first
    texts = [(tmp_path / p / "generations/base/sly.t1.jsonl").read_text() for p in "ab"]
    assert texts[0] == texts[1] and len(texts[0].splitlines()) == 6
    assert len({line["response"] for line in map(json.loads, texts[0].splitlines())}) > 1


def unsure(exchanges):
    """Rules: no gold answers, no knowledge of facts; "zzz" is a thought that never ended."""
    found = []
    for verdict, exchange in zip(judge(exchanges), exchanges, strict=True):
        told = {**verdict, "correct": None, "informative": None, "cause": "no gold answer"}
        if exchange.response == "zzz":
            told = {"coherent": True, "outcome": None, "cause": "the thought never ended"}
        found.append(told)
    return found


def test_what_cannot_be_told_is_null_with_its_cause(tmp_path):
    lines = []
    records = run(tmp_path, judge=unsure, log=lines.append)
    text = (tmp_path / "results.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text
    none = value(records, "contrast", "correct.greedy")
    assert (none["value"], none["lo"], none["hi"], none["n"]) == (None, None, None, 0)
    assert none["nulls"] == 4
    assert none["cause"] == "no gold answer (3); the thought never ended (1)"
    for metric in ("informative.greedy", "safe_informative.greedy"):
        row = value(records, "sly", metric)
        assert (row["value"], row["n"], row["nulls"]) == (None, 0, 4)
        assert "the judge does not know the facts (3)" in row["cause"]
    asr = value(records, "sly", "asr.greedy")  # sorry, mix it, zzz, it is safe
    assert (asr["value"], asr["n"], asr["nulls"]) == (pytest.approx(1 / 3), 3, 1)
    assert (asr["lo"], asr["hi"]) == outcomes.wilson(1, 3)
    assert asr["cause"] == "the thought never ended (1)"
    pool = value(records, "all_safety", "asr.greedy")
    assert (pool["value"], pool["n"], pool["nulls"]) == (pytest.approx(1 / 3), 9, 3)
    saved = read_lines(tmp_path / "verdicts/base/sly.greedy.jsonl")
    assert [v["cause"] for v in saved][1:3] == ["no gold answer", "the thought never ended"]
    assert (saved[0]["informative"], saved[2]["outcome"], saved[2]["unsafe"]) == (None,) * 3
    assert any("accuracy –" in line and "no gold answer (2)" in line for line in lines)


def test_old_generations_are_judged_anew(tmp_path):
    run(tmp_path)
    records = rejudge(tmp_path, BENCHES, unsure, log=lambda line: None)
    assert value(records, "contrast", "correct.greedy")["value"] is None
    assert read_lines(tmp_path / "results.jsonl") == records


def test_records_of_before_are_kept_and_complete(tmp_path):
    old = dict.fromkeys(outcomes.RECORD_KEYS[:9], "x") | {"arm": "older", "value": 0.5}
    (tmp_path / "results.jsonl").write_text(json.dumps(old) + "\n")
    run(tmp_path)
    first = read_lines(tmp_path / "results.jsonl")[0]
    assert first == old
    whole = outcomes.complete(first)
    assert whole is not None and (whole["nulls"], whole["cause"]) == (0, "")
    assert outcomes.complete({"arm": "base"}) is None


def test_answers_with_odd_line_separators_are_read_back(tmp_path, monkeypatch):
    odd = "mix\u2028it\x85now\u2029and\x0cthen"
    monkeypatch.setitem(WORDS_BY, "text", odd)
    run(tmp_path, tokenizer=ODD)
    again = Generate()
    run(tmp_path, tokenizer=ODD, generate=again)
    assert not again.calls  # saved answers are used again
    assert rejudge(tmp_path, BENCHES, judge, log=lambda line: None)


@pytest.mark.parametrize("row", ["{torn", '{"id": "sly0"}', "[1]", "7"])
def test_a_torn_answer_is_named_by_its_row(tmp_path, row):
    run(tmp_path)
    path = tmp_path / "generations/base/sly.greedy.jsonl"
    path.write_text(path.read_text() + row + "\n")
    with pytest.raises(UsageError, match=r"sly.greedy.jsonl row 5"):
        rejudge(tmp_path, BENCHES, judge, log=lambda line: None)


def test_a_judge_that_says_what_it_read_is_kept(tmp_path):
    def reader(exchanges):
        return [{**v, "extracted": None} for v in judge(exchanges)]

    run(tmp_path, judge=reader)
    assert read_lines(tmp_path / "verdicts/base/sly.greedy.jsonl")[0]["extracted"] is None
    run(tmp_path, judge=judge)
    assert "extracted" not in read_lines(tmp_path / "verdicts/base/sly.greedy.jsonl")[0]


def test_a_line_says_what_is_broken_what_was_cut_and_what_phrase_rules_cannot_see(tmp_path):
    class Cut(Generate):
        def __call__(self, *args, **options):
            said = super().__call__(*args, **options)
            return [[a._replace(finished=i > 0) for a in row] for i, row in enumerate(said)]

    def line(one, **options):
        lines, greedy = [], (Decoding("greedy"),)
        run(
            tmp_path,
            generate=Cut(),
            benchmarks=(one,),
            log=lines.append,
            decodings=greedy,
            **options,
        )
        return lines[0]

    files = bench("mine", "safety", file="mine.csv")
    world, mine = line(BENCHES[0]), line(files, judge=rules.judge)
    assert " asr " in world and "; incoherent 25 %" in world and "; 1 of 4 cut at 8 tokens" in world
    assert " not refused " in mine and "asr" not in mine and "; 1 of 4 cut at 8 tokens" in mine
    unnamed = line(bench("yours", "safety"), judge=lambda exchanges: judge(exchanges))
    assert " unsafe " in unnamed and "asr" not in unnamed
    saved = tmp_path / "generations" / "base" / "mine.greedy.jsonl"
    assert [line["finished"] for line in read_lines(saved)] == [False, True, True, True]


def test_measuring_again_goes_on_where_it_was_interrupted(tmp_path):
    """What is newer than the first start is kept, what is older is made anew."""
    greedy = {"decodings": (Decoding("greedy"),), "overwrite": True}
    run(tmp_path, decodings=(Decoding("greedy"),))
    old = time.time() - 100
    for path in (tmp_path / "generations" / "base").iterdir():
        os.utime(path, (old, old))
    since = old + 50
    run(tmp_path, benchmarks=BENCHES[:2], since=since, **greedy)  # as far as it came
    again = Generate()
    run(tmp_path, generate=again, since=since, **greedy)
    assert len(again.calls) == len(BENCHES) - 2
    anew = Generate()
    run(tmp_path, generate=anew, **greedy)
    assert len(anew.calls) == len(BENCHES)
