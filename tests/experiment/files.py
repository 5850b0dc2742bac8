"""Small files of prompts and dialogues."""

from __future__ import annotations

import json

from jaxsafety.experiment.setting import EvalConfig

SMALL = EvalConfig(safety=4, over_refusal=6, capability=3)


def sets(tmp_path, *names):
    where = {"capability": "maths.csv"}
    return tuple(f"{n}={tmp_path / where.get(n.split('/')[0], 'measured.txt')}" for n in names)


def lines_of(tmp_path, name, *texts):
    path = tmp_path / name
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    return str(path)


def chats_of(tmp_path, name, *pairs):
    path = tmp_path / name
    path.write_text("".join(json.dumps({"prompt": q, "response": a}) + "\n" for q, a in pairs))
    return str(path)
