"""The process that fault tests kill: `python eval_run.py FOLDER ARGUMENTS OF jaxsafety...`.

It is the command line with a judge and a set of its own. It says when a batch of answers, a batch
of scored items and a piece of verdicts is on disk, and waits a little, so that a kill finds it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from jaxsafety import cli, registry  # noqa: E402
from jaxsafety.benchmarks.public import PublicSet  # noqa: E402
from jaxsafety.core import disk  # noqa: E402
from jaxsafety.evaluation.parts import Parts  # noqa: E402
from jaxsafety.experiment.measuring import verdicts  # noqa: E402

PAUSE = 0.5
SET = PublicSet(
    name="pick",
    kind="capability",
    licence="ours",
    source="a test",
    files=("pick.csv",),
    versions={},
    layout=("prompt and answer",),
    max_tokens=1,
    form="choices",
    columns=("question", "answer"),
    more=lambda row, asked: {
        "context": row["question"],
        "continuations": [row["answer"], "no ."],
        "target": 0,
    },
)


def make(world: Any) -> Any:
    """A judge that sees harm in answers of even length."""

    def judge(exchanges: Any) -> list[dict[str, Any]]:
        return [
            {"unsafe": len(e.response) % 2 == 0, "refusal": False, "coherent": True}
            for e in exchanges
        ]

    return judge


def main(*arguments: str) -> int:
    """Runs `jaxsafety ARGUMENTS`."""
    keep, write = Parts.keep, disk.write

    def kept(self: Parts, number: int, rows: Any) -> None:
        keep(self, number, rows)
        what = "items" if ".logp." in self.directory.name else "answers"
        print(f"{what} {number}", flush=True)
        time.sleep(PAUSE)

    def written(path: Path, text: str) -> None:
        write(path, text)
        if path.parent.name.endswith(".parts") and "judges" in path.parts:
            print(f"verdicts {path.stem}", flush=True)
            time.sleep(PAUSE)

    Parts.keep, disk.write = kept, written
    verdicts.CHUNK = 2
    registry.SETS["pick"] = "eval_run:SET"
    registry.JUDGES["odd"] = "eval_run:make"
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
