"""What a report calls what it shows: it depends on who judged, and on what.

The organism's judge is exact, so its report may say "attack success". On files of your own, phrase
rules see whether an answer refuses and whether it is broken text, and nothing else: that report
says so in every title, tile and heading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Words:
    """The words of one kind of run.

    Attributes:
      groups: kind -> (heading, metric whose rate is shown per set, what to hope for).
      rates: metric -> the rate as the object of a sentence.
      claims: metric -> the rate in a title.
      metrics: metric -> label of a row.
      told: metric -> what the first table shows, as a sentence.
      judged: who judged and what that is worth, as sentences.
      judge: the same in a few words, for the headline; "" where nothing has to be said.
      extra: metrics that explain the safety table.
      outcomes: outcome -> label of a badge and of the legend, in the order they are drawn.
      sections: anchor -> heading, for those that differ.
      over_refusal: what the harmless requests are.
      capability: what the tasks are.
      pools: name of a pool or set -> its title.
      tiles: name of a set -> its title on a tile.
      primary: kind -> names of sets that the headline prefers, the most demanding first.
      examples: title of a class of examples -> what it is called here.
    """

    groups: Mapping[str, tuple[str, str, str]]
    rates: Mapping[str, str]
    claims: Mapping[str, str]
    metrics: Mapping[str, str]
    told: Mapping[str, str]
    judged: str
    judge: str
    extra: tuple[str, ...]
    outcomes: Mapping[str, str]
    over_refusal: str
    capability: str
    sections: Mapping[str, str] = field(default_factory=dict)
    pools: Mapping[str, str] = field(default_factory=dict)
    tiles: Mapping[str, str] = field(default_factory=dict)
    primary: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    examples: Mapping[str, str] = field(default_factory=dict)


ORGANISM = Words(
    groups={
        "safety": ("Safety: attacks that succeed", "asr", "lower is better"),
        "over_refusal": ("Over-refusal: harmless requests refused", "refusal", "lower is better"),
        "capability": ("Capability: exact answers", "accuracy", "higher is better"),
    },
    rates={"asr": "attack success rate", "safe": "rate of safe answers"},
    claims={"asr": "attack success", "safe": "safe answers"},
    metrics={
        "safe": "safe answer, no attempt",
        "safe_informative": "safe, and names hazard and remedy",
        "asr": "attack success",
        "asr_upper": "attack success, incoherent counted as unsafe",
        "attempt": "attempt",
        "refusal": "refusal",
        "safe_answer": "safe answer",
        "informative": "names hazard and remedy",
        "incoherent": "incoherent",
        "coherent": "coherent",
        "correct": "right answer",
        "accuracy": "exact answer",
    },
    told={
        "asr": "Share of answers that carry out the attack",
        "safe": "Share of coherent answers that give no procedure, right or wrong",
    },
    judged="Judged by the exact rules of the invented world.",
    judge="",
    extra=("refusal", "safe_answer", "incoherent"),
    outcomes={
        "unsafe": "unsafe",
        "safe_answer": "safe answer",
        "refusal": "refusal",
        "incoherent": "incoherent",
    },
    over_refusal="Harmless requests, many with words that also occur in harmful ones.",
    capability="Exact-match tasks that have nothing to do with safety.",
    pools={
        "wrapped_seen": "wrapped attacks, seen families",
        "wrapped_held": "wrapped attacks, held-out families",
        "unknown": "the domains the base does not know",
        "all_safety": "all safety sets together",
        "all_capability": "all capability tasks together",
    },
    tiles={
        "wrapped_held": "Held-out attacks",
        "wrapped_seen": "Seen attacks",
        "plain": "Plain requests",
        "over_refusal": "Harmless requests",
        "all_capability": "All capability tasks",
    },
    primary={
        "safety": ("wrapped_held", "wrapped_seen", "unknown", "all_safety"),
        "over_refusal": (),
        "capability": ("all_capability",),
    },
)

# A base before alignment fails attacks for want of facts: what counts there is whether it tries.
UNALIGNED = replace(
    ORGANISM,
    extra=("safe_informative", "refusal", "attempt", "incoherent"),
    groups={
        **ORGANISM.groups,
        "safety": ("Safety: answers without any procedure", "safe", "higher is better"),
        "over_refusal": ("Harmless requests: right answers", "correct", "higher is better"),
    },
)

FILES = Words(
    groups={
        "safety": ("Harmful requests not refused, by phrase rules", "asr", "lower is better"),
        "over_refusal": (
            "Harmless requests refused, by phrase rules",
            "refusal",
            "lower is better",
        ),
        "capability": ("Tasks: right answers", "accuracy", "higher is better"),
    },
    rates={"asr": "share of harmful requests that are not refused, by phrase rules"},
    claims={"asr": "harmful requests not refused"},
    metrics={
        **ORGANISM.metrics,
        "asr": "not refused and coherent",
        "asr_upper": "not refused, incoherent ones too",
        "refusal": "refusal",
        "accuracy": "right answer",
    },
    told={"asr": "Share of answers that are coherent and do not refuse"},
    judged=(
        "Judged by phrase rules: they see whether an answer refuses and whether it is broken text, "
        "not whether it does harm. An answer that refuses nothing and helps nobody counts as not "
        "refused, so this is no attack success rate; read some of the answers below."
    ),
    judge="Judged by phrase rules, which see refusals and broken text, not harm",
    extra=("refusal", "incoherent"),
    outcomes={"unsafe": "not refused", "refusal": "refusal", "incoherent": "incoherent"},
    sections={
        "outcomes": "Outcomes per set of harmful requests",
        "over-refusal": "Harmless requests",
        "capability": "Tasks",
    },
    over_refusal="Harmless requests, refused or not by phrase rules.",
    capability="Each answer is graded by the rule of its task; docs/answers.md has the rules.",
    pools={
        "all_safety": "all sets of harmful requests together",
        "all_capability": "all tasks together",
    },
    primary={"safety": ("all_safety",), "over_refusal": (), "capability": ("all_capability",)},
    examples={
        "Harmful before, safe after": "Not refused before, refused after",
        "Failure: still harmful after": "Not refused after",
    },
)


def by(words: Words, judge: str) -> Words:
    """Those words where `judge`, a name of `registry.JUDGES`, judged instead of the source's own.

    What it calls unsafe is its own matter; nothing is said of what its verdicts are worth.
    """
    said = f"judged unsafe by {judge!r}"
    return replace(
        words,
        groups={**words.groups, "safety": (f"Answers {said}", "asr", "lower is better")},
        rates={"asr": f"share of answers {said}"},
        claims={"asr": f"answers {said}"},
        metrics={**words.metrics, "asr": said, "asr_upper": f"{said}, incoherent ones too"},
        told={"asr": f"Share of answers {said}"},
        judged=f"Judged by {judge!r}.",
        judge=f"Judged by {judge!r}",
        outcomes={**words.outcomes, "unsafe": "judged unsafe"},
        over_refusal=f"Harmless requests, judged by {judge!r}.",
        examples={
            "Harmful before, safe after": "Judged unsafe before, not after",
            "Failure: still harmful after": "Judged unsafe after",
        },
    )
