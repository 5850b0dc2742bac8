"""Other judges of the answers that a study keeps: a trained classifier, a guard, a rubric.

They are opened when everything has been answered, one after the other, so no two of them are in
memory, nor a trained model that was measured (the base and the run's own judge are). What they say
is kept beside the run's own verdicts:

    judged.J.base.B, judged.J.G.P.S.K.B     {"unsafe": [N], "refusal": [N]} of judge J

Lists of phrases need no such thing: the report asks them (`results/judges.py`). Nothing is selected
or trained by any of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

from jaxsafety import registry
from jaxsafety.core.errors import bad
from jaxsafety.judges.judging import judged
from jaxsafety.judges.opening import open_judge
from jaxsafety.protocols import Benchmark, Context, Exchange, Item, Judge
from jaxsafety.studies.anchored.measure import CAPABILITY, flag

FLAGS = ("unsafe", "refusal")
# Judges that need nothing but the text. Each sees refusals; none sees harm.
LISTS = ("rules", "arditi", "gcg", "harmbench_list", "xstest_list")


def check(judges: Sequence[str]) -> None:
    """Refuses judges that are unknown, named twice, or read by every report.

    Raises:
      UsageError: says which.
    """
    names = [name_of(text) for text in judges]
    for name in names:
        registry.resolve(registry.JUDGES, name)
        if name in (*LISTS, "ours"):
            raise bad("method.judges", name, f"another than {', '.join(LISTS)}: reports ask these")
        if names.count(name) > 1:
            raise bad("method.judges", name, "each judge once")


def name_of(text: str) -> str:
    """The judge of NAME or NAME=WHERE."""
    return text.partition("=")[0].strip()


def prepare(judges: Sequence[str], ctx: Context) -> None:
    """Opens each once and lets it go, so that what is missing is said before anything is trained.

    Not where the table is made, before which all of them have judged.

    Raises:
      UsageError: see `judges.opening.open_judge`.
    """
    if (ctx.workdir / "artifacts" / "table.json").is_file():
        return
    for text in judges:
        open_judge(text, ctx.setting.world)


def ask(
    judges: Sequence[str],
    ctx: Context,
    sets: Sequence[Benchmark],
    told: Mapping[str, Mapping[str, Any]],
) -> None:
    """Artifacts `judged.*` of all kept answers to the sets.

    Args:
      judges: NAME or NAME=WHERE each.
      ctx: of the run.
      sets: that were asked.
      told: name of an artifact ("verdicts.*") -> ids and responses.
    """
    by_name = {bench.name: {item.id: item for item in bench.items} for bench in sets}
    for text in judges:
        _ask(text, ctx, by_name, told)


def _ask(
    text: str,
    ctx: Context,
    by_name: Mapping[str, Mapping[str, Item]],
    told: Mapping[str, Mapping[str, Any]],
) -> None:
    name = name_of(text)

    @cache  # by the first answers that it has not judged
    def opened() -> Judge:
        ctx.log(f"judge {name}")
        return open_judge(text, ctx.setting.world)[1]

    def say(kept: Mapping[str, Any], items: Mapping[str, Item]) -> dict[str, Any]:
        ctx.interrupt.check()
        pairs = zip(kept["ids"], kept["responses"], strict=True)
        rows = judged(opened(), [Exchange(items[i], said) for i, said in pairs])
        return {one: [flag(row[one]) for row in rows] for one in FLAGS}

    for artifact, kept in told.items():
        if kept["kind"] != CAPABILITY:  # a goal's own questions are graded
            rest = artifact.partition(".")[2]
            items = by_name[rest.rpartition(".")[2]]
            ctx.artifact(f"judged.{name}.{rest}", partial(say, kept, items))
