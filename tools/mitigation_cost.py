"""What each mitigation costs on the organism, side by side with plain fine-tuning in one process.

  python tools/mitigation_cost.py                       measures all, prints a line each
  python tools/mitigation_cost.py kl ewc --rounds 10    some of them, roughly
  python tools/mitigation_cost.py --save FILE           keeps the lines (docs/mitigation_cost.jsonl)
  python tools/mitigation_cost.py --page FILE           their table into docs/anchored.md

Model, rows, length and optimizer are those of configs/anchored/organism.py. Steps with and without
the mitigation alternate (AB, BA, ...), on the same batches, after both are compiled and warm; a
round is one step of each, of Lisa a whole period of both states. The ratio is that of the medians,
its interval a 95 % bootstrap over rounds. What serves is timed by answers of as many tokens; what
edits after training has no step: seconds of one edit, as of what is made once before the first step
(`once`). A repair's step, of the rows that it takes, is timed beside one of the task, without its
sampling. A quiet machine is the caller's to see to; `load` is said.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for `configs`
PAGE = ROOT / "docs" / "anchored.md"
START, END = "<!-- cost: python tools/mitigation_cost.py --page -->\n", "<!-- end of cost -->\n"
HEAD = (
    "| name | step or answer, ms: plain, with | ratio [95 %] | expected | kept |"
    " by its own budget | kept | once, s |\n|---|---|---|---|---|---|---|---|\n"
)
SPARE = 1.15  # a step may cost its factor and 15 %
# The factor that was expected of a step before it was timed, in plain steps (a frozen forward pass
# is a third of one); None where none was. "1x (+ fraction)" of mixing: by the rows, as its budget.
NOTES: dict[str, float | None] = {
    "anchor": 1.0,
    "booster": 3.0,
    "circuit_breakers": 2 + 2 / 3,  # two trained passes in place of the stage's, two frozen ones
    "constrained": 1.0,  # with the start's log-probabilities cached
    "dpo": 2.0,  # twice as many answers
    "ema": 1.0,
    "ewc": 1.0,
    "interpolation": None,
    "kl": 4 / 3,
    "lisa": 1.0,
    "mixing": None,
    "projection": None,
    "ptst": 1.0,
    "recovery": None,
    "resta": None,
    "safelora": None,
    "safesteer": None,
    "steering": 1.0,
    "vaccine": 2.0,
}
ARMS = {
    "lisa": "lisa:safe=2,task=18,steps={steps}",
    "ptst": "ptst:system=you are a safe helper .",
    "safesteer": "safesteer:top=12,samples=8,floor=0.003",
}
PERIOD = {"lisa": 20}  # updates of a round
MORE = {"kl on the task": "kl:on=task"}  # the form that `NOTES` costs
TOKENS, PROMPTS = 24, 32  # of an answer, and how many of them
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = CLOCKS["wall"]
Line = dict[str, Any]


def context(workdir: Path) -> tuple[Any, Any]:
    """(settings of the study, a context as a run has it), without looking for a direction."""
    from configs.anchored import organism
    from jaxsafety.experiment import record
    from jaxsafety.experiment import setting as settings
    from jaxsafety.models.formats import load
    from jaxsafety.models.formats.source import found, stored_dtype
    from jaxsafety.protocols import Context
    from jaxsafety.train.metrics import NoWriter

    exp = record.typed(organism.get_config())
    path, _ = found(exp.model)
    model, params, tokenizer = load.load(
        path, dtype=exp.model.dtype, remat=exp.model.remat, param_dtype=stored_dtype(exp.model)
    )
    layers, width = model.config.num_layers, model.config.embed_dim

    def artifact(name: str, make: Callable[[], Any]) -> Any:
        if name != "direction":
            return make()
        # No time depends on where it points.
        return {"layer": layers // 2, "vector": np.full(width, width**-0.5, np.float32)}

    ctx = Context(
        model=model,
        tokenizer=tokenizer,
        workdir=workdir,
        artifact=artifact,
        setting=settings.make(path, exp.data, exp.eval, exp.seed),
        writer=NoWriter(),
        mesh=None,
        variables={"base": params},
        seed=exp.seed,
        log=lambda line: None,
    )
    return exp, ctx


class Steps:
    """A stage that is trained one update at a time, as the loop does it."""

    def __init__(self, stage: Any, ctx: Any, train: Any) -> None:
        """Compiles its step, and what is made before it twice: the second time is `once`."""
        from jaxsafety.core import sharding, trees
        from jaxsafety.train import state as states
        from jaxsafety.train.assemble import assemble, lower, mesh_of
        from jaxsafety.train.begin import begun

        mesh, given = mesh_of(ctx), stage
        for _ in range(2):
            start = time.perf_counter()
            stage = begun(given, ctx, mesh, train)
            self.once = time.perf_counter() - start
        self.batches = stage.batches
        parts = assemble(stage, ctx.model, mesh, train)
        params, frozen = trees.partition(stage.start, stage.trainable)
        self.frozen = jax.device_put(frozen, parts.shardings.frozen)
        extra, where = stage.mitigation.extra, parts.shardings.state
        begin = states.beginner(parts.tx, where, extra, master=train.master)
        for _ in range(2):
            start = time.perf_counter()
            self.state = jax.block_until_ready(
                states.fresh(begin, params, jax.random.key(0), where)
            )
            made = time.perf_counter() - start
        self.once += made
        self.place = lambda batch: sharding.global_batch(mesh, batch)
        first = self.place(stage.batches({}, 0))
        self.step = lower(parts, self.state, self.frozen, first).compile()

    def __call__(self, batch: Any) -> float:
        """Seconds of an update."""
        placed = jax.block_until_ready(self.place(batch))
        start = clock()
        self.state, metrics = self.step(self.state, self.frozen, placed)
        jax.block_until_ready((self.state, metrics))
        return clock() - start


def alternate(
    plain: Callable[[int], float], other: Callable[[int], float], rounds: int, period: int = 1
) -> tuple[list[float], list[float]]:
    """Seconds of each round of both, means over its `period`; the first two rounds are left out."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 2):
        sums, count = [0.0, 0.0], period if number > 1 else 1
        for inner in range(count):
            at = number * period + inner
            for which in (0, 1) if at % 2 == 0 else (1, 0):
                sums[which] += (plain, other)[which](at)
        if number > 1:
            for which in (0, 1):
                times[which].append(sums[which] / count)
    return times


def ratio(plain: list[float], other: list[float], seed: int = 0) -> tuple[float, float, float]:
    """The ratio of medians with a 95 % interval, by a bootstrap over rounds."""
    a, b = np.asarray(plain), np.asarray(other)
    picks = np.random.default_rng(seed).integers(0, len(a), (4000, len(a)))
    found = np.median(b[picks], axis=1) / np.median(a[picks], axis=1)
    low, high = np.quantile(found, (0.025, 0.975))
    return float(np.median(b) / np.median(a)), float(low), float(high)


def kept(value: float, factor: float | None) -> bool | None:
    """Whether a ratio is within a factor and 15 %; None without a factor."""
    return None if factor is None else value <= SPARE * factor


def compared(
    name: str, times: tuple[list[float], list[float]], own: float | None, once: float | None
) -> Line:
    """The line of a mitigation that was timed beside plain."""
    value, low, high = ratio(*times)
    noted = NOTES.get("kl" if name in MORE else name)
    noted = own if name == "mixing" else noted
    return {
        "name": name,
        "plain_ms": round(1e3 * statistics.median(times[0]), 3),
        "with_ms": round(1e3 * statistics.median(times[1]), 3),
        "ratio": round(value, 4),
        "interval": [round(low, 4), round(high, 4)],
        "rounds": len(times[0]),
        "notes": None if noted is None else round(noted, 4),
        "notes_kept": kept(value, noted),
        "budget": None if own is None else round(own, 4),
        "budget_kept": kept(value, own),
        "once_s": None if once is None else round(once, 4),
    }


def trained(name: str, study: Any, point: Any, exp: Any, rounds: int) -> Line:
    """A mitigation that hooks into training, or into the alignment before it."""
    from jaxsafety.mitigations.chain import NONE
    from jaxsafety.mitigations.means import factor

    seed, task = study.seeds[0], next(iter(study.goals))
    began = study.align(point, seed) if point.of("align") else study.train(task, point, seed)
    stage = next(began)
    # An alignment begins at the run's variables; nothing of it is trained on.
    ours, plain = Steps(stage, study.ctx, exp.train), stage._replace(mitigation=NONE)
    theirs = Steps(plain, study.ctx, exp.train)
    times = alternate(
        lambda at: theirs(stage.batches({}, at)),
        lambda at: ours(ours.batches({}, at)),
        max(3, rounds // 4) if name in PERIOD else rounds,
        PERIOD.get(name, 1),
    )
    own = factor(stage.mitigation.budget)
    return compared(name, times, own, ours.once - theirs.once if ours.once > theirs.once else 0.0)


def repaired(name: str, study: Any, settings: Any, exp: Any, rounds: int) -> Line:
    """A mitigation that trains on from what the task left, here from the base."""
    from jaxsafety.mitigations.means import factor
    from jaxsafety.mitigations.repairs import Job

    ctx, seed, task = study.ctx, study.seeds[0], next(iter(study.goals))
    plain = next(study.train(task, study.points[0], seed))
    means = study.means(ctx.variables["base"], seed)
    given = (plain.trainable, plain.axes, study.cfg.repair, study.optim, ctx, means)
    start = time.perf_counter()
    stage = settings.repair(Job("repair", ctx.variables, *given))
    once = time.perf_counter() - start
    if stage is None:
        raise SystemExit(f"{name}: the base says nothing unsafe, so there is no step to time")
    batch, theirs = stage.batches(ctx.variables, 0), Steps(plain, ctx, exp.train)
    ours = Steps(stage._replace(batches=lambda variables, step: batch), ctx, exp.train)
    times = alternate(lambda at: theirs(plain.batches({}, at)), lambda at: ours(batch), rounds)
    return compared(name, times, factor(settings.mitigation(means).budget), once)


def served(name: str, study: Any, settings: Any, rounds: int) -> Line:
    """A mitigation that changes what answers: answers of `TOKENS` tokens each."""
    from jaxsafety.mitigations.means import build
    from jaxsafety.protocols import SampleConfig, Served
    from jaxsafety.sampling import many

    ctx, base = study.ctx, study.ctx.variables["base"]
    items = study.asked(next(iter(study.goals)), "dev")[:PROMPTS]
    plain = Served(base)
    changed = build({name: settings}, study.means(base, ctx.seed)).serve(plain)

    def answer(what: Served) -> float:
        prompts = [what.encode(ctx.tokenizer, item.messages) for item in items]
        start = clock()
        many.generate(
            ctx.model,
            what.params,
            ctx.tokenizer,
            prompts,
            SampleConfig(TOKENS, 0.0, stop=()),
            seed=0,
            layers=what.layers,
            steer=what.steer,
        )
        return clock() - start

    times = alternate(lambda at: answer(plain), lambda at: answer(changed), rounds)
    return compared(name, times, None, None)


def edited(name: str, study: Any, settings: Any, rounds: int) -> Line:
    """A mitigation that edits what training left: seconds of one edit, the median of some."""
    from jaxsafety.mitigations.means import build

    base = study.ctx.variables["base"]
    keys = iter(jax.random.split(jax.random.key(0), 2 * len(jax.tree.leaves(base))))

    def other(size: float) -> Any:  # what training or an alignment may have changed
        return jax.tree.map(
            lambda x: x + size * jax.random.normal(next(keys), x.shape, x.dtype), base
        )

    means = replace(study.means(base, study.ctx.seed), unaligned=other(1e-2))
    after, tuned = build({name: settings}, means).after, {"base": other(1e-3)}
    seconds = []
    for _ in range(1 + min(5, rounds)):
        start = time.perf_counter()
        jax.block_until_ready(after(tuned))
        seconds.append(time.perf_counter() - start)
    empty = dict.fromkeys(("plain_ms", "with_ms", "ratio", "interval", "rounds"))
    empty |= dict.fromkeys(("notes", "notes_kept", "budget", "budget_kept"))
    return {"name": name, **empty, "once_s": round(statistics.median(seconds[1:]), 4)}


def measure(names: Iterable[str], rounds: int, workdir: Path) -> Iterable[Line]:
    """A line per mitigation, one after the other."""
    from jaxsafety import registry
    from jaxsafety.studies.anchored.arms import moment
    from jaxsafety.studies.anchored.program import Study

    exp, ctx = context(workdir)
    about = {"jax": jax.__version__, "cores": os.cpu_count(), "processor": platform.machine()}
    about |= {"rows": exp.method.sft.rows, "length": exp.method.sft.length}
    for name in names:
        arm = (ARMS | MORE).get(name, name).format(steps=exp.method.sft.steps)
        kind = arm.partition(":")[0]
        when = moment(registry.resolve(registry.MITIGATIONS, kind))
        load = round(os.getloadavg()[0], 2)
        # Their dialogues differ by what they need: a study each.
        cfg = replace(exp.method, arms=("plain", arm), unaligned=str(workdir))
        if when == "after":
            cfg = replace(cfg, arms=("plain",))
        study = Study(cfg, exp.optim, ctx)
        if when == "after":
            line = edited(name, study, registry.resolve(registry.MITIGATIONS, kind)(), rounds)
        elif when == "serve":
            line = served(name, study, study.points[-1].named[kind], rounds)
        elif when == "repair":
            line = repaired(name, study, study.points[-1].named[kind], exp, rounds)
        else:
            line = trained(name, study, study.points[-1], exp, rounds)
        of = next(name for name, each in CLOCKS.items() if each is clock)
        yield {**line, "when": when, "clock": of, "load": load, **about}


def table(lines: Iterable[Mapping[str, Any]]) -> str:
    """The lines as a markdown table, with what they were measured on."""
    found = list(lines)
    if not found:
        return "Not measured yet.\n"
    said = lambda x: {None: "", True: "yes", False: "**no**"}[x]  # noqa: E731
    number = lambda x: "" if x is None else f"{x:.2f}"  # noqa: E731
    rows = []
    for line in found:
        times = value = ""
        if line["ratio"] is not None:
            times = f"{line['plain_ms']:.1f}, {line['with_ms']:.1f}"
            value = f"{line['ratio']:.2f} [{line['interval'][0]:.2f}, {line['interval'][1]:.2f}]"
        cells = (f"`{line['name']}`, {line['when']}", times, value)
        cells += (number(line["notes"]), said(line["notes_kept"]))
        cells += (number(line["budget"]), said(line["budget_kept"]))
        once = line["once_s"]
        rows.append("| " + " | ".join((*cells, "" if once is None else f"{once:.2f}")) + " |\n")
    one = found[0]
    about = (
        f"\n{one['rows']} rows of {one['length']} tokens, {one['cores']} cores"
        f" ({one['processor']}), jax {one['jax']}; load of the machine before each:"
        f" {min(x['load'] for x in found):.1f} to {max(x['load'] for x in found):.1f}.\n"
    )
    return HEAD + "".join(rows) + about


def updated(text: str, lines: Iterable[Mapping[str, Any]]) -> str:
    """The page with the part between its two markers made anew."""
    before, start, rest = text.partition(START)
    if not start:
        raise SystemExit(f"docs/anchored.md: got no marker; allowed: a line {START.strip()!r}")
    return before + START + table(lines) + END + rest.partition(END)[2]


def read(path: Path) -> list[Line]:
    """Kept lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def main(arguments: list[str]) -> None:
    """Measures, or writes the table of what was measured."""
    known = (*NOTES, *MORE)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(known)}; default all")
    parser.add_argument("--rounds", type=int, default=60)
    known_clocks = "wall; or cpu: of all threads, for a look at them on a busy machine"
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help=known_clocks)
    parser.add_argument("--save", type=Path, help="file to keep a line per mitigation in")
    parser.add_argument("--page", type=Path, help="kept lines whose table goes into the page")
    args = parser.parse_args(arguments)
    if args.page:
        PAGE.write_text(updated(PAGE.read_text("utf-8"), read(args.page)), "utf-8")
        return
    for name in args.names:
        if name not in known:
            raise SystemExit(f"names: got {name!r}; allowed: {', '.join(known)}")
    if args.rounds < 3:
        raise SystemExit(f"--rounds: got {args.rounds}; allowed: 3 or more")
    global clock  # what every timer reads, set once
    clock, lines = CLOCKS[args.clock], []
    with tempfile.TemporaryDirectory() as workdir:
        for line in measure(args.names or known, args.rounds, Path(workdir)):
            lines.append(json.dumps(line))
            print(lines[-1], flush=True)
    if args.save:
        args.save.write_text("".join(f"{line}\n" for line in lines), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
