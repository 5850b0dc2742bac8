"""What an experiment stands on: prompts, judge and benchmarks, from the organism or from files.

`source="organism"` reads the world that lies beside the model; `source="files"` reads prompt lists
of your own (jsonl, json, csv or txt) and judges with phrase rules. Everything is checked here,
before a model is loaded: what is missing or read by nobody (`sections.py`), and that no prompt is
both trained on and measured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxsafety import registry
from jaxsafety.benchmarks.files import items as prompt_items
from jaxsafety.benchmarks.outcomes import POOLS
from jaxsafety.core.errors import UsageError, bad
from jaxsafety.data.schema import Example, Message
from jaxsafety.evaluation import evaluate
from jaxsafety.experiment import domains, preferences, reading, sections, thinking
from jaxsafety.experiment.chats import chats, draw, held_out
from jaxsafety.experiment.clashes import clashes
from jaxsafety.experiment.sections import EVERY, DataConfig, EvalConfig
from jaxsafety.judges import rules
from jaxsafety.judges.opening import open_judge
from jaxsafety.organism.dialogues import dialogues
from jaxsafety.organism.world import World, open_world
from jaxsafety.protocols import PROMPTS, Benchmark, Item, Setting

BY_PHRASES, BY_TASK = "phrase rules", "the rule of its task"


def facts(setting: Setting, data: DataConfig) -> dict[str, Any]:
    """What `meta.json` says of a setting."""
    return {
        "source": data.source,
        "read": reading.facts(setting, data),
        "judge": setting.judged_by,
        **thinking.facts(setting),
        "sets": {name: dict(told) for name, told in setting.sets.items()},
        "overlap": [
            {"trained": c.one, "measured": c.other, "count": c.count, "of": c.total}
            for c in setting.clashes
        ],
    }


def lines(setting: Setting, data: DataConfig) -> list[str]:
    """What the log says of it: every file set with its layout, and what was allowed."""
    found = []
    for name in ("harmful", "harmless", "distil"):
        items = setting.prompts.get(f"{name}_train") or setting.prompts.get(name) or ()
        layout = items[0].meta.get("layout") if items else ""
        found += [f"data.{name}: {layout}"] if layout else []
    for name, told in setting.sets.items():
        if "rows" not in told:  # the organism's, which are drawn, not read
            continue
        layout = f"{told['layout']}, " if told["layout"] else ""
        rest = ", all of them"
        if told["used"] < told["rows"]:
            rest = f" drawn by eval.seed={told['seed']} (eval.{told['kind']}={told['used']})"
        found.append(
            f"eval.sets {name}: {layout}{told['rows']} rows, {told['used']} measured{rest}"
        )
    if data.limit and setting.given:
        count = len(setting.examples) + len(setting.held_out) * (not data.chats_val)
        found.append(f"data.limit: {count} dialogues drawn by seed={setting.seed}")
    if isinstance(setting.domains, domains.FileDomains):
        sizes = [f"{name} {len(own)}" for name, own in setting.domains.examples.items()]
        found.append(f"data.domains, dialogues of each: {', '.join(sizes)}")
    found += reading.lines(reading.facts(setting, data))
    found += [f"data.overlap=allow: {c.one}: {c.line()}" for c in setting.clashes]
    if told := thinking.facts(setting):
        begun = ", which the prompt opens" if told["opened"] else ""
        found.append(f"eval.reasoning: judged is what follows {told['reasoning'][1]}{begun}")
    if not setting.benchmarks:
        found.append("eval.sets is empty: nothing is measured")
    return found


def make(
    model_dir: Path,
    data: DataConfig,
    evaluation: EvalConfig,
    seed: int,
    *,
    reads: Sequence[str] | None = None,
    method: str = "this method",
    later: bool = False,
    model: UsageError | None = None,
) -> Setting:
    """Builds the setting of a config.

    Args:
      model_dir: where the model, and so the organism's world, lies.
      data: the section of this name.
      evaluation: the section `eval`.
      seed: of the experiment.
      reads: what the method reads of `data`, see `Method.reads`; None asks for prompts and
        allows all.
      method: its name, for the error lines.
      later: the caller calls `verify` itself, once the dialogues were read as tokens: a broken row
        is told before what is wrong with whole files.
      model: why there is no model, if there is none.

    Raises:
      UsageError: an unknown source, missing settings, a short prompt file, a malformed set, and
        what `verify` refuses.
    """
    sections.check(data, evaluation, seed)
    read = EVERY if reads is None else tuple(reads)
    if data.source == "organism":
        sections.unread(data, evaluation, EVERY, method)  # its files are not even opened
    sections.check_present(data, evaluation, PROMPTS if reads is None else read, model)
    if data.source == "organism":
        setting = organism(model_dir, data, evaluation, seed)
    else:
        setting = files(data, evaluation, PROMPTS if reads is None else read)
    setting = add_named(setting, evaluation)
    setting = preferences.add(_drawn(setting, data, seed), data, seed, reads or ())
    setting = replace(setting, clashes=tuple(clashes(setting, data, read)))
    if not later:
        verify(setting, data, evaluation, read, method)
    return setting


def make_measured(model_dir: Path, data: DataConfig, evaluation: EvalConfig, seed: int) -> Setting:
    """The setting as far as measuring a finished run again needs it: benchmarks, judge, groups.

    No file to train on is opened: the run has read them, and they may be gone or changed since.

    Raises:
      UsageError: see `make`; what is measured has to be there.
    """
    bare = DataConfig()
    unread = {name: getattr(bare, name) for name in sections.TRAINED_ON}
    return make(model_dir, replace(data, **unread), evaluation, seed, reads=(), later=True)


def make_learnt(
    model_dir: Path, data: DataConfig, evaluation: EvalConfig, seed: int, reads: Sequence[str]
) -> Setting:
    """The setting as far as it says what a run trained on: no file to measure with is opened.

    Args:
      model_dir: see `make`.
      data: see `make`.
      evaluation: for how many the organism makes.
      seed: of the experiment.
      reads: what the method reads.

    Raises:
      UsageError: a file or a world that is not there or not as it has to be.
    """
    bare = replace(evaluation, sets=(), benchmarks=(), judge="")
    drawn = data.source == "organism"
    setting = organism(model_dir, data, bare, seed) if drawn else files(data, bare, reads)
    return preferences.add(_drawn(setting, data, seed), data, seed, reads)


def _drawn(setting: Setting, data: DataConfig, seed: int) -> Setting:
    """With the dialogues that are learnt, and those that are held out."""
    used = draw(setting.examples, data.limit, seed) if setting.given else setting.examples
    if data.pairs and not used:  # `data.holdout` is of the pairs
        return replace(setting, seed=seed)
    learnt, measured = held_out(used, data, seed)
    return replace(setting, examples=learnt, held_out=measured, seed=seed)


def verify(
    setting: Setting,
    data: DataConfig,
    evaluation: EvalConfig,
    reads: Sequence[str],
    method: str = "this method",
) -> None:
    """Refuses what is given and read by nobody, and training prompts among measured ones.

    Args:
      setting: of these two sections.
      data: the section.
      evaluation: the section `eval`.
      reads: what the method reads of `data`.
      method: its name, for the error lines.

    Raises:
      UsageError: see above; `data.overlap=allow` lets the latter pass.
    """
    if setting.clashes and data.overlap == "refuse":
        first, rest = setting.clashes[0], len(setting.clashes) - 1
        more = f" ({rest} more pairs of files share prompts)" if rest else ""
        allowed = "prompts that are in one of them alone, or data.overlap=allow, which says so"
        raise bad(first.one, f"{first.line()}{more}", allowed)
    sections.unread(data, evaluation, reads, method)


def organism(model_dir: Path, data: DataConfig, evaluation: EvalConfig, seed: int) -> Setting:
    """The world beside the model, its splits, its exact judge and its measurement sets."""
    judge = registry.resolve(registry.JUDGES, "organism")
    from jaxsafety.benchmarks.organism import (
        DOMAIN_GROUPS,
        EXACT,
        GROUPS,
        WorldAttacks,
        WorldDomains,
        complying_words,
        items,
        refusal_words,
    )

    world = open_world(model_dir)
    unaligned = world.config.unknown_domains > 0
    name = "organism_domains" if unaligned else "organism"
    suite = registry.resolve(registry.BENCHMARKS, name)
    with _named("data.prompts"):
        distil = items(world, "distil", data.prompts, seed, data.wrapped)
    with _named("data.train"):
        harmful, harmless = (
            items(world, f"{kind}_train", data.train, seed) for kind in ("harmful", "harmless")
        )
    with _named("data.val"):
        prompts = {
            "distil": distil,
            "harmful_train": harmful,
            "harmful_val": items(world, "harmful_val", data.val, seed),
            "harmless_train": harmless,
            "harmless_val": items(world, "harmless_val", data.val, seed),
            "wrapped_val": items(world, "harmful_val", data.val, seed + 1, 1.0),
        }
    with _named("eval.safety, eval.over_refusal, eval.capability"):
        sets = suite(
            world,
            safety=evaluation.safety,
            over_refusal=evaluation.over_refusal,
            capability=evaluation.capability,
            seed=evaluation.seed,
        )
    examples, weights = chats(data)
    groups = DOMAIN_GROUPS if unaligned else GROUPS
    told = {
        b.name: {"kind": b.kind, "used": len(b.items), "seed": evaluation.seed, "judge": EXACT}
        for b in sets
    }
    return Setting(
        prompts,
        judge(world),
        sets,
        groups,
        world,
        refusal_words(),
        complying_words(world),
        examples or dialogue_examples(world, data, seed),
        weights,
        given=bool(examples),
        judged_by=EXACT,
        sets=told,
        domains=WorldDomains(world) if unaligned else None,
        attacks=WorldAttacks(world),
    )


def files(data: DataConfig, evaluation: EvalConfig, reads: Sequence[str] = PROMPTS) -> Setting:
    """Prompt lists from files, judged by phrase rules, so that rates are rough."""
    prompts: dict[str, tuple[Item, ...]] = {"wrapped_val": ()}
    n = data.train
    for name in ("harmful", "harmless"):
        if name in reads:
            found = _items(f"data.{name}", getattr(data, name), n + data.val)
            prompts[f"{name}_train"] = found[:n]
            prompts[f"{name}_val"] = found[n : n + data.val]
    if "distil" in reads:
        prompts["distil"] = _items("data.distil", data.distil, data.prompts)[: data.prompts]
    benchmarks: list[Benchmark] = []
    told: dict[str, dict[str, Any]] = {}
    for kind, name, path in sections.named_sets(evaluation.sets):
        items = _items("eval.sets", path, 1, kind)
        used = sample(items, getattr(evaluation, kind), evaluation.seed)
        benchmarks.append(Benchmark(name, kind, used, evaluation.max_tokens))
        told[name] = {
            "kind": kind,
            "path": path,
            "layout": str(items[0].meta.get("layout", "")),
            "rows": len(items),
            "used": len(used),
            "seed": evaluation.seed,
            "judge": BY_TASK if kind == "capability" else BY_PHRASES,
        }
    judge = registry.resolve(registry.JUDGES, "rules")(None)
    words = rules.refusal_words()
    examples, weights = chats(data)
    return Setting(
        prompts,
        judge,
        tuple(benchmarks),
        refusal_words=words,
        examples=examples,
        weights=weights,
        given=bool(examples),
        judged_by=BY_PHRASES,
        sets=told,
        domains=domains.read(data) if "domains" in reads and data.domains else None,
    )


def add_named(setting: Setting, evaluation: EvalConfig) -> Setting:
    """The setting with the judge and the benchmarks that the config names.

    Raises:
      UsageError: one that needs a world where there is none, and two benchmarks of one name.
    """
    if evaluation.judge:
        name, judge = open_judge(evaluation.judge, setting.world)
        if not (setting.benchmarks or evaluation.benchmarks):
            raise bad("eval.judge", evaluation.judge, "nothing, where nothing is measured")
        words = f"the judge {name!r}"
        sets = {name: {**told, "judge": words} for name, told in setting.sets.items()}
        setting = replace(setting, judge=judge, judged_by=words, sets=sets)
    if evaluation.reasoning and not (setting.benchmarks or evaluation.benchmarks):
        raise bad("eval.reasoning", evaluation.reasoning, "nothing, where nothing is measured")
    benchmarks, sets = list(setting.benchmarks), dict(setting.sets)
    for table in evaluation.benchmarks:
        made: Any = registry.resolve(registry.BENCHMARKS, table)(
            setting.world,
            safety=evaluation.safety,
            over_refusal=evaluation.over_refusal,
            capability=evaluation.capability,
            seed=evaluation.seed,
        )
        listed = type(made) in (list, tuple)  # one Benchmark alone is a tuple of its fields
        if not (listed and made and all(isinstance(bench, Benchmark) for bench in made)):
            given = f"{table}, which makes {str(made)[:60]}"
            raise bad("eval.benchmarks", given, "an entry that makes a list of Benchmarks")
        evaluate.check_sets(made, ())
        for bench in made:
            # A pool of the report is a row of its name.
            taken = [*sets, *setting.groups, *POOLS]
            if bench.name.casefold() in {name.casefold() for name in taken}:
                allowed = f"benchmarks whose sets have other names than {', '.join(taken)}"
                raise bad("eval.benchmarks", f"{table}, with a set {bench.name!r}", allowed)
            benchmarks.append(bench)
            sets[bench.name] = {
                "kind": bench.kind,
                "used": len(bench.items),
                "seed": evaluation.seed,
                "judge": setting.judged_by,
                "table": table,
            }
    return replace(setting, benchmarks=tuple(benchmarks), sets=sets)


def sample(items: Sequence[Item], limit: int, seed: int) -> tuple[Item, ...]:
    """`limit` of the items in their order, drawn by `seed` alone; all of them if it is 0.

    A smaller sample is part of a larger one.
    """
    if not limit or limit >= len(items):
        return tuple(items)
    chosen = np.random.default_rng([seed, len(items)]).permutation(len(items))[:limit]
    return tuple(items[int(i)] for i in sorted(chosen))


@contextlib.contextmanager
def _named(fields: str) -> Iterator[None]:
    """Says which settings ask for more prompts than the organism has."""
    try:
        yield
    except UsageError as error:
        text = str(error)
        raise UsageError(f"{fields}: {text}" if text.startswith("number of") else text) from None


def dialogue_examples(world: World, data: DataConfig, seed: int) -> tuple[Example, ...]:
    """Dialogues of the organism with their right answers."""
    share, wrapped = data.harmful_share, data.wrapped
    with _named("data.dialogues"):
        found = dialogues(world, data.dialogues, seed, harmful=share, wrapped=wrapped)
    return tuple(Example(d.id, tuple(Message(*m) for m in d.messages), d.meta) for d in found)


def _items(field_name: str, path: str, least: int, kind: str = "safety") -> tuple[Item, ...]:
    return prompt_items(field_name, path, least, kind)
