"""What SafeMoE's paper trained, and how a config differs from it (arXiv 2606.00686).

No code of it was published. What the paper does not give is listed as such: there a config has
what is common practice, and is neither right nor wrong. Labels and sizes that are ours are told in
docs/published.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaxsafety.adapters.routing import ROUTED
from jaxsafety.methods import published
from jaxsafety.methods.published import OneOf, Published, at
from jaxsafety.protocols import Difference

EXPERT_STEPS = "5 epochs of 10,000 pairs; rows of 16 are ours"
COUNTS = OneOf((4, 10, 18))  # experts of SafeMoE-4, -L and -XL
EPOCHS, PAIRS = 5, 10_000  # of an expert, over its category's pairs


def trained(field: str) -> Callable[[Mapping[str, Any]], Any]:
    """Reads a setting of experts that this run trains; directories of PEFT have their own."""
    return lambda config: None if at(config, "method.experts.paths") else at(config, field)


def organisms(field: str) -> Callable[[Mapping[str, Any]], Any]:
    """Reads a setting of the organism's answers, which no run on files has."""
    return lambda config: at(config, field) if at(config, "data.source") == "organism" else None


def count(config: Mapping[str, Any]) -> Any:
    """How many experts there are."""
    paths = at(config, "method.experts.paths")
    own = len(paths) if isinstance(paths, (list, tuple)) else 0
    return own or at(config, "method.experts.count")


def of_experts(field: str, value: Any, why: str = "") -> Published:
    """A row about experts that the run trains."""
    return Published(f"method.experts.{field}", value, why, read=trained(f"method.experts.{field}"))


ROWS = (
    Published("data.source", "files", "categories of PKU-SafeRLHF, answers of GPT-4"),
    Published("model.template", "raw", "no chat template", read=published.template),
    Published("method.experts.count", COUNTS, "-XL-Knowledge has four more", read=count),
    of_experts("kind", "unsafe"),
    of_experts("rank", 32),
    of_experts("alpha", 64.0),
    of_experts("targets", ROUTED),
    of_experts("lr", 2e-4),
    of_experts("steps", EPOCHS * PAIRS // 16, EXPERT_STEPS),
    Published("method.experts.everyday", 0, read=organisms("method.experts.everyday")),
    Published("method.gate", "router"),
    Published("method.routing.top", 2),
    Published("method.routing.softmax", "selected"),
    Published("method.routing.level", "token"),
    Published("method.null", False, "no expert that does nothing"),
    Published("method.always", 0, "no adapter beside the experts"),
    Published("method.samples", 200, "per category", read=organisms("method.samples")),
    Published("method.harmless", 0),
    Published("method.everyday", 0),
    Published("method.steps", 2000, "10 epochs of 4 x 200 answers"),
    Published("method.rows", 4),
    Published("optim.name", "adamw"),
    Published("optim.lr", 1e-4, "of the router"),
    Published("model.path", None, 'the paper says "Mistral-7B" and "Qwen-3B"'),
    Published("method.places", None, '"a router at each layer", over three linears'),
    Published("method.std", None),
    of_experts("rows", None),
    of_experts("length", None),
    Published("method.experts.warned", None, read=organisms("method.experts.warned")),
    Published("method.length", None),
    Published("optim.schedule", None),
    Published("optim.warmup", None),
    Published("optim.warmup_rule", None),
    Published("optim.clip", None),
    Published("model.dtype", None),
    Published("train.master", None),
)
# One expert of the first stage, trained alone by the program "sft".
EXPERT = (
    Published("model.template", "raw", "no chat template", read=published.template),
    Published("method.unsafe", True),
    Published("method.rank", 32),
    Published("method.alpha", 64.0),
    Published("method.targets", ROUTED),
    Published(
        "method.steps", EPOCHS * PAIRS // 16, "5 epochs of 10,000 pairs; rows of 16 are ours"
    ),
    Published("optim.lr", 2e-4),
    Published("model.path", None, 'the paper says "Mistral-7B" and "Qwen-3B"'),
    Published("method.rows", None),
    Published("method.length", None),
    Published("optim.name", None),
    Published("optim.schedule", None),
    Published("optim.warmup", None),
    Published("optim.clip", None),
    Published("model.dtype", None),
    Published("train.master", None),
)


def differences(config: Mapping[str, Any]) -> list[Difference]:
    """Where a config of the program "safemoe" is not what was published."""
    return published.differences(ROWS, config)


def of_expert(config: Mapping[str, Any]) -> list[Difference]:
    """Where a config of the program "sft" is not the training of an expert as published."""
    return published.differences(EXPERT, config)
