"""Safety alignment of chat models in JAX: train, sample, measure.

The names of `PUBLIC` are stable; `docs/api.md` shows them. Everything else is imported by its
module, and may move. Nothing heavy is imported until it is used, so the command line starts fast.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxsafety.benchmarks.organism import benchmarks as organism_benchmarks
    from jaxsafety.benchmarks.organism import judge as organism_judge
    from jaxsafety.core.errors import UsageError
    from jaxsafety.core.settings import SampleConfig
    from jaxsafety.core.sharding import MeshConfig, make_mesh
    from jaxsafety.data.items import Benchmark, Exchange, Item, Judge
    from jaxsafety.data.schema import Example, Message
    from jaxsafety.data.tokens.encode import encode_example, encode_prompt
    from jaxsafety.evaluation.evaluate import Decoding, evaluate
    from jaxsafety.experiment.run import run
    from jaxsafety.judges.refusals import refuses
    from jaxsafety.judges.rules import judge as rules_judge
    from jaxsafety.losses.divergence import divergence
    from jaxsafety.losses.logprobs import nll, token_logp
    from jaxsafety.losses.profile import subset_mass, token_kl_profile
    from jaxsafety.losses.weights import sequence_weights, token_weights
    from jaxsafety.mitigations.chain import chain
    from jaxsafety.models.api import Model
    from jaxsafety.models.formats.load import export, load
    from jaxsafety.models.types import LayerInputs
    from jaxsafety.protocols import Mitigation
    from jaxsafety.sampling.ask import ask
    from jaxsafety.sampling.decode import sample
    from jaxsafety.sampling.many import generate
    from jaxsafety.sampling.prompts import pad_prompts, row_keys
    from jaxsafety.testing import ruled, scripted
    from jaxsafety.train.likelihood import answer_loss

__version__ = "0.1.0"
__all__ = [
    "Benchmark",
    "Decoding",
    "Example",
    "Exchange",
    "Item",
    "Judge",
    "LayerInputs",
    "MeshConfig",
    "Message",
    "Mitigation",
    "Model",
    "SampleConfig",
    "UsageError",
    "__version__",
    "answer_loss",
    "ask",
    "chain",
    "divergence",
    "encode_example",
    "encode_prompt",
    "evaluate",
    "export",
    "generate",
    "load",
    "make_mesh",
    "nll",
    "organism_benchmarks",
    "organism_judge",
    "pad_prompts",
    "refuses",
    "row_keys",
    "ruled",
    "rules_judge",
    "run",
    "sample",
    "scripted",
    "sequence_weights",
    "subset_mass",
    "token_kl_profile",
    "token_logp",
    "token_weights",
]

# Where each public name lives, by the headings of docs/api.md; it is imported when first asked for.
GROUPS: Mapping[str, Mapping[str, str]] = {
    "Models": {
        "load": "jaxsafety.models.formats.load:load",
        "export": "jaxsafety.models.formats.load:export",
        "Model": "jaxsafety.models.api:Model",
        "LayerInputs": "jaxsafety.models.types:LayerInputs",
        "MeshConfig": "jaxsafety.core.sharding:MeshConfig",
        "make_mesh": "jaxsafety.core.sharding:make_mesh",
    },
    "Dialogues": {
        "Message": "jaxsafety.data.schema:Message",
        "Example": "jaxsafety.data.schema:Example",
        "encode_prompt": "jaxsafety.data.tokens.encode:encode_prompt",
        "encode_example": "jaxsafety.data.tokens.encode:encode_example",
    },
    "Sampling": {
        "SampleConfig": "jaxsafety.core.settings:SampleConfig",
        "generate": "jaxsafety.sampling.many:generate",
        "sample": "jaxsafety.sampling.decode:sample",
        "row_keys": "jaxsafety.sampling.prompts:row_keys",
        "pad_prompts": "jaxsafety.sampling.prompts:pad_prompts",
        "ask": "jaxsafety.sampling.ask:ask",
    },
    "Losses": {
        "divergence": "jaxsafety.losses.divergence:divergence",
        "nll": "jaxsafety.losses.logprobs:nll",
        "token_logp": "jaxsafety.losses.logprobs:token_logp",
        "token_weights": "jaxsafety.losses.weights:token_weights",
        "sequence_weights": "jaxsafety.losses.weights:sequence_weights",
        "subset_mass": "jaxsafety.losses.profile:subset_mass",
        "token_kl_profile": "jaxsafety.losses.profile:token_kl_profile",
        "answer_loss": "jaxsafety.train.likelihood:answer_loss",
    },
    "Training": {
        "run": "jaxsafety.experiment.run:run",
        "Mitigation": "jaxsafety.protocols:Mitigation",
        "chain": "jaxsafety.mitigations.chain:chain",
    },
    "Measuring": {
        "Item": "jaxsafety.data.items:Item",
        "Exchange": "jaxsafety.data.items:Exchange",
        "Benchmark": "jaxsafety.data.items:Benchmark",
        "Decoding": "jaxsafety.evaluation.evaluate:Decoding",
        "evaluate": "jaxsafety.evaluation.evaluate:evaluate",
        "organism_benchmarks": "jaxsafety.benchmarks.organism:benchmarks",
    },
    "Judges": {
        "Judge": "jaxsafety.data.items:Judge",
        "rules_judge": "jaxsafety.judges.rules:judge",
        "organism_judge": "jaxsafety.benchmarks.organism:judge",
        "refuses": "jaxsafety.judges.refusals:refuses",
    },
    "Errors and tests": {
        "UsageError": "jaxsafety.core.errors:UsageError",
        "scripted": "jaxsafety.testing:scripted",
        "ruled": "jaxsafety.testing:ruled",
    },
}
PUBLIC = {name: where for group in GROUPS.values() for name, where in group.items()}


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = PUBLIC[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
