"""The artifacts of a finished study as one value: rows, curves, answers, and what was asked.

Verdicts keep ids, responses and flags; the prompts stand in the run's generations of the base,
whose items are the same. What is missing is absent, and whoever needs it says so.
Pinned by tests/studies/test_anchored_results.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from jaxsafety.benchmarks.organism import EXACT
from jaxsafety.core import disk
from jaxsafety.data.schema import Message
from jaxsafety.protocols import Finished, Item
from jaxsafety.studies.anchored.goals import BASE
from jaxsafety.studies.anchored.table import FLOOR, GOAL, LAST, Row

ANCHORS = (GOAL, FLOOR, LAST)
SAFETY, HARMLESS = "safety", "over_refusal"  # kinds of sets


class Model(NamedTuple):
    """A checkpoint that was measured; the base has no goal, its test sets have (`TEST`.goal)."""

    goal: str
    point: str
    seed: int
    step: int


NOBODY = Model("", BASE, 0, 0)


@dataclass(frozen=True)
class Told:
    """The N answers of one model to one set: ids, texts, and the flags of the run's judge.

    `others` are those of the judges of `method.judges`, by name.
    """

    kind: str
    ids: tuple[str, ...]
    responses: tuple[str, ...]
    flags: Mapping[str, tuple[bool | None, ...]]
    others: Mapping[str, Mapping[str, tuple[bool | None, ...]]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Results:
    """A finished study.

    Attributes:
      goals: goal -> what was declared of it, its target, the base's and the best plain dev score.
      rows: of artifact `table`, all of them.
      curves: (goal, grid point, seed) -> {"arm", "points": [{step, correct, n, ...}]}.
      base_dev: goal -> (correct, n) of the base on dev.
      answers: model -> set -> answers; the test split of a goal is `TEST` (of the base: by goal).
      items: set -> id -> the prompt with its meta.
      judge: what the run's judge is called.
      exact: whether it is the organism's, which knows coherence.
      floor: the share of general capability that the anchor "floor" may lose, None if not known.
    """

    goals: Mapping[str, Mapping[str, Any]]
    rows: tuple[Row, ...]
    curves: Mapping[tuple[str, str, int], Mapping[str, Any]]
    base_dev: Mapping[str, tuple[int, int]]
    answers: Mapping[Model, Mapping[str, Told]]
    items: Mapping[str, Mapping[str, Item]]
    judge: str
    exact: bool
    floor: float | None

    @property
    def arms(self) -> tuple[str, ...]:
        """All arms, in the order of the table."""
        return tuple(dict.fromkeys(row["arm"] for row in self.rows))

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the safety sets, in the order of the base's answers."""
        return tuple(name for name, told in self.answers[NOBODY].items() if told.kind == SAFETY)

    @property
    def harmless(self) -> tuple[str, ...]:
        """Names of the sets of harmless prompts."""
        return tuple(name for name, told in self.answers[NOBODY].items() if told.kind == HARMLESS)

    def at(self, goal: str, anchor: str) -> list[tuple[Row, Model]]:
        """The rows of a goal and an anchor that have a checkpoint, with it."""
        return [
            (row, Model(goal, row["point"], row["seed"], row["step"]))
            for row in self.rows
            if row["goal"] == goal and row["anchor"] == anchor and row["step"] is not None
        ]

    @property
    def anchors(self) -> tuple[str, ...]:
        """The anchors that rows have, the goal first."""
        return tuple(a for a in ANCHORS if any(row["anchor"] == a for row in self.rows))


@lru_cache(maxsize=1)  # every section of one report asks for the same
def read(run: Finished) -> Results | None:
    """The study that lies in a workdir; None where its table or the base's answers are not there.

    Raises:
      KeyError: an artifact of another form.
    """
    table = run.artifact("table")
    if not table or not {"goals", "rows"} <= table.keys():
        return None
    answers: dict[Model, dict[str, Told]] = {}
    judged: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, flags in run.artifacts("judged.").items():
        judge, _, rest = name.partition(".")
        judged[rest][judge] = {flag: tuple(values) for flag, values in flags.items()}
    for name, verdicts in run.artifacts("verdicts.").items():
        model, benchmark = _model(name)
        flags = {flag: tuple(values) for flag, values in verdicts["flags"].items()}
        said = ((*verdicts["ids"],), (*verdicts["responses"],))
        told = Told(verdicts["kind"], *said, flags, judged.get(name, {}))
        answers.setdefault(model, {})[benchmark] = told
    if NOBODY not in answers:
        return None
    curves = run.artifacts("curve.")
    starts = run.artifacts("start.")
    config, meta = (_object(run, name) for name in ("config", "meta"))
    method = config.get("method")
    floor = method.get("floor") if isinstance(method, Mapping) else None
    measure = config.get("eval")
    asked = measure.get("judge") if isinstance(measure, Mapping) else None
    exact = meta.get("judge") == EXACT
    return Results(
        goals=table["goals"],
        rows=tuple(table["rows"]),
        curves={(c["goal"], n.split(".")[1], c["seed"]): c for n, c in curves.items()},
        base_dev={goal: (s["correct"], s["n"]) for goal, s in starts.items()},
        answers=answers,
        items={name: _items(run, name) for name in answers[NOBODY]},
        judge="exact rules" if exact else str(asked or "rules"),
        exact=exact,
        floor=float(floor) if isinstance(floor, int | float) else None,
    )


def _object(run: Finished, name: str) -> Mapping[str, Any]:
    found = disk.read_json(run.workdir / f"{name}.json")
    return found if isinstance(found, Mapping) else {}


def _model(name: str) -> tuple[Model, str]:
    """Whose answers an artifact has, and to which set, by what follows "verdicts."."""
    if name.startswith(f"{BASE}."):
        return NOBODY, name.removeprefix(f"{BASE}.")
    goal, point, seed, step, benchmark = name.split(".")
    return Model(goal, point, int(seed), int(step)), benchmark


def _items(run: Finished, name: str) -> dict[str, Item]:
    """The prompts of a set, by id."""
    found = {}
    for line in disk.whole_lines(run.workdir / "generations" / BASE / f"{name}.greedy.jsonl"):
        turns = line.get("messages") or [{"role": "user", "content": line.get("prompt", "")}]
        messages = tuple(Message(str(m["role"]), str(m["content"])) for m in turns)
        meta = line.get("meta")
        found[str(line["id"])] = Item(str(line["id"]), messages, meta if meta else {})
    return found
