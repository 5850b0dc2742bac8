"""A published model beside its peers: 128 answers, a mixed evaluation, and multiple choice.

  python tests/bench/real.py --model=DIR --data=DIR [--jobs=NAME,...] [--runs=2]
                             [--items=1000] [--prompts=512] [--peer-python=PYTHON] [--anyway]

DIR of the model is one that both sides load (`jaxsafety export --model=FILE.gguf --out=DIR`), DIR
of the data has AdvBench, GSM8K, BoolQ and PIQA. `answers` (128 of one kind, all to one length) and
`evaluation` (512 short and long prompts, answers that end where they end, sorted by length for the
peer's sake, as lm-eval does) need the extra `parity`; `choices` needs lm-eval, which may lie in an
environment of its own. Both sides are given the same prompts, float32, two
threads; one process each, whose runs alternate, so the least of each side and the first one, which
compiles, are measured under one load. The rows go to docs/performance_real.jsonl, of which
speed.py makes its page.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

PROMPTS, TOKENS, BATCH = 128, 64, 16
LONGEST, MIXED = 256, ("advbench", "gsm8k", "boolq")  # of `evaluation`
# Rows of `evaluation`: ours are what `jaxsafety eval` takes where nothing is said; the peer's calls
# wait for their longest answer and are slower with 64 (docs/performance_notes.md).
AT_ONCE = {"ours": 64, "peer": BATCH}
WHAT = {
    "answers": f"{PROMPTS} AdvBench prompts, {TOKENS} tokens each, batches of {BATCH}",
    "evaluation": f"prompts of {', '.join(MIXED)}, answers up to {LONGEST} tokens;"
    f" at once: {AT_ONCE['ours']}, {AT_ONCE['peer']}",
    "choices": "multiple-choice items of PIQA by log-probability",
}
PEER = {
    "answers": "transformers generate",
    "evaluation": "transformers generate",
    "choices": "lm-eval hf",
}
GOAL = {"answers": 2.0, "evaluation": 3.0, "choices": 1.5}


def serve(run: Any) -> None:
    """For every line "go" one run: its seconds and what it found."""
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        found = run()
        print(json.dumps([time.perf_counter() - start, found]), flush=True)


def our_answers(
    model: str, asked: list[Any], tokens: int = TOKENS, batch_size: int = BATCH
) -> None:
    """Prompts to texts, as `jaxsafety eval` does it."""
    import jaxsafety
    from jaxsafety.sampling.many import generate

    loaded, params, tokenizer = jaxsafety.load(model)
    config = jaxsafety.SampleConfig(tokens, 0.0, stop=tuple(tokenizer.eos_ids))

    def run() -> list[str]:
        prompts = [
            jaxsafety.encode_prompt(tokenizer, [jaxsafety.Message("user", text)]) for text in asked
        ]
        said = generate(loaded, params, tokenizer, prompts, config, seed=0, batch_size=batch_size)
        return [tokenizer.decode(answer[0].ids, skip_special=True) for answer in said]

    serve(run)


def their_answers(
    model: str, asked: list[Any], tokens: int = TOKENS, batch_size: int = BATCH
) -> None:
    """The same by transformers: the template, left padding, greedy."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    net = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    options = dict(add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True)

    def run() -> list[str]:
        texts: list[str] = []
        for start in range(0, len(asked), batch_size):
            chats = [[{"role": "user", "content": t}] for t in asked[start : start + batch_size]]
            batch = tokenizer.apply_chat_template(chats, **options)
            with torch.no_grad():
                said = net.generate(**batch, do_sample=False, max_new_tokens=tokens)
            new = said[:, batch["input_ids"].shape[1] :]
            texts += tokenizer.batch_decode(new, skip_special_tokens=True)
        return texts

    serve(run)


def our_choices(model: str, asked: list[Any]) -> None:
    """Items to log-probabilities, as `jaxsafety eval` scores them, from a file to lines on disk."""
    import jaxsafety
    from jaxsafety import registry
    from jaxsafety.evaluation import choices

    loaded, params, tokenizer = jaxsafety.load(model)
    path, items = asked
    bench = registry.resolve(registry.SETS, "piqa").open(Path(path), limit=items).benchmark

    def run() -> list[list[float]]:
        with tempfile.TemporaryDirectory() as out:
            choices.measure_choices(
                loaded,
                params,
                tokenizer,
                [bench],
                Path(out),
                "base",
                chat=False,
                log=lambda _: None,
            )
            lines = Path(out, "generations/base/piqa.logp.jsonl").read_text().splitlines()
        return [json.loads(line)["logps"] for line in lines]

    serve(run)


def their_choices(model: str, asked: list[Any]) -> None:
    """The same pairs by lm-eval's own model class."""
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(2)
    net = HFLM(pretrained=model, device="cpu", dtype="float32", batch_size=BATCH)
    requests = [
        Instance("loglikelihood", {}, (context, continuation), 0)
        for pairs in asked
        for context, continuation in pairs
    ]

    def run() -> list[list[float]]:
        found = iter(net.loglikelihood(requests, disable_tqdm=True))
        return [[next(found)[0] for _ in pairs] for pairs in asked]

    serve(run)


def our_evaluation(model: str, asked: list[Any]) -> None:
    """Prompts of any length, answers of any length up to `LONGEST`."""
    our_answers(model, asked, LONGEST, AT_ONCE["ours"])


def their_evaluation(model: str, asked: list[Any]) -> None:
    """The same in batches of prompts of like length."""
    their_answers(model, asked, LONGEST, AT_ONCE["peer"])


SIDES = {
    "answers": (our_answers, their_answers),
    "evaluation": (our_evaluation, their_evaluation),
    "choices": (our_choices, their_choices),
}


def given(job: str, data: Path, items: int, prompts: int) -> tuple[Any, Any]:
    """What our side and theirs are asked."""
    from jaxsafety.benchmarks import suites
    from jaxsafety.evaluation import pairs

    def opened(name: str, limit: int) -> tuple[Any, list[Any]]:
        found = suites.find_sets(name, data).found[0]
        return found.path, list(found.set.open(found.path, limit=limit).benchmark.items)

    if job in ("answers", "evaluation"):
        names, limit = (("advbench",), PROMPTS) if job == "answers" else (MIXED, prompts)
        each = [opened(name, -(-limit // len(names)))[1] for name in names]
        mixed = [item for turn in zip(*each, strict=True) for item in turn][:limit]
        asked = [item.messages[-1].content for item in mixed]
        asked = asked if job == "answers" else sorted(asked, key=len, reverse=True)
        return asked, asked
    path, asked = opened("piqa", items)
    questions = [pairs.question(item, "piqa") for item in asked]
    theirs = [
        [(q.description + c, f" {x}") for c, x in zip(q.contexts, q.continuations, strict=True)]
        for q in questions
    ]
    return [str(path), items], theirs


def agree(job: str, ours: list[Any], theirs: list[Any]) -> str:
    """How far the two results are apart."""
    pairs = list(zip(ours, theirs, strict=True))
    if job in ("answers", "evaluation"):
        return f"{sum(a.strip() == b.strip() for a, b in pairs)} of {len(pairs)} answers equal"
    same = sum(a.index(max(a)) == b.index(max(b)) for a, b in pairs)
    gap = max(abs(x - y) for a, b in pairs for x, y in zip(a, b, strict=True))
    return f"{same} of {len(pairs)} choices equal, log-probabilities within {gap:.0e}"


def compare(job: str, args: argparse.Namespace, pythons: list[str]) -> dict[str, Any]:
    """One pair, alternating."""
    from tests.bench import speed

    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        sides = []
        for side, asked in enumerate(given(job, args.data, args.items, args.prompts)):
            file = Path(temporary) / f"{side}.json"
            file.write_text(json.dumps(asked))
            options = [job, str(side), args.model, str(file)]
            sides.append(
                speed.start("real.py", "--side", Path(), options, pythons[side], ours=not side)
            )
        for side in sides:
            speed.told(side)
        seconds: list[list[float]] = [[], []]
        found: list[Any] = [None, None]
        for _ in range(args.runs + 1):  # the first one compiles
            for number, side in enumerate(sides):
                assert side.stdin is not None
                side.stdin.write("go\n")
                side.stdin.flush()
                took, found[number] = speed.told(side)
                seconds[number].append(took)
                print(f"{job}: {('ours', PEER[job])[number]} {took:.1f} s", flush=True)
        for side in sides:
            side.communicate()
    count = "" if job == "answers" else f"{len(found[0])} "
    return {
        "name": job,
        "what": count + WHAT[job],
        "peer": PEER[job],
        "seconds": seconds,
        "goal": GOAL[job],
        "agreement": agree(job, *found),
        "load": load,
        "cpu": speed.machine()["cpu"],
    }


def main() -> int:
    """Runs the pairs and keeps their rows."""
    if sys.argv[1:2] == ["--side"]:
        job, side, model, file = sys.argv[-4:]
        SIDES[job][int(side)](model, json.loads(Path(file).read_text()))
        return 0
    from jaxsafety.core.errors import UsageError
    from tests.bench import sections, speed

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--jobs", default=",".join(SIDES))
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--prompts", type=int, default=512, help="of `evaluation`")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--anyway", action="store_true", help="even on a busy machine")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    if load > speed.BUSY and not args.anyway:
        print(
            f"real: load {load:.2f}; allowed: at most {speed.BUSY} (or --anyway)", file=sys.stderr
        )
        return 2
    names = args.jobs.split(",")
    if set(names) - set(SIDES):
        parser.error(f"--jobs: got {args.jobs}; allowed: {', '.join(SIDES)}")
    try:
        for name in names:
            given(name, args.data, args.items, args.prompts)
    except UsageError as error:
        parser.error(f"--data: {error}")
    lines = sections.REAL.read_text().splitlines() if sections.REAL.is_file() else []
    kept = {row["name"]: row for row in map(json.loads, lines)}
    for job in names:
        kept[job] = compare(job, args, [sys.executable, args.peer_python])
        ours, theirs = (min(times) for times in kept[job]["seconds"])
        print(f"{job}: {theirs / ours:.2f}x, {kept[job]['agreement']}", flush=True)
    sections.REAL.write_text(
        "".join(json.dumps(kept[name]) + "\n" for name in SIDES if name in kept)
    )
    speed.write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
