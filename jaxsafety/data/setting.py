"""What an experiment stands on: prompts, a judge, benchmarks, dialogues as text and as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxsafety.data.attacks import Attacks
from jaxsafety.data.domains import Domains
from jaxsafety.data.fitting import Fitted
from jaxsafety.data.items import Benchmark, Item, Judge
from jaxsafety.data.overlap import Clash
from jaxsafety.data.preferences import FittedPairs, Preferred
from jaxsafety.data.schema import Example


@dataclass(frozen=True)
class Setting:
    """What an experiment stands on: prompts by split, a judge, benchmarks, dialogues.

    Attributes:
      prompts: by split: harmful_train, harmful_val, harmless_train, harmless_val, distil, and
        wrapped_val, which is empty with files: only the organism knows wrappers. What the method
        does not read may be absent.
      judge: of answers.
      benchmarks: what is measured.
      groups: pooled rows of the report, by name.
      world: the organism's, for those who know it (`benchmarks.organism.world_of`), so that
        methods need not; None with files.
      refusal_words: what refusals are made of, which random control token sets must not hold.
      complying_words: what answers that carry a request out are made of; none where that is not
        known, as with files.
      examples: dialogues to learn from, the user's or the organism's own; their meta says of which
        "file" and "row" they are, and with `weights` of which "part".
      weights: of the parts.
      given: whether `examples` are the user's.
      held_out: dialogues whose loss is measured and that are not among `examples`.
      attacks: what attackers learn from, where the setting makes it itself; None with files.
      pairs: preferences to learn from, where the method reads them.
      held_pairs: those that are only measured; no prompt of `pairs` is among them.
      seed: of the experiment.
      base: fingerprint of its model, once it is known.
      judged_by: the judge in words.
      sets: name of a benchmark -> its kind, file, layout, rows, and how many of them are measured.
      clashes: prompts that are both trained on and measured.
      domains: dialogues by domain, of the user's files or of an unaligned organism; None where
        there are none, or the method does not read them.
    """

    prompts: Mapping[str, Sequence[Item]] = field(default_factory=dict)
    judge: Judge | None = None
    benchmarks: tuple[Benchmark, ...] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    world: object = None
    refusal_words: tuple[str, ...] = ()
    complying_words: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    weights: tuple[float, ...] = ()
    given: bool = False
    held_out: tuple[Example, ...] = ()
    attacks: Attacks | None = None
    pairs: tuple[Preferred, ...] = ()
    held_pairs: tuple[Preferred, ...] = ()
    seed: int = 0
    base: str = ""
    judged_by: str = ""
    sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    clashes: tuple[Clash, ...] = ()
    domains: Domains | None = None

    @property
    def own(self) -> tuple[Benchmark, ...]:
        """The benchmarks of its source, without those that `eval.benchmarks` adds."""
        return tuple(b for b in self.benchmarks if not self.sets.get(b.name, {}).get("table"))


@dataclass(frozen=True)
class Dialogues:
    """The setting's dialogues as tokens, which are read once, before any weight is.

    `domains`: those of its `Domains` by name, where they come from files. `pairs`: its preferences.
    """

    learnt: Fitted | None = None
    held_out: Fitted | None = None
    domains: Mapping[str, Fitted] = field(default_factory=dict)
    pairs: FittedPairs | None = None
    held_pairs: FittedPairs | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What `meta.json` says of them."""
        parts = {"dialogues": self.learnt, "held_out": self.held_out}
        parts |= {"pairs": self.pairs, "held_pairs": self.held_pairs}
        found = {name: part.facts for name, part in parts.items() if part is not None}
        domains = {name: part.facts for name, part in self.domains.items()}
        return {**found, "domains": domains} if domains else found
