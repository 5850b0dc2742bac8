"""Files as a source, for a model that lives in no invented world: goals, dialogues, scored sets.

A task is a file of questions with right answers, or of dialogues. Its layout (docs/files.md) says
how an answer is learnt and graded, and asks for its form in the words that every capability set is
asked in: the base is asked what the trained model is asked.

| rows                          | learnt               | right                                 |
|-------------------------------|----------------------|---------------------------------------|
| lettered choices, yes or no   | the letter, the word | as `judges.answers` grades it         |
| GSM8K                         | the worked answer    | its number                            |
| dialogues                     | the answer           | it has become likely enough, see below |

Of worked answers GSM8K's marks for a calculator, <<2+3=5>>, are taken out: nobody computes them.

Free answers have no right one word for word. One of a held-out dialogue counts as right where its
perplexity is at most `ratio` times that under the base (0.9 where a goal declares none): it says
that the model has learnt to write as the file does, not that what it writes is good, and it keeps
the goal a share of questions, with the same bound as every other. By definition the base has none
right. It is our own choice.

Safe dialogues are the answers of `data.harmful`, unless `method.safe` names a file; harmless ones
those of `data.harmless`, or of `method.harmless`. Harmful ones are the user's or nobody's.
Pinned by tests/studies/test_anchored_files.py.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxsafety import registry
from jaxsafety.core.errors import bad
from jaxsafety.data import overlap
from jaxsafety.data.files import located, sources
from jaxsafety.data.files.columns import Asked
from jaxsafety.data.schema import Example, Message
from jaxsafety.data.starter import file
from jaxsafety.judges import answers
from jaxsafety.methods.safesteer import recipe
from jaxsafety.methods.safesteer.teacher import DirectionConfig
from jaxsafety.protocols import Benchmark, Item, Setting
from jaxsafety.studies.anchored.goals import BASE, REFERENCE, TASKS

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MARK = re.compile(r"<<[^<>]*>>")
# Tokens of an answer by how it is graded: a letter or yes with a word or two around it, a
# calculation. Of dialogues as many are only kept to be read.
TOKENS = {"letter": 8, "exact": 8, "number": 24, "aliases": 24, "gsm8k": 192, "": 48}
# Their answers begin to carry the request out, or may: nothing to learn as safe.
TARGETS = ("AdvBench", "JailbreakBench", "XSTest completions")
GUARDS = ("safe", "harmful", "harmless")


@dataclass(frozen=True)
class Files:
    """See `source.Source`; `named` task -> file, `given` guard -> file, `choices` set -> file."""

    named: Mapping[str, Path]
    given: Mapping[str, str]
    choices: Mapping[str, Path]

    @classmethod
    def of(cls, cfg: Any) -> Files:
        """Of an `AnchoredConfig`; nothing is read yet.

        Raises:
          UsageError: another form than NAME=FILE, a name twice or of the organism's tasks, a file
            that is not there, a scored set that is unknown or is not scored.
        """
        given = {name: getattr(cfg, name) for name in GUARDS}
        for name, path in given.items():
            if path and not located.is_there(path):
                raise bad(f"method.{name}", path, "a file of dialogues that is there, or nothing")
        return cls(parse(cfg.tasks), given, parse_scored(cfg.scored))

    @property
    def tasks(self) -> Collection[str]:
        """Names of `method.tasks`."""
        return self.named

    @property
    def more(self) -> tuple[str, ...]:
        """Harmful dialogues, where the user has a file of them."""
        return ("harmful",) if self.given["harmful"] else ()

    @property
    def direction(self) -> DirectionConfig:
        """SafeSteer's for a small chat model, of the prompts of `data.harmful` and `.harmless`."""
        return recipe.small_direction()

    def fits(self, setting: Setting) -> None:
        """Refuses the organism's setting: its judge knows its world alone."""
        if setting.world is not None:
            raise bad("method.tasks", tuple(self.named), "() on the organism, or data.source=files")

    def draw(self, task: str, sizes: Mapping[str, int], seed: int) -> dict[str, list[Example]]:
        """Splits of a file; no question is in two of them, nor twice.

        Raises:
          UsageError: fewer questions than are asked for, a file that cannot be read or learnt from.
        """
        path = self.named[task]
        rows = list(_rows(task, path))
        needed = sum(sizes.values())
        if len(rows) < needed:
            fields = " + ".join(f"method.{name} {size}" for name, size in sizes.items())
            given = f"{task}, {len(rows)} questions that differ in {path}"
            raise bad("method.tasks", given, f"{needed} or more of them, {fields}")
        random.Random(f"anchored/{task}/{seed}").shuffle(rows)
        found: dict[str, list[Example]] = {}
        for split, size in sizes.items():
            found[split] = [row._replace(id=f"{task}/{split}/{row.id}") for row in rows[:size]]
            rows = rows[size:]
        return found

    def guards(
        self, setting: Setting, names: Collection[str], n: int, seed: int
    ) -> dict[str, list[Example]]:
        """Of the files, at most `n` each, drawn by the seed; of `data.harmful`, its first ones.

        Raises:
          UsageError: a row without an answer, or with one that is measured, answers of `TARGETS`
            as safe ones.
        """
        found = {}
        for name in (one for one in GUARDS if one in names):
            if path := self.given[name]:
                field = f"method.{name}"
                rows = list(_chats(field, path))
                random.Random(f"anchored/{name}/{seed}").shuffle(rows)
            else:
                split = "harmful" if name == "safe" else name
                items = setting.prompts[f"{split}_train"]
                field, path = f"data.{split}", str(items[0].meta["file"])
                chats = dict(_chats(field, path))
                rows = [(item.meta["row"], chats[item.meta["row"]]) for item in items]
            found[name] = [_dialogue(field, path, row, asked) for row, asked in rows[:n]]
            if name == "safe":
                _safe(field, path, [asked for _, asked in rows[:n]])
            if self.given[name]:  # of those of `data` the setting has asked
                _unmeasured(field, path, found[name], setting.benchmarks)
        return found

    def scored(self, n: int, seed: int) -> Sequence[Benchmark]:
        """The sets of `method.scored`.

        Raises:
          UsageError: a file that is not one of its set.
        """
        return [_opened(name, path, n, seed) for name, path in self.choices.items()]


def set_starter(config: Any) -> None:
    """Makes an experiment learn from one half of the starter set and be measured on the other.

    Args:
      config: a ConfigDict of the program "anchored".
    """
    config.data.update(source="files", train=32, val=8)
    config.data.update(harmful=file("harmful_train"), harmless=file("twins_train"))
    config.eval.sets = (
        f"safety/held_back={file('harmful_test')}",
        f"over_refusal/twins={file('twins_test')}",
        f"capability/starter={file('capability')}",
    )


def parse(texts: Sequence[str]) -> dict[str, Path]:
    """Task -> its file, of "NAME=FILE".

    Raises:
      UsageError: another form, a name of the organism's tasks or one twice, no such file.
    """
    found = _files("method.tasks", texts)
    for name in found:
        if name in TASKS:
            raise bad("method.tasks", name, "another name than those of the organism's tasks")
        if name == BASE:
            raise bad("method.tasks", name, "another name: the base's own verdicts are called so")
    return found


def parse_scored(texts: Sequence[str]) -> dict[str, Path]:
    """Set -> its file, of "NAME=FILE" with names of `registry.SETS` whose choices are scored.

    Raises:
      UsageError: another form, an unknown set or one that is answered, no such file.
    """
    found = _files("method.scored", texts)
    for name in found:
        if name not in registry.SETS or registry.resolve(registry.SETS, name).form != "choices":
            sets = {known: registry.resolve(registry.SETS, known) for known in registry.SETS}
            scored = [known for known, one in sets.items() if one.form == "choices"]
            raise bad("method.scored", name, ", ".join(scored))
    return found


def _files(field: str, texts: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (equals and path and _NAME.fullmatch(name)) or name in found:
            raise bad(field, text, "NAME=FILE, each name once, of letters, digits and _")
        if not located.is_there(path):
            raise bad(field, text, "a file that is there")
        found[name] = Path(path)
    return found


@functools.lru_cache(maxsize=8)
def _rows(task: str, path: Path) -> tuple[Example, ...]:
    """What the file has to learn, no question twice (as `overlap.normal` compares them)."""
    field = f"method.tasks, {task}"
    loaded = sources.load_prompts(path, field)
    form = answers.infer(asked.gold for _, asked in loaded.rows if asked.gold and not asked.grade)
    found, seen = [], set()
    for number, asked in loaded.rows:
        if not asked.dialogue:
            raise bad(field, f"row {number} of {path}", asked.no_dialogue)
        question = overlap.normal(asked.messages[-1].content)
        if question in seen:
            continue
        seen.add(question)
        grade = (asked.grade or form) if asked.gold else ""
        answer = asked.dialogue[-1].content
        answer = _MARK.sub("", answer) if grade == "gsm8k" else answer
        meta: dict[str, Any] = {"kind": "goal", "family": task, "file": str(path), "row": number}
        meta |= {"grade": grade, "tokens": TOKENS[grade]}
        if grade:
            meta |= {"answer": asked.gold, "choices": list(asked.choices)}
            meta |= {"answers": list(asked.answers)} if asked.answers else {}
        else:
            meta |= {REFERENCE: answer}
        turns = (*asked.dialogue[:-1], Message("assistant", answer))
        found.append(Example(str(number), turns, meta))
    kinds = {bool(row.meta["grade"]) for row in found}
    if len(kinds) > 1:
        lacking = next(row.meta["row"] for row in found if not row.meta["grade"])
        allowed = "a right answer, as other rows have, or none in any row"
        raise bad(field, f"row {lacking} of {path}", allowed)
    return tuple(found)


@functools.lru_cache(maxsize=8)
def _chats(field: str, path: str) -> tuple[tuple[int, Asked], ...]:
    """What every row of a file says, by its number."""
    return sources.load_prompts(path, field).rows


@functools.lru_cache(maxsize=8)
def _opened(name: str, path: Path, n: int, seed: int) -> Benchmark:
    return registry.resolve(registry.SETS, name).open(path, limit=n, seed=seed).benchmark


def _dialogue(field: str, path: str, row: int, asked: Asked) -> Example:
    if not asked.dialogue:
        raise bad(field, f"row {row} of {path}", asked.no_dialogue)
    return Example(str(row), tuple(asked.dialogue), {"file": path, "row": row})


def _safe(field: str, path: str, rows: Sequence[Asked]) -> None:
    """Refuses answers that begin to carry the request out."""
    if any(asked.layout in TARGETS for asked in rows):
        allowed = "answers that are safe to learn; this layout's carry requests out, or may"
        raise bad(field, path, allowed)


def _unmeasured(
    field: str, path: str, rows: Sequence[Example], benchmarks: Sequence[Benchmark]
) -> None:
    """Refuses dialogues to learn from that are measured too."""
    learnt = [overlap.Told(_asks(row), f"row {row.meta['row']} of {path}") for row in rows]
    for bench in benchmarks:
        told = [overlap.Told(_asks(x), f"row {i}") for i, x in enumerate(bench.items, start=1)]
        for clash in overlap.clashes([(field, learnt)], [(bench.name, told)]):
            raise bad(field, clash.line(), "dialogues of prompts that are not measured")


def _asks(one: Example | Item) -> str:
    """What the user says last."""
    return [m.content for m in one.messages if m.role == "user"][-1]
