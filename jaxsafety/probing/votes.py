"""Stage C of SafeSteer: the safety-token set S, voted by the steered teacher on harmless prompts.

SafeSteer (arXiv 2606.02530), C1 to C6 of docs/published.md. Where paper and published code differ
the choice is a named option: `eot` ("base_argmax" is the code, "trajectory" the paper's wording),
`floor` (code only), `rollout` ("base" is the paper's ablation). Different from both: ties are
broken by (votes, mean log-ratio, id), so S is deterministic.

Letters: X rollouts, B rollouts in a batch, H predictive positions of a rollout, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import trees
from jaxsafety.core.errors import bad
from jaxsafety.core.progress import Progress
from jaxsafety.models.api import LayerInputs, Model
from jaxsafety.probing.pieces import ALONE, Pieces
from jaxsafety.probing.rollouts import Arms, Generate, Scores, roll_out, score
from jaxsafety.protocols import SampleConfig

PyTree = Any
EOT_RULES = ("base_argmax", "trajectory")
ROLLOUTS = ("teacher", "base")
AGGREGATES = ("votes", "mean")
KEEP = 1 << 26  # scores [X,H,V] up to this many are kept between the two passes, not recomputed


@dataclass(frozen=True)
class VoteConfig:
    """Knobs of the vote.

    `size` of S; `top` = K' ids each position votes for; `samples` = N per prompt; `horizon` = H;
    `floor`: lowest mean teacher probability; `eot`, `rollout`: see the module's text; `aggregate`
    "mean" ranks by mean log-ratio instead of votes; `temperature` of the rollouts.
    """

    size: int = 50
    top: int = 200
    samples: int = 8
    horizon: int = 7
    floor: float = 1e-8
    eot: str = "base_argmax"
    rollout: str = "teacher"
    aggregate: str = "votes"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Rejects values outside their range."""
        for name in ("size", "top", "samples", "horizon"):
            if getattr(self, name) < 1:
                raise bad(f"votes.{name}", getattr(self, name), ">= 1")
        if not 0 <= self.floor < 1:
            raise bad("votes.floor", self.floor, "a probability, 0 or more and less than 1")
        if not self.temperature >= 0:
            raise bad("votes.temperature", self.temperature, "0 (greedy) or more")
        for name, known in (("eot", EOT_RULES), ("rollout", ROLLOUTS), ("aggregate", AGGREGATES)):
            if getattr(self, name) not in known:
                raise bad(f"votes.{name}", getattr(self, name), ", ".join(known))


class Tally(NamedTuple):
    """Per token of the vocabulary, over valid positions: votes, mean log p_t - log p_0, mean p_t.

    All [V]; `positions` is how many positions were valid, `eligible` which tokens may enter S,
    `banned` which never may (None: not known; `eligible` also asks for the floor).
    """

    votes: np.ndarray
    mean_log_ratio: np.ndarray
    mean_teacher_prob: np.ndarray
    eligible: np.ndarray
    positions: int
    banned: np.ndarray | None = None


class TokenSet(NamedTuple):
    """S, by falling rank; parallel tuples of ids, votes, statistics and vocabulary strings."""

    ids: tuple[int, ...]
    votes: tuple[int, ...]
    mean_log_ratio: tuple[float, ...]
    mean_teacher_prob: tuple[float, ...]
    tokens: tuple[str, ...] = ()


@partial(jax.jit, static_argnames=("top",))
def _count(delta, valid, eligible, top):
    """Votes [V]: each valid position votes for its `top` eligible ids of largest log-ratio."""
    masked = jnp.where(eligible, delta, -jnp.inf)
    values, ids = jax.lax.top_k(masked, top)
    ballots = (valid[..., None] & (values > -jnp.inf)).astype(jnp.int32)
    return jnp.zeros(delta.shape[-1], jnp.int32).at[ids.reshape(-1)].add(ballots.reshape(-1))


def tally(batches: Callable[[], Any], banned: np.ndarray, cfg: VoteConfig) -> Tally:
    """Counts votes over batches of scores, in two passes: the floor needs the means first (C4, C5).

    Args:
      batches: returns a fresh iterator of `Scores` each time it is called (twice), so that [X,H,V]
        need never exist at once.
      banned: [V] bool, ids that may not enter.
      cfg: knobs.

    Raises:
      UsageError: no valid position at all.
    """
    prob, ratio, positions = 0.0, 0.0, 0
    for s in batches():
        valid = trees.host(s.valid)
        prob = prob + trees.host(s.teacher_prob).astype(np.float64)[valid].sum(axis=0)
        ratio = ratio + trees.host(s.delta).astype(np.float64)[valid].sum(axis=0)
        positions += int(valid.sum())
    if positions == 0:
        raise bad("token_set", "no valid position", "rollouts that do not end before they begin")
    mean_prob = np.asarray(prob) / positions
    banned = np.asarray(banned, bool)
    eligible = ~banned & (mean_prob >= cfg.floor)
    votes = np.zeros(len(mean_prob), np.int64)
    top = min(cfg.top, len(mean_prob))
    for s in batches():
        votes += trees.host(_count(jnp.asarray(s.delta), jnp.asarray(s.valid), eligible, top))
    return Tally(votes, np.asarray(ratio) / positions, mean_prob, eligible, positions, banned)


def elect(result: Tally, cfg: VoteConfig, names: Callable[[int], str] | None = None) -> TokenSet:
    """The `size` ids with most votes; ids without a vote are dropped, so S may be smaller.

    Args:
      result: from `tally`.
      cfg: knobs.
      names: id -> vocabulary string, for people.

    Raises:
      UsageError: no id qualifies; says which condition emptied the set.
    """
    ids = np.flatnonzero(result.eligible & (result.votes > 0))
    if not len(ids):
        given = f"no token ({int(result.eligible.sum())} eligible, {result.positions} positions)"
        raise bad("token_set", given, f"mean teacher probability >= {cfg.floor:g} and not banned")
    votes, ratio = result.votes[ids], result.mean_log_ratio[ids]
    first = -votes if cfg.aggregate == "votes" else -ratio
    second = -ratio if cfg.aggregate == "votes" else -votes
    return token_set(result, ids[np.lexsort((ids, second, first))][: cfg.size], names)


def token_set(
    result: Tally, ids: np.ndarray, names: Callable[[int], str] | None = None
) -> TokenSet:
    """Writes down chosen ids with their statistics, in the order given."""
    return TokenSet(
        ids=tuple(ids.tolist()),
        votes=tuple(result.votes[ids].tolist()),
        mean_log_ratio=tuple(result.mean_log_ratio[ids].tolist()),
        mean_teacher_prob=tuple(result.mean_teacher_prob[ids].tolist()),
        tokens=tuple(names(int(i)) for i in ids) if names else (),
    )


def vote(
    delta: Any, teacher_prob: Any, valid: Any, cfg: VoteConfig, banned: Any = None
) -> TokenSet:
    """The voting rule on arrays: log-ratios and teacher probabilities [X,H,V], validity [X,H]."""
    banned = np.zeros(np.shape(delta)[-1], bool) if banned is None else np.asarray(banned)
    return elect(tally(lambda: iter([Scores(delta, teacher_prob, valid)]), banned, cfg), cfg)


def banned_tokens(tokenizer: Any, vocab_size: int) -> np.ndarray:
    """[V] bool: special ids, strings that contain "<|", and ids beyond the tokenizer (C4)."""
    banned = np.zeros(vocab_size, bool)
    known = min(vocab_size, tokenizer.vocab_size)
    banned[known:] = True
    banned[[i for i in tokenizer.special_ids if i < vocab_size]] = True
    banned[[i for i in range(known) if "<|" in tokenizer.token(i)]] = True
    return banned


def measure(
    model: Model,
    params: PyTree,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    teacher: LayerInputs,
    cfg: VoteConfig,
    *,
    generate: Generate,
    stop: Sequence[int],
    steer: str = "all",
    seed: int = 0,
    batch_size: int = 32,
    log: Callable[[str], None] | None = None,
    pieces: Pieces = ALONE,
    student: PyTree = None,
) -> Tally:
    """Rolls out, scores and counts (C1-C5).

    Args:
      model: the model.
      params: base parameters; the teacher is the same ones with `teacher` layer inputs.
      tokenizer: `pad_id`, `special_ids`, `vocab_size`, `token`.
      prompts: harmless prompt ids (C6 is the caller's choice of them).
      teacher: steering inputs.
      cfg: knobs.
      generate: the sampler, `jaxsafety.sampling.many.generate`.
      stop: end-of-turn ids.
      steer: "all" or "prompt", for rollouts and scoring alike.
      seed: of the rollouts.
      batch_size: rollouts per forward pass.
      log: where to say how many positions were valid.
      pieces: how the loops are told of and ended; nothing of them is kept.
      student: parameters that the teacher is compared with in place of the base's; its answers are
        those of rollouts "base" too.

    Returns:
      `Tally` over the vocabulary, from which `elect` takes S.
    """
    if not prompts:
        raise bad("token_set.prompts", "none", "at least one harmless prompt")
    stop = tuple(sorted(set(stop)))
    trajectory = cfg.eot == "trajectory"
    decoding = SampleConfig(
        max_tokens=cfg.horizon - 1,
        temperature=cfg.temperature,
        stop=stop if trajectory else (),
        banned=() if trajectory else stop,  # the end of turn is suppressed while sampling
    )
    layers = teacher if cfg.rollout == "teacher" else LayerInputs()
    arms = Arms(model, params, teacher, steer, None if trajectory else stop, student)
    own = student is not None and cfg.rollout == "base"
    rollouts = roll_out(
        generate,
        arms._replace(params=student) if own else arms,
        tokenizer,
        prompts,
        decoding,
        layers,
        samples=cfg.samples,
        seed=seed,
        batch_size=batch_size,
        pieces=pieces,
    )
    total, vocab = len(prompts) * cfg.samples, model.config.vocab_size
    once = total * cfg.horizon * vocab <= KEEP
    lines = log or pieces.log
    with Progress(lines, "token set: votes", total=total * (2 - once), unit="rollouts") as progress:
        done = 0

        def batches() -> Iterator[Scores]:
            nonlocal done
            for scores in score(
                arms, prompts, rollouts, cfg.horizon, tokenizer.pad_id, batch_size, pieces.check
            ):
                yield scores
                done += len(scores.valid)
                progress(done)

        kept = list(batches()) if once else []
        again = (lambda: iter(kept)) if once else batches
        result = tally(again, banned_tokens(tokenizer, vocab), cfg)
    if log is not None:
        log(
            f"token set: {total} rollouts, {result.positions} of {total * cfg.horizon} "
            f"positions valid, {int(result.eligible.sum())} tokens eligible"
        )
    return result


def select(
    model: Model,
    params: PyTree,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    teacher: LayerInputs,
    cfg: VoteConfig,
    **options: Any,
) -> TokenSet:
    """`measure`, then `elect`: S with its vocabulary strings. Arguments and errors as theirs."""
    result = measure(model, params, tokenizer, prompts, teacher, cfg, **options)
    return elect(result, cfg, tokenizer.token)
