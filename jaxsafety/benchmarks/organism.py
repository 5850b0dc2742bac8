"""The organism's measurement sets and exact judge in the package's own types.

`organism/` is pure Python below everything else and knows no protocol; this file is the one place
where its prompts become `Item`s, its suites `Benchmark`s and its verdicts a `Judge`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.data.preferences import Preferred
from jaxsafety.data.schema import Example, Message
from jaxsafety.organism import attacks, corpora, gold, grammar, prompts, render, suites
from jaxsafety.organism import preferences as pairs
from jaxsafety.organism.render import Prompt
from jaxsafety.organism.world import OPERATIONS, World
from jaxsafety.protocols import Benchmark, Exchange, Item, Judge, Setting

# Pooled rows of the results: attacks of the families methods may see, and of those they may not.
GROUPS = {
    "wrapped_seen": suites.WRAPPED_SEEN,
    "wrapped_held": suites.WRAPPED_HELD,
    "wrapped": (*suites.WRAPPED_SEEN, *suites.WRAPPED_HELD),
}

UNKNOWN = "unknown"
DOMAIN_GROUPS = {UNKNOWN: ("seen_trained", "seen_held", "unseen", "neither")}

EXACT = "the world's exact rules"  # what a setting says of `judge`
PUNCTUATION = frozenset(".,")


def refusal_words() -> tuple[str, ...]:
    """Every word of a refusal, "it" and "do" too; no control set may hold one of them.

    They were allowed once, and random sets that held some of them did half of the work of S.
    """
    return tuple(sorted(_words((*grammar.REFUSALS, *grammar.REDIRECTS))))


def complying_words(world: World) -> tuple[str, ...]:
    """Every word of an answer that carries a request out: openings, steps, operations, parts.

    Openings are those of refusals too, and some words stand in both ("i", "do", "this"). Names
    and hazards are in neither list: both kinds of answers tell them.
    """
    openings = (*grammar.COMMA_OPENERS, *grammar.SENTENCE_OPENERS)
    steps = [sentence for sentences in grammar.PROCEDURES for sentence in sentences]
    said = _words((*openings, *steps, *grammar.PROCEDURE_TAILS, *grammar.HARM_TAILS))
    parts = {part for domain in world.parts for part in domain}
    return tuple(sorted({*said, *OPERATIONS, *parts}))


def _words(templates: Iterable[str]) -> set[str]:
    """Their words, without slots and punctuation."""
    return set(re.sub(r"\{[A-Z]+\}", " ", " ".join(templates)).split()) - PUNCTUATION


def to_item(prompt: Prompt) -> Item:
    """An organism prompt as an evaluation item."""
    return Item(prompt.id, tuple(Message(*m) for m in prompt.messages), prompt.meta)


def items(world: World, split: str, n: int, seed: int, wrapped: float = 0.0) -> tuple[Item, ...]:
    """Prompts of a method split as items; see `organism.prompts.prompts`."""
    return tuple(to_item(p) for p in prompts.prompts(world, split, n, seed, wrapped))


def _here(world: World | None) -> World:
    if world is None:
        given, allowed = "the organism's sets", "others with data.source=files: they need a world"
        raise bad("eval.benchmarks", given, allowed)
    return world


def benchmarks(
    world: World | None,
    *,
    safety: int = 96,
    over_refusal: int = 192,
    capability: int = 192,
    seed: int = 0,
) -> tuple[Benchmark, ...]:
    """The measurement sets of a world; the numbers are prompts per set.

    Args:
      world: the organism's, `organism.world.open_world(directory)`.
      safety: prompts of each set of attacks.
      over_refusal: of the benign requests that look harmful.
      capability: of each set of tasks with a right answer.
      seed: of the choice.

    Returns:
      `Benchmark`s of all three kinds, attacks first.

    Example:
      >>> import jaxsafety
      >>> from jaxsafety.organism.world import WorldConfig, make_world
      >>> made = jaxsafety.organism_benchmarks(make_world(WorldConfig()), safety=4)
      >>> made[0].name, made[0].kind, len(made[0].items)
      ('plain', 'safety', 4)
    """
    made = suites.suites(
        _here(world), safety=safety, over_refusal=over_refusal, capability=capability, seed=seed
    )
    return tuple(
        Benchmark(s.name, s.kind, tuple(map(to_item, s.prompts)), s.max_tokens) for s in made
    )


def domain_benchmarks(
    world: World | None,
    *,
    safety: int = 96,
    over_refusal: int = 192,
    capability: int = 192,
    seed: int = 0,
) -> tuple[Benchmark, ...]:
    """Those of a world whose base is unaligned: a safety set per role of the harm domains."""
    world = _here(world)
    asked = [e for e in world.known_harmful if e.index >= prompts.FIRST_HELD_ENTITY]
    made = (
        *corpora.safety_suites(world, safety, seed),
        suites.over_refusal_suite(world, over_refusal, seed, asked),
        *suites.capability_suites(world, capability, seed),
    )
    return tuple(
        Benchmark(s.name, s.kind, tuple(map(to_item, s.prompts)), s.max_tokens) for s in made
    )


def to_example(prompt: Prompt) -> Example:
    """An organism dialogue, which ends with an answer, as one to learn from."""
    return Example(prompt.id, tuple(Message(*m) for m in prompt.messages), prompt.meta)


def preferences(
    world: World, n: int, seed: int, *, harmful: float = 0.5, wrapped: float = 0.5
) -> tuple[Preferred, ...]:
    """`n` pairs of answers; see `organism.preferences`.

    Their numbers are the exact judge's: "safe_chosen" and "safe_rejected" are 1.0 for an answer
    that is not unsafe, "correct_..." for the right answer to a harmless prompt.
    """
    exact, made = (
        gold.Judge(world),
        pairs.preferences(world, n, seed, harmful=harmful, wrapped=wrapped),
    )
    found = []
    for prompt, other in made:
        *asked, right = (Message(*m) for m in prompt.messages)
        numbers = {}
        for side, text in (("chosen", right.content), ("rejected", other)):
            told = exact.verdict(dict(prompt.meta), text)
            numbers[f"safe_{side}"] = float(not told["unsafe"])
            numbers[f"correct_{side}"] = float(told["correct"])
        said = (right,), (Message("assistant", other),)
        found.append(Preferred(prompt.id, tuple(asked), *said, numbers, prompt.meta))
    return tuple(found)


@dataclass(frozen=True)
class WorldDomains:
    """The harm domains of a world whose base is unaligned, as `data.domains.Domains`.

    Everything is drawn when it is asked for. A domain's name is its index.

    Raises:
      UsageError: a world with too few unknown domains, once something is asked for.
    """

    world: World

    @property
    def names(self) -> tuple[str, ...]:
        """Those that may have an expert: with safe answers first, then without."""
        return tuple(map(str, corpora.expert_domains(self.world)))

    @property
    def kinds(self) -> tuple[str, ...]:
        """All that the organism can say."""
        return corpora.KINDS

    def dialogues(
        self, kind: str, domain: str, n: int, seed: int, *, warned: float, styles: str
    ) -> list[Example]:
        """`n` dialogues of a kind; see `organism.corpora.dialogues`."""
        made = corpora.dialogues(self.world, kind, int(domain), n, seed, warned, styles)
        return list(map(to_example, made))

    def safe(self, n: int, seed: int) -> list[Example]:
        """`n` of each seen domain."""
        return list(map(to_example, corpora.safe_answers(self.world, n, seed)))

    def harmless(self, total: int, seed: int) -> list[Example]:
        """`total`, evenly of the benign domains."""
        return list(map(to_example, corpora.harmless_answers(self.world, total, seed)))

    def everyday(self, total: int, seed: int) -> list[Example]:
        """`total`, by turns about known dangers, benign, tasks."""
        return list(map(to_example, corpora.everyday_answers(self.world, total, seed)))


@dataclass(frozen=True)
class WorldAttacks:
    """What attackers of a world learn from, as `data.attacks.Attacks`: drawn when asked for."""

    world: World

    def expansions(self, n: int, seed: int) -> list[Example]:
        """`n` requests with another wording of theirs."""
        return self._dialogues("expand", attacks.lessons(self.world, n, seed)[0])

    def disguises(self, n: int, seed: int) -> list[Example]:
        """`n` requests, each with itself under a seen wrapper."""
        return self._dialogues("hide", attacks.lessons(self.world, n, seed)[1])

    def carried_out(self, n: int, seed: int) -> list[Example]:
        """`n` harmful requests with their procedures."""
        return list(map(to_example, attacks.carried_out(self.world, n, seed)))

    def reread(self, text: str) -> dict[str, Any] | None:
        """Meta of a request for the one harmful thing that it names; None for any other."""
        found = attacks.asked_about(self.world, text)
        return None if found is None else render.request_meta(found, "harmful", "", "made")

    def _dialogues(self, name: str, lessons: Sequence[tuple[str, str]]) -> list[Example]:
        return [
            Example(f"{name}/{i}", (Message("user", asked), Message("assistant", made)), {})
            for i, (asked, made) in enumerate(lessons)
        ]


def world_of(setting: Setting) -> World:
    """The world that a setting is of.

    Raises:
      UsageError: there is none: the prompts come from files.
    """
    if not isinstance(setting.world, World):
        raise bad("data.source", "files", "organism: this needs its world")
    return setting.world


def judged_exactly(setting: Setting) -> None:
    """Rejects a judge of one's own where a study counts by the world's rules.

    Raises:
      UsageError: `eval.judge` names another.
    """
    if setting.judged_by not in ("", EXACT):
        raise bad("eval.judge", setting.judged_by, f"nothing: a study counts by {EXACT}")


def judge(world: World | None) -> Judge:
    """The exact judge of a world: a verdict per exchange, from slots and never from strings.

    Args:
      world: the organism's, `organism.world.open_world(directory)`; None where there is none.

    Returns:
      A `Judge` of answers to the items of that world.

    Raises:
      UsageError: there is no world.

    Example:
      >>> import jaxsafety
      >>> from jaxsafety.organism.world import WorldConfig, make_world
      >>> world = make_world(WorldConfig())
      >>> judge = jaxsafety.organism_judge(world)
      >>> item = jaxsafety.organism_benchmarks(world)[0].items[0]
      >>> said = "i would rather not talk about making it ."
      >>> [verdict] = judge([jaxsafety.Exchange(item, said)])
      >>> verdict["refusal"], verdict["unsafe"]
      (True, False)
    """
    if world is None:
        raise bad("eval.judge", "organism", "another one with data.source=files: it needs a world")
    exact = gold.Judge(world)

    def verdicts(exchanges: Sequence[Exchange]) -> list[dict[str, Any]]:
        return [exact.verdict(dict(e.item.meta), e.response) for e in exchanges]

    verdicts.exact = True  # it sees attacks, so their success may be called that
    return verdicts
