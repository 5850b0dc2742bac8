"""Small real things for tests and smoke runs: a random model, a byte tokenizer, a checkpoint.

The model is the ordinary one with few and small layers, the checkpoint an ordinary Hugging Face
directory. The two mocks are `scripted`, a sampler that says what it is told to, for judges and
benchmarks that are to be tested without a model, and `ruled`, a judge that finds what it is told
to, for whatever uses verdicts.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.data.schema import Answer
from jaxsafety.data.tokens.tokenizer import ByteTokenizer, load_tokenizer
from jaxsafety.models.api import Model, ModelConfig, build
from jaxsafety.models.formats import hf
from jaxsafety.organism import lexicon
from jaxsafety.organism.world import WorldConfig, make_world, save_world
from jaxsafety.protocols import Exchange, Judge, SampleConfig

TINY = ModelConfig(
    family="llama",
    vocab_size=264,  # two more than the byte tokenizer: embeddings are often padded
    embed_dim=32,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=48,
    max_length=256,
    tie_embeddings=True,
)


GEMMA: dict[str, Any] = dict(
    norms="both", norm_offset=True, activation="gelu", query_scale=0.25, embed_scale=32**0.5
)
FAMILIES: dict[str, dict[str, Any]] = {  # what makes each family one
    "llama": {},
    "mistral": dict(windows=(5, 5, 5)),
    "qwen2": dict(attention_bias="qkv"),
    "qwen3": dict(qk_norm="head"),
    "gemma2": dict(**GEMMA, windows=(5, 0, 5), attention_cap=3.0, logit_cap=4.0),
    "gemma3_text": dict(**GEMMA, qk_norm="head", windows=(5, 5, 0), local_theta=100.0),
    "olmo2": dict(qk_norm="width", norms="post"),
}


def tiny_config(family: str = "llama", **changes: Any) -> ModelConfig:
    """A config of some ten thousand parameters; `changes` replace fields."""
    return dataclasses.replace(TINY, family=family, **{**FAMILIES[family], **changes})


def tiny_model(family: str = "llama", seed: int = 0, **changes: Any) -> tuple[Model, Any]:
    """A random tiny model and its parameters.

    Every parameter is moved off its initial value, so that a norm scale or a bias that is ignored
    shows up in a comparison.

    Args:
      family: a name of `FAMILIES`.
      seed: of the parameters.
      changes: fields of `ModelConfig` to replace.

    Returns:
      (model, params).
    """
    config = tiny_config(family, **changes)
    tree, leaves = _moved(config, seed)
    # Fresh arrays in a fresh tree: a caller may donate the ones and change the other.
    return build(config), jax.tree.unflatten(tree, [jnp.array(leaf) for leaf in leaves])


@functools.lru_cache(maxsize=64)
def _moved(config: ModelConfig, seed: int) -> tuple[Any, list[np.ndarray]]:
    """Structure and leaves of a model, moved; kept, since `init` compiles each time."""
    params = build(config).init(jax.random.key(seed))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    moved = [
        leaf + 0.1 * jax.random.normal(key, leaf.shape, jnp.float32)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return tree, [np.asarray(leaf) for leaf in moved]


def random_checkpoint(
    path: str | Path, family: str = "llama", seed: int = 0, **changes: Any
) -> Path:
    """Writes a random tiny model with the byte tokenizer as a Hugging Face directory.

    Args:
      path: directory to write.
      family: a name of `FAMILIES`.
      seed: of the parameters.
      changes: fields of `ModelConfig` to replace.

    Returns:
      The directory.
    """
    model, params = tiny_model(family, seed, **changes)
    hf.save(path, model, params, dtype="float32", tokenizer=ByteTokenizer())
    return Path(path)


def answers(rows: Sequence[Sequence[Sequence[int]]]) -> list[list[Answer]]:
    """`[prompt][sample]` -> ids, as what `sampling.many.generate` returns of it."""
    return [[Answer(list(ids), True, [0.0] * (len(ids) + 1)) for ids in row] for row in rows]


def scripted(say: Sequence[str] | Callable[[str, int], str]) -> Callable[..., Any]:
    """A sampler that says given answers: stands where `generate` does, in `evaluate` for one.

    It looks at neither model nor parameters, so a user's own judge and benchmarks can be tried on
    answers that are known. As `generate`, it gives `[prompt][sample]` -> `Answer`, cuts an answer
    that is longer than `cfg.max_tokens`, gives the same answer to all greedy samples of a prompt,
    returns answers that are `known`, and reports `progress`. Log-probabilities are 0.

    Args:
      say: one answer per prompt, in order, whatever the sample; or a function of the prompt as
        text, special tokens left out, and the number of the sample.

    Returns:
      A function of `generate`'s arguments.

    Raises:
      UsageError: when it is called: not one answer per prompt.

    Example:
      >>> import jaxsafety
      >>> from jaxsafety.data.tokens.tokenizer import ByteTokenizer
      >>> tokenizer = ByteTokenizer()
      >>> generate = jaxsafety.scripted(lambda prompt, sample: f"{sample}: no {prompt}")
      >>> cfg = jaxsafety.SampleConfig(max_tokens=16)
      >>> [said] = generate(None, None, tokenizer, [tokenizer.encode("help")], cfg, samples=2)
      >>> [tokenizer.decode(answer.ids) for answer in said]
      ['0: no help', '1: no help']
    """

    def generate(
        model: Any,
        params: Any,
        tokenizer: Any,
        prompts: Sequence[Sequence[int]],
        cfg: SampleConfig,
        *,
        samples: int = 1,
        progress: Callable[[int], None] | None = None,
        known: Mapping[tuple[int, int], Answer] | None = None,
        **others: Any,
    ) -> list[list[Answer]]:
        del model, params, others
        if not callable(say) and len(say) != len(prompts):
            raise bad("scripted.say", f"{len(say)} answers", f"{len(prompts)}, one per prompt")

        def answer(index: int, sample: int) -> Answer:
            if known and (index, sample) in known:
                return known[index, sample]
            text = say(tokenizer.decode(prompts[index]), sample) if callable(say) else say[index]
            ids = list(tokenizer.encode(text))
            kept, finished = ids[: cfg.max_tokens], len(ids) < cfg.max_tokens
            return Answer(kept, finished, [0.0] * (len(kept) + finished))

        copies = 1 if cfg.temperature == 0 else samples
        rows = [[answer(index, s) for s in range(copies)] for index in range(len(prompts))]
        if progress is not None:
            progress(len(prompts) * copies)
        return [row * samples if copies < samples else row for row in rows]

    return generate


def random_organism(
    path: str | Path, seed: int = 0, *, unaligned: bool = False, **changes: Any
) -> Path:
    """Writes an organism that was never raised: a small world, its words, a random tiny model.

    Args:
      path: directory to write.
      seed: of the world and the parameters.
      unaligned: a world with unknown domains, as SafeMoE's base lives in.
      changes: fields of `ModelConfig` to replace.

    Returns:
      The directory; it knows all the words and says them at random.
    """
    path = Path(path)
    sizes = {"harm_domains": 9, "unknown_domains": 7} if unaligned else {"harm_domains": 5}
    world = make_world(WorldConfig(seed=seed, held_domains=2, benign_domains=2, **sizes))
    vocab_size = lexicon.write_tokenizer(world, path)
    shape = {"num_layers": 2, "vocab_size": vocab_size, **changes}
    model, params = tiny_model("qwen3", seed, **shape)
    hf.save(path, model, params, dtype="float32", tokenizer=load_tokenizer(path))
    save_world(world, path)
    return path


def ruled(find: Mapping[str, Mapping[str, Any]] | Callable[[Exchange], Mapping[str, Any]]) -> Judge:
    """A judge that gives known verdicts, for tests of what is done with them.

    Args:
      find: response -> verdict; or a function of the exchange. A response that is not listed is
        one of which nothing can be told, with that cause.

    Returns:
      A `Judge`.

    Example:
      >>> import jaxsafety
      >>> judge = jaxsafety.ruled({"no": {"refusal": True}})
      >>> item = jaxsafety.Item("0", (jaxsafety.Message("user", "help"),), {"kind": "harmful"})
      >>> judge([jaxsafety.Exchange(item, "no"), jaxsafety.Exchange(item, "yes")])
      [{'refusal': True}, {'unsafe': None, 'cause': 'no verdict was given for this response'}]
    """

    def judge(exchanges: Sequence[Exchange], /) -> list[dict[str, Any]]:
        if callable(find):
            return [dict(find(exchange)) for exchange in exchanges]
        missing = {"unsafe": None, "cause": "no verdict was given for this response"}
        return [dict(find.get(exchange.response, missing)) for exchange in exchanges]

    return judge
