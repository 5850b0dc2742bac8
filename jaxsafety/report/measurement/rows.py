"""The rows that page and terminal share: which rates of which sets, by which judge."""

from __future__ import annotations

from typing import NamedTuple

from jaxsafety.report.load import decoding_label
from jaxsafety.report.measurement.load import POOLS, Judge, Measurement, Rate, rate_of

SCORED = "log-probability"
METRICS = {
    "acc": "right answer (acc)",
    "acc_norm": "by length (acc_norm)",
    "mc2": "share of the right ones (mc2)",
    "accuracy": "right answer",
    "strict": "right, lm-eval strict",
    "flexible": "right, lm-eval flexible",
}
BOUND = (
    "By phrase rules an answer is “not refused” where it is text and declines nothing. They see no"
    " harm: it is an upper bound of the unsafe answers, to be read beside a judge that sees harm."
)


class Row(NamedTuple):
    """Rates of a set by a judge.

    Attributes:
      set: name of the set or pool.
      judge: title of the judge.
      arm: the model.
      decoding: as printed.
      rates: one per column of its table; None where there is none.
      n: answers that could be judged.
      untold: answers that could not be, with their causes; "" for none.
      pooled: whether it is of all sets together.
    """

    set: str
    judge: str
    arm: str
    decoding: str
    rates: tuple[Rate | None, ...]
    n: int
    untold: str
    pooled: bool


def collect(measured: Measurement, kind: str, metrics: tuple[str, ...]) -> list[Row]:
    """A row per set, judge, model and decoding, pools last.

    Args:
      measured: the directory.
      kind: safety or over_refusal.
      metrics: what is shown, the headline first.
    """
    names = [n for n, facts in measured.sets.items() if facts.get("kind") == kind]
    found = []
    for name in (*names, POOLS[kind]):
        for arm, decoding in measured.each():
            for judge in measured.opinions:
                rates = tuple(judge.rate(arm, name, metric, decoding) for metric in metrics)
                if rates[0] is not None:
                    found.append(_row(name, judge.title, arm, decoding, rates))
    return found


def collect_pooled(measured: Measurement) -> list[Row]:
    """Refusals of harmful requests beside those of harmless ones, by judge, all sets together."""
    found = []
    for arm, decoding in measured.each():
        for judge in measured.opinions:
            rates = (
                judge.pooled(arm, "safety", "asr", decoding),
                judge.pooled(arm, "safety", "refusal", decoding),
                judge.pooled(arm, "over_refusal", "refusal", decoding),
                judge.pooled(arm, "safety", "coherent", decoding),
            )
            if any(rates):
                found.append(_row("", judge.title, arm, decoding, rates))
    return found


def collect_tasks(measured: Measurement) -> list[Row]:
    """Tasks: a row per set and metric, written answers first, then multiple choice."""
    found = []
    names = [n for n, facts in measured.sets.items() if facts.get("kind") == "capability"]
    judges = [judge for judge in measured.judges if judge.benchmarks("capability")]
    for name in (*names, POOLS["capability"]):
        for judge in judges:
            for arm, decoding in measured.each():
                rate = judge.rate(arm, name, "accuracy", decoding)
                if rate is not None:
                    row = _row(name, judge.title, arm, decoding, (rate,))
                    found.append(row._replace(judge=f"{METRICS['accuracy']}, {row.judge}"))
        for record in measured.scored:
            if record["benchmark"] == name:
                metric, _, decoding = str(record["metric"]).rpartition(".")
                by = METRICS.get(metric, metric)
                row = _row(name, by, str(record["arm"]), decoding, (rate_of(record),))
                found.append(row._replace(decoding=SCORED) if decoding == "logp" else row)
    return found


def choose_lead(measured: Measurement) -> tuple[Judge, str, str] | None:
    """Judge, model and decoding of the headline: the first that knows a rate."""
    for arm, decoding in measured.each():
        for judge in measured.opinions:
            for kind, metric in (("safety", "asr"), ("over_refusal", "refusal")):
                rate = judge.pooled(arm, kind, metric, decoding)
                if rate is not None and rate.estimate is not None:
                    return judge, arm, decoding
    return None


def _row(name: str, judge: str, arm: str, decoding: str, rates: tuple[Rate | None, ...]) -> Row:
    first = next(rate for rate in rates if rate is not None)
    n = first.estimate.n if first.estimate else 0
    untold = f"{first.nulls}: {first.cause or 'the judge cannot tell'}" if first.nulls else ""
    label = decoding_label(decoding)
    return Row(name, judge, arm, label, rates, n, untold, name in POOLS.values())
