"""Many prompts of any length, completed: as calls of `sample`, or as rows that come and go.

Rows are sorted by length; greedy samples of one prompt are made once. Where there are more rows
than one call holds, and no mesh, a row that has ended gives its place to the next prompt
(`continuous`); else a call follows the other. Letters: B rows of a call, G of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core import sharding
from jaxsafety.core.errors import bad
from jaxsafety.data.schema import Answer, PromptBatch
from jaxsafety.models.api import Cache, LayerInputs, Model, unstacked
from jaxsafety.protocols import SampleConfig
from jaxsafety.sampling import continuous, decode, heads, processors
from jaxsafety.sampling.engine import Call
from jaxsafety.sampling.prompts import buckets, key_data, pad_prompts

PyTree = Any
ROUND = 32  # slots: one compiled step for lists of prompts of nearly the same length; x 2 unrolled


def generate(
    model: Model,
    params: PyTree,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    cfg: SampleConfig,
    *,
    seed: int,
    step: int = 0,
    samples: int = 1,
    batch_size: int = 64,
    layers: LayerInputs = LayerInputs(),
    steer: str = "all",
    names: Sequence[int] | None = None,
    progress: Callable[[int], None] | None = None,
    known: Mapping[tuple[int, int], Answer] | None = None,
    keep: Callable[[int, list[tuple[int, int, Answer]]], None] | None = None,
    inside: Callable[[int, int, int], None] | None = None,
) -> list[list[Answer]]:
    """Completes many prompts of any length with one compilation per prompt-length bucket.

    Rows are sorted by length, and fewer than `batch_size` use the next power of two. Of more than
    that, prompts are read in groups of an eighth of it, once for all samples, and step together in
    [batch_size] rows, each of which goes to the next answer when its own ends. On a mesh, and for
    answers of less than `continuous.LEAST` tokens, calls of [batch_size, a bucket] follow each
    other, the last one filled with copies. Greedy samples of one prompt are equal and computed
    once.

    Args:
      model: the model.
      params: its parameters.
      tokenizer: anything with `pad_id`.
      prompts: token ids, generation prompt included (`encode_prompt`).
      cfg: decoding options.
      seed: of all random numbers, see `row_keys`.
      step: another one gives fresh samples under the same seed, see `row_keys`.
      samples: completions per prompt.
      batch_size: rows per call; changes speed, not results.
      layers: steering, ablation, adapters; see `decode.sample`.
      steer: where `layers.add` is added: "all" positions, or the "prompt"'s only.
      names: integers that key the prompts' randomness; their index by default.
      progress: called with the number of finished rows (prompts x samples) after every lot.
      known: (prompt, sample) -> answer, what an earlier start found; a call, or a lot of an eighth
        of `batch_size`, all of whose rows are known is not made, and the others get the answers
        that they would have got.
      keep: called with every lot of answers (prompt, sample, answer) that was made, as it ends: a
        call, or an eighth of `batch_size`; and a number that no other lot has. Not where one call
        holds all.
      inside: called with (rows, tokens so far, at most) while answers are made; it may raise.

    Returns:
      `[prompt][sample]` -> `Answer`, in input order.

    Raises:
      UsageError: a prompt that does not fit the model's context beside `cfg.max_tokens`.

    Example:
      >>> import jaxsafety
      >>> model, params, tokenizer = jaxsafety.load()
      >>> chat = [jaxsafety.Message("user", "what is 11 plus 10 ?")]
      >>> ids = jaxsafety.encode_prompt(tokenizer, chat)
      >>> stop = tuple(tokenizer.eos_ids)
      >>> cfg = jaxsafety.SampleConfig(max_tokens=16, temperature=0.0, stop=stop)
      >>> [[answer]] = jaxsafety.generate(model, params, tokenizer, [ids], cfg, seed=0)
      >>> tokenizer.decode(answer.ids), answer.finished
      ('the answer is 21 .', True)
    """
    limit = model.config.max_length - cfg.max_tokens
    for prompt in prompts:
        if not 0 < len(prompt) <= limit:
            allowed = f"1..{limit} tokens (context {model.config.max_length}, "
            raise bad("prompt", f"{len(prompt)} tokens", f"{allowed}{cfg.max_tokens} to generate)")
    names = range(len(prompts)) if names is None else names
    copies = 1 if cfg.temperature == 0 else samples
    result = [[Answer([], False, []) for _ in range(samples)] for _ in prompts]
    if cfg.max_tokens == 0:
        return result
    rows = [(index, s) for index in range(len(prompts)) for s in range(copies)]
    # Longest first: rows of a call share a bucket and tend to finish together, and only the last
    # call, of the shortest prompts, is filled up. A short prompt may ride in a longer one's bucket.
    rows.sort(key=lambda row: (-len(prompts[row[0]]), row))
    mesh = sharding.mesh_of(params)
    ways = sharding.rows(mesh)  # each device gets rows of its own
    batch_size = min(batch_size, 1 << max(len(rows) - 1, 0).bit_length())
    batch_size = -(-batch_size // ways) * ways
    seated = mesh is None and len(rows) > batch_size and cfg.max_tokens >= continuous.LEAST
    skip = heads.worth(model, layers, prompts, len(prompts) if seated else len(rows))

    def padded(part: Sequence[int], count: int, span: int) -> PromptBatch:
        full = [*part, *[part[-1]] * (count - len(part))]
        return pad_prompts([prompts[i][skip:] for i in full], tokenizer.pad_id, [span])

    keys = key_data(seed, step, [names[i] for i, _ in rows], [s for _, s in rows])
    known = known or {}
    work = Work(
        *(model, params, cfg, layers, steer, prompts, skip),
        *(rows, keys, copies, known, batch_size, padded),
    )
    done = 0
    for part in (_continuous if seated else _calls)(work, inside):
        for place, answer in part:
            index, s = rows[place]
            result[index][s] = answer
        fresh = [(place, a) for place, a in part if rows[place] not in known]
        if fresh and keep is not None and len(rows) > batch_size:
            keep(min(p for p, _ in fresh), [(*rows[p], a) for p, a in fresh])
        done += len(part)
        if progress is not None:
            progress(done)
    if copies < samples:
        result = [[row[0]] * samples for row in result]
    return result


Row = tuple[int, int]  # a prompt's number, and which sample of it
Said = Iterator[list[tuple[int, Answer]]]  # places among the rows, and what was answered there


class Work(NamedTuple):
    """What `generate` has to do.

    Attributes:
      model: static.
      params: of the model.
      cfg: decoding options.
      layers: see `decode.sample`.
      steer: see `decode.sample`.
      prompts: token ids.
      skip: how many of them all begin with, that are read once.
      rows: what is answered, longest prompt first; samples of a prompt follow each other.
      keys: of each of them, `prompts.key_data`.
      copies: samples of every prompt.
      known: answers that an earlier start found.
      batch_size: rows at once.
      padded: (numbers of prompts, how many with copies of the last, width) -> their batch.
    """

    model: Model
    params: PyTree
    cfg: SampleConfig
    layers: LayerInputs
    steer: str
    prompts: Sequence[Sequence[int]]
    skip: int
    rows: Sequence[Row]
    keys: np.ndarray
    copies: int
    known: Mapping[Row, Answer]
    batch_size: int
    padded: Callable[[Sequence[int], int, int], PromptBatch]

    def spans(self, numbers: Sequence[int], count: int) -> list[int]:
        """The width of every `count` of these prompts."""
        config = self.model.config
        widths = buckets(config.max_length - self.cfg.max_tokens - self.skip)
        lengths = [len(self.prompts[i]) - self.skip for i in numbers]
        return heads.spans(lengths, count, widths, self.model)

    def head(self) -> Cache | None:
        """The cache of what all prompts begin with."""
        if not self.skip:
            return None
        ids = self.prompts[0][: self.skip]
        return heads.read(self.model, self.params, ids, self.layers, self.steer)

    def split(self) -> PyTree:
        """The parameters as steps take them."""
        config = self.model.config
        return unstacked(config, self.params, self.batch_size) if config.unroll else self.params


def _calls(work: Work, inside: Callable[[int, int, int], None] | None) -> Said:
    """A call of `decode.sample` after the other.

    What all calls share is made at the first: the head's cache, and parameters that are unstacked
    already, which compiles twice as fast as unstacking them within every call.
    """
    model, cfg = work.model, work.cfg
    options = (cfg, work.layers, work.steer)
    once: dict[str, Any] = {}
    starts = range(0, len(work.rows), work.batch_size)
    spans = work.spans([i for i, _ in work.rows], work.batch_size)
    for start, span in zip(starts, spans, strict=True):
        part = work.rows[start : start + work.batch_size]
        if all(row in work.known for row in part):
            yield [(start + n, work.known[row]) for n, row in enumerate(part)]
            continue
        batch = work.padded([i for i, _ in part], work.batch_size, span)
        own = _filled(work.keys[start : start + work.batch_size], work.batch_size)
        keys = jax.random.wrap_key_data(jnp.asarray(own))
        batch, keys = sharding.beside(work.params, (batch, keys))  # each device its own rows
        look = None if inside is None else partial(inside, len(part))
        if work.skip or model.config.unroll:
            once = once or {"head": work.head(), "split": work.split()}
            args = decode.arguments(model, work.params, batch, keys, *options)
            out = decode.pieces(args, look if cfg.max_tokens > decode.PIECE else None, **once)
        else:
            out = decode.sample(model, work.params, batch, keys, *options, look)
        yield list(enumerate(decode.answers(out, span)[: len(part)], start))


def _continuous(work: Work, inside: Callable[[int, int, int], None] | None) -> Said:
    """Rows that give their places to the next: see `continuous`."""
    model, cfg, rows = work.model, work.cfg, work.rows
    processors.check(cfg, model.config.vocab_size)
    count = continuous.size(work.batch_size)
    order = [i for i, _ in rows[:: work.copies]]
    spans, beside = work.spans(order, count), work.skip + cfg.max_tokens
    wide = [span for span in spans for _ in range(work.copies)][: -(-len(rows) // count)]  # of lots
    few = (8 if model.config.unroll else 4) * continuous.SHARE  # of unrolled steps another is dear
    call = Call(model, cfg.max_tokens, tuple(cfg.stop), tuple(cfg.banned), work.steer)
    head, split = work.head(), work.split()
    for stretch in continuous.stretches(wide, beside, few):
        lots = []
        for i in stretch:
            numbers = range(i * count, min((i + 1) * count, len(rows)))
            if all(rows[n] in work.known for n in numbers):
                yield [(n, work.known[rows[n]]) for n in numbers]
                continue
            group = i // work.copies
            asked = order[group * count : (group + 1) * count]
            lots.append(_lot(work, group, asked, numbers, count, wide[i]))
        if not lots:
            continue
        found = continuous.answers(
            call,
            work.params,
            split,
            work.layers,
            lots,
            batch_size=work.batch_size,
            slots=_slots(work, wide[stretch.start], stretch.start * count),
            heat=cfg.temperature,
            share=cfg.top_p,
            head=head,
            look=None if inside is None else lambda n, tokens: inside(n, tokens, cfg.max_tokens),
        )
        lot: list[tuple[int, Answer]] = []
        for said in found:
            lot.append(said)
            if len(lot) == count:
                yield lot
                lot = []
        if lot:
            yield lot


def _lot(
    work: Work, group: int, asked: Sequence[int], numbers: range, count: int, span: int
) -> continuous.Lot:
    """Some rows of a group, whose prompts `asked` are read with this width."""
    which = np.asarray([n // work.copies - group * count for n in numbers], np.int32)
    keys = work.keys[numbers.start : numbers.stop]
    prompts = partial(work.padded, asked, count, span)
    return continuous.Lot(numbers, group, prompts, _filled(which, count), _filled(keys, count))


def _filled(x: np.ndarray, count: int) -> np.ndarray:
    """`count` rows, with copies of the last."""
    return np.concatenate([x, np.repeat(x[-1:], count - len(x), axis=0)])


def _slots(work: Work, span: int, first: int) -> int:
    """Slots of the cache for the rows from `first` on: those that the longest can fill.

    A multiple of `ROUND`, and no fewer than a group is read with; padding takes none later.
    """
    longest = len(work.prompts[work.rows[first][0]]) + work.cfg.max_tokens
    step = ROUND * (2 if work.model.config.unroll else 1)
    return max(work.skip + span, -(-longest // step) * step)
