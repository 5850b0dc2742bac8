"""How much of a route is the topic of a request, and how much whether the request is harmful.

Harmful requests stand against harmless questions about things of the same domains, as many of each
per domain. R is the expert that weighs most in an answer's token, D the domain, H harmful or not,
both of the prompt and exact. I(R;D) and I(R;H) are what the route tells of each, and with
I(R;D,H) = I(R;D) + I(R;H|D) the conditional one is what it tells of harm besides the topic. All are
plug-in estimates in nats, which are above 0 by chance: beside each stands the 95 % quantile where
labels are permuted over prompts (for I(R;H|D) within each domain), whole answers at once, as the
tokens of one are not independent. What an answer says is in its tokens, so a route that follows
the words of an answer tells of harm too. Pinned by tests/methods/test_safemoe_topics.py.
Letters: L layers, X prompts, N tokens, E experts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from jaxsafety.protocols import Context, Item

PERMUTATIONS = 200
TOLD = ("topic", "harm", "harm_given_topic")


def mutual(table: np.ndarray) -> np.ndarray:
    """I(A;B) in nats of counts [...,A,B], per leading axis; 0 of an empty table."""
    whole = np.maximum(table.sum(axis=(-2, -1), keepdims=True), 1)
    joint = table / whole
    apart = joint.sum(axis=-1, keepdims=True) * joint.sum(axis=-2, keepdims=True)
    ratio = np.divide(joint, apart, out=np.ones_like(joint), where=joint > 0)
    return (joint * np.log(ratio)).sum(axis=(-2, -1))


def conditional(table: np.ndarray) -> np.ndarray:
    """I(A;B|C) in nats of counts [...,C,A,B]: the mean over C of what is told within it."""
    size = table.sum(axis=(-2, -1))
    return (size * mutual(table)).sum(axis=-1) / np.maximum(size.sum(axis=-1), 1)


def counterparts(ctx: Context, harmful: Sequence[Item], size: int) -> tuple[list[int], list[Item]]:
    """Harmful prompts and harmless ones about things of the same domains, as many of each.

    Args:
      ctx: its setting has harmless requests about harmful things, measured ones of domains that the
        base knows and dialogues of kind "facts" of those that may have an expert.
      harmful: harmful requests, whose meta says of which domain.
      size: at most so many of either per domain.

    Returns:
      Indices into `harmful` and the harmless items; both empty where no domain has both.
    """
    wanted = Counter(int(item.meta["domain"]) for item in harmful)
    found: dict[int, list[Item]] = defaultdict(list)
    for bench in ctx.setting.own:
        for item in bench.items if bench.kind == "over_refusal" else ():
            found[int(item.meta["domain"])].append(item)
    domains = ctx.setting.domains
    if domains is not None and "facts" in domains.kinds:
        for name in domains.names:
            n = min(size, wanted[int(name)])
            asked = domains.dialogues("facts", name, n, ctx.seed, warned=0.0, styles="own")
            found[int(name)] += [Item(e.id, tuple(e.messages[:-1]), e.meta) for e in asked]
    room = {d: min(size, n, len(found[d])) for d, n in wanted.items()}
    kept, left = [], dict(room)
    for index, item in enumerate(harmful):
        domain = int(item.meta["domain"])
        if left[domain]:
            left[domain] -= 1
            kept.append(index)
    return kept, [item for d, n in sorted(room.items()) for item in found[d][:n]]


def counts(top: np.ndarray, owner: np.ndarray, prompts: int, experts: int) -> np.ndarray:
    """[L,X,E] how many tokens of each prompt weigh an expert most; top [L,N], owner [N]."""
    found = np.zeros((len(top), prompts, experts))
    for layer, chosen in enumerate(top):
        np.add.at(found[layer], (owner, chosen), 1.0)
    return found


def told(
    found: np.ndarray, domain: np.ndarray, harmful: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """What routes tell of topic and harm.

    Args:
      found: [L,X,E] tokens per prompt and heaviest expert.
      domain: [X] of each prompt.
      harmful: [X] bool.
      seed: of the permutations.

    Returns:
      "topic" I(R;D), "harm" I(R;H), "harm_given_topic" I(R;H|D), and "<name>_chance" (95 % quantile
      under permuted labels), each [L] in nats.
    """
    names, place = np.unique(domain, return_inverse=True)
    harm, one, two = np.asarray(harmful, int), np.eye(len(names)), np.eye(2)
    rng = np.random.default_rng(seed)

    def topic(place: np.ndarray) -> np.ndarray:
        return mutual(np.einsum("xg,lxe->lge", one[place], found))

    def harm_alone(harm: np.ndarray) -> np.ndarray:
        return mutual(np.einsum("xh,lxe->lhe", two[harm], found))

    def harm_beside(harm: np.ndarray) -> np.ndarray:
        return conditional(np.einsum("xg,xh,lxe->lghe", one[place], two[harm], found))

    measured = (topic(place), harm_alone(harm), harm_beside(harm))
    draws = []
    for _ in range(PERMUTATIONS):
        within = harm.copy()
        for group in range(len(names)):
            rows = np.flatnonzero(place == group)
            within[rows] = rng.permutation(harm[rows])
        shuffled = rng.permutation(place), rng.permutation(harm)
        draws.append([topic(shuffled[0]), harm_alone(shuffled[1]), harm_beside(within)])
    chance = np.quantile(np.array(draws), 0.95, axis=0)
    ends = {f"{name}_chance": value for name, value in zip(TOLD, chance, strict=True)}
    return dict(zip(TOLD, measured, strict=True)) | ends
