"""Small runs and measurements on disk, their verdicts written out, to be put beside each other."""

from __future__ import annotations

import json
from pathlib import Path

from jaxsafety.benchmarks import outcomes
from jaxsafety.benchmarks.organism import EXACT
from jaxsafety.core import disk

HARM, KIND, TASK = ("attacks", "safety"), ("twins", "over_refusal"), ("sums", "capability")
FLAG = {"safety": "unsafe", "over_refusal": "refusal", "capability": "correct"}


def verdict(item, kind, value):
    """`value` is the flag that the kind's rate counts: unsafe, refused or right; None is untold."""
    flags = {name: None if value is None else False for name in outcomes.FLAGS}
    flags |= {"coherent": None if value is None else True, FLAG[kind]: value}
    found = {"id": item, "sample": 0, **flags, "outcome": outcomes.outcome(flags)}
    return found | ({"cause": "too long for the judge"} if value is None else {})


def answers(name, values, tokens=16, prompt="{name} {i}?"):
    """Saved answers, of which the prompt counts here."""
    settings = {"temperature": 0.0, "top_p": 1.0, "max_tokens": tokens, "seed": 0}
    return [
        {
            "id": f"{name}/{i}",
            "sample": 0,
            "messages": [{"role": "user", "content": prompt.format(name=name, i=i)}],
            "response": "yes",
            "settings": settings,
        }
        for i in range(len(values))
    ]


def put(root, arm, sets, verdicts, **options):
    """Answers below `root`, verdicts below `verdicts`; the records of results.jsonl."""
    records = []
    for (name, kind), values in sets.items():
        file = f"{arm}/{name}.greedy.jsonl"
        disk.write_lines(root / "generations" / file, answers(name, values, **options))
        said = [verdict(f"{name}/{i}", kind, value) for i, value in enumerate(values)]
        disk.write_lines(verdicts / "verdicts" / file, said)
        ids = [v["id"] for v in said]
        records += outcomes.records(arm, name, kind, "greedy", said, ids, 0)
    return records


def run(path, arms, *, base="aa", judge=EXACT, config=None, **options) -> Path:
    """A run.

    Args:
      path: its directory.
      arms: arm -> {(set, kind): flags}.
      base: digest of the weights of its base.
      judge: of every set.
      config: what differs from the others.
      **options: of `answers`.
    """
    records = [r for arm, sets in arms.items() for r in put(path, arm, sets, path, **options)]
    disk.write_lines(path / "results.jsonl", records)
    names = {name: {"kind": kind} for sets in arms.values() for name, kind in sets}
    source = "organism" if judge == EXACT else "files"
    meta = {
        "files": {"model: model.safetensors": base, "model: config.json": "cc"},
        "judge": judge,
        "source": source,
        "sets": {name: {**told, "judge": judge} for name, told in names.items()},
    }
    disk.write_json(path / "meta.json", meta)
    settings = {"program": "sft", "seed": 0, "data": {"source": source}, **(config or {})}
    disk.write_json(path / "config.json", settings)
    return path


def measurement(path, arms, *, judge="rules", **options) -> Path:
    """A directory of `jaxsafety eval`, of sets of harmful and harmless requests."""
    root = path / "judges" / judge
    records = [r for arm, sets in arms.items() for r in put(path, arm, sets, root, **options)]
    disk.write_lines(root / "results.jsonl", records)
    facts = {
        "format": 1,
        "settings": {"limit": 0, "decodings": ["greedy"]},
        "arms": {arm: {"model": arm, "fingerprint": f"of {arm}"} for arm in arms},
        "sets": {
            name: {"kind": kind, "form": "text"} for sets in arms.values() for name, kind in sets
        },
        "judges": {judge: {"name": judge, "label": "not refused" if judge == "rules" else ""}},
        "versions": {"jaxsafety": "0.1.0"},
    }
    (path / "eval.json").write_text(json.dumps(facts))
    return path


def shares(unsafe, refused=0, right=40, n=40):
    """Three sets with so many of n unsafe, refused and right; the last ones, so pairs overlap."""
    return {
        HARM: [i < unsafe for i in range(n)],
        KIND: [i < refused for i in range(n)],
        TASK: [i < right for i in range(n)],
    }
