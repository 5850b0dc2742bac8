"""What SafeSteer's paper and its authors' code ran, and how a config differs (arXiv 2606.02530).

`RUNS` has what depends on the model. Lengths, clip, warm-up, seed, precision, the floor and the
first tokens of refusals are the code's and not the paper's (docs/published.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxsafety.methods import published
from jaxsafety.methods.published import OneOf, Published, at
from jaxsafety.protocols import Difference


class Run(NamedTuple):
    """What was published for one family of models.

    Attributes:
      lr: peak learning rate.
      horizon: H, answer positions that vote.
      floor: min_steered_prob.
      openers: R, first words of refusals.
      opener_ids: R by token id. The code says that Qwen's "still need verification": of those for
        Qwen2.5 the last two are "_action" and " spokes" there.
    """

    lr: float
    horizon: int
    floor: float
    openers: tuple[str, ...] = ()
    opener_ids: tuple[int, ...] = ()


RUNS = {
    "llama3": Run(1e-6, 5, 1e-7, openers=("I",)),
    "qwen2.5": Run(1e-5, 7, 1e-8, opener_ids=(40, 2121, 7931, 11200)),
    "qwen3": Run(1e-5, 7, 1e-8, opener_ids=(40, 2121, 2753, 2132)),
}


def run(shape: str) -> Run | None:
    """The run of a model's preset ("qwen3-4b"); None for a model that was not published."""
    return next((one for family, one in RUNS.items() if shape.startswith(family)), None)


def organisms(field: str) -> Any:
    """Reads a setting of the organism's prompts, which no run on files has."""
    return lambda config: at(config, field) if at(config, "data.source") == "organism" else None


def rows(shape: str) -> list[Published]:
    """What was published for a model; of another one what was published for any of them.

    Args:
      shape: the model's preset, `model.shape`.
    """
    one, every = run(shape), RUNS.values()

    def any_of(name: str) -> Any:
        values = [getattr(each, name) for each in ((one,) if one else every)]
        return values[0] if one else OneOf(dict.fromkeys(values))

    words = one.openers if one else RUNS["llama3"].openers
    found = [
        Published("data.source", "files", "instructions of public sets"),
        Published("data.wrapped", 0.0, "all prompts are plain", read=organisms("data.wrapped")),
        Published("data.train", 128),
        Published("data.val", 32),
        Published("data.prompts", 100),
        Published("method.direction.filter", "score"),
        Published("method.direction.openers", words, "Llama; Qwen by id"),
        Published("method.direction.opener_ids", any_of("opener_ids")),
        Published("method.direction.minimum", 1, "there is no least number"),
        Published("method.direction.fallback", "error"),
        Published("method.direction.system", "none", "the bare template while extracting"),
        Published("method.direction.select.criterion", "arditi"),
        Published("method.direction.select.coefficients", (1.0,)),
        Published("method.direction.select.steers", ("all",)),
        Published("method.direction.select.prune", 0.8),
        Published("method.direction.select.steering", 0.0),
        Published("method.direction.select.kl", 0.1),
        Published(
            "method.tokens.prompts",
            OneOf(("kept", "all")),
            "the code's filtered validation prompts, or the text's 160",
        ),
        Published("method.tokens.kind", "votes"),
        Published("method.tokens.revote", 0, "S is voted once"),
        Published("method.tokens.votes.size", 50),
        Published("method.tokens.votes.top", 200),
        Published("method.tokens.votes.samples", 8),
        Published("method.tokens.votes.horizon", any_of("horizon")),
        Published("method.tokens.votes.floor", any_of("floor")),
        Published("method.tokens.votes.eot", "base_argmax", "the code's rule"),
        Published("method.tokens.votes.rollout", "teacher"),
        Published("method.tokens.votes.aggregate", "votes"),
        Published("method.tokens.votes.temperature", 1.0),
        Published("method.teacher", "steered"),
        Published("method.variant", "partial"),
        Published("method.divergence", "reverse_kl"),
        Published("method.reduction", "sequence"),
        Published("method.steps", 25),
        Published("method.prompts_per_step", 4),
        Published("method.rollouts", 8),
        Published("method.max_prompt", 512, "0 cuts none"),
        Published("method.max_tokens", 512),
        Published("method.temperature", 1.0),
        Published("method.trainable", ("base/.*",)),
        Published("optim.name", "adamw"),
        Published("optim.lr", any_of("lr")),
        Published("optim.b1", 0.9),
        Published("optim.b2", 0.999),
        Published("optim.eps", 1e-8),
        Published("optim.weight_decay", 0.0),
        Published("optim.clip", 1.0),
        Published("optim.schedule", "cosine"),
        Published("optim.warmup", 0.1),
        Published("optim.warmup_rule", "transformers"),
        Published("optim.final", 0.0),
        Published("model.dtype", "bfloat16"),
        Published("train.master", "bfloat16", "no float32 copy"),
        Published("seed", 42),
        Published("end of turn", "one id", here="all ids of the model"),
        Published("ties of the vote", "as top-k breaks them", here="by log-ratio, then id"),
    ]
    if shape.startswith("llama3"):
        two = "two, by our reading of the code"
        found.append(Published("begin of text in rollouts", two, here="one"))
    if shape.startswith("llama3.2"):
        as_is = "as the template writes them"
        found.append(Published("date lines in training", "taken out", here=as_is))
    found += [
        Published("side at which prompts are cut", None, here="left"),
        Published("system turn in the vote", None, here="as the template writes it"),
    ]
    return found


def differences(config: Mapping[str, Any]) -> list[Difference]:
    """Where a config of the program "safesteer" is not the published run."""
    return published.differences(rows(str(at(config, "model.shape"))), config)
