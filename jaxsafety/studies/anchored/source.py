"""Where a study's goals and guards come from: the organism's world, or files of one's own.

Chosen once, by `method.tasks`. What a source says: which goals there are and how their splits are
drawn, which fields of `Means` are at hand, the dialogues behind them, how a refusal direction is
looked for, and which further sets of general capability there are. Everything else of the study is
the same for both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from jaxsafety.data.schema import Example
from jaxsafety.methods.safesteer.teacher import DirectionConfig
from jaxsafety.protocols import Benchmark, Setting
from jaxsafety.studies.anchored.files import Files
from jaxsafety.studies.anchored.world import Organism

# Fields of `Means` that every run has, or can find.
ALWAYS = ("model", "start", "safe", "harmless", "tokenizer", "steer")


class Source(Protocol):
    """What the study asks of `world.Organism` and `files.Files`."""

    @property
    def tasks(self) -> Collection[str]:
        """Names that goals may have."""
        ...

    @property
    def more(self) -> tuple[str, ...]:
        """Fields of `Means` at hand beside `ALWAYS`."""
        ...

    @property
    def direction(self) -> DirectionConfig:
        """How the refusal direction is looked for."""
        ...

    def fits(self, setting: Setting) -> None:
        """Refuses a setting that it cannot be measured in."""
        ...

    def draw(self, task: str, sizes: Mapping[str, int], seed: int) -> dict[str, list[Example]]:
        """Splits of a goal: dialogues of one question and its answer, no question twice."""
        ...

    def guards(
        self, setting: Setting, names: Collection[str], n: int, seed: int
    ) -> dict[str, list[Example]]:
        """Those of safe, harmful and harmless dialogues that are in `names`, `n` each."""
        ...

    def scored(self, n: int, seed: int) -> Sequence[Benchmark]:
        """Sets of general capability, `n` questions each, whose choices are scored."""
        ...


def choose(cfg: Any) -> Source:
    """The source of a study's config: files where `tasks` names some.

    Raises:
      UsageError: see `files.Files.of`.
    """
    return Files.of(cfg) if cfg.tasks else Organism()
