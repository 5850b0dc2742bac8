"""What can be chosen by name: literal tables of `name -> "module:attribute"`, imported on demand.

A table can be searched with grep, costs no import and lets one test resolve every entry. To add a
method, mitigation, family, judge, benchmark or tracker: write its file and one line here. The
papers that it follows it declares itself, for `jaxsafety cite`: `PAPERS`, arXiv id -> at which of
its settings that one is used ("" always; `report/citing.py`).
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from typing import Any

from jaxsafety.core.errors import UsageError, bad

METHODS = {
    "anchored": "jaxsafety.studies.anchored:METHOD",
    "dpo": "jaxsafety.methods.dpo:METHOD",
    "safesteer": "jaxsafety.methods.safesteer:METHOD",
    "safemoe": "jaxsafety.methods.safemoe:METHOD",
    "safemoe_controls": "jaxsafety.studies.safemoe_controls:METHOD",
    "selfmoa": "jaxsafety.methods.selfmoa:METHOD",
    "sft": "jaxsafety.methods.sft:METHOD",
    "safesteer_attacked": "jaxsafety.studies.safesteer_attacked:METHOD",
    "safesteer_controls": "jaxsafety.studies.safesteer_controls:METHOD",
    "weak_supervision": "jaxsafety.studies.weak_supervision:METHOD",
    "safesteer_vanishing": "jaxsafety.studies.safesteer_vanishing:METHOD",
}

# a frozen dataclass of its settings, whose `mitigation()` is a protocols.Mitigation
MITIGATIONS = {
    "anchor": "jaxsafety.mitigations.anchor:Anchor",
    "booster": "jaxsafety.mitigations.booster:Booster",
    "circuit_breakers": "jaxsafety.mitigations.circuit_breakers:CircuitBreakers",
    "constrained": "jaxsafety.mitigations.constrained:Constrained",
    "dpo": "jaxsafety.methods.dpo.repair:Dpo",
    "ema": "jaxsafety.mitigations.ema:Ema",
    "ewc": "jaxsafety.mitigations.ewc:Ewc",
    "interpolation": "jaxsafety.mitigations.interpolation:Interpolation",
    "kl": "jaxsafety.mitigations.kl:Kl",
    "lisa": "jaxsafety.mitigations.lisa:Lisa",
    "mixing": "jaxsafety.mitigations.mixing:Mixing",
    "projection": "jaxsafety.mitigations.projection:Projection",
    "ptst": "jaxsafety.mitigations.ptst:Ptst",
    "recovery": "jaxsafety.mitigations.recovery:Recovery",
    "resta": "jaxsafety.mitigations.resta:Resta",
    "safelora": "jaxsafety.mitigations.safelora:SafeLora",
    "safesteer": "jaxsafety.methods.safesteer.repair:SafeSteer",
    "steering": "jaxsafety.mitigations.steering:Steering",
    "vaccine": "jaxsafety.mitigations.vaccine:Vaccine",
}

MODELS = {
    "llama": "jaxsafety.models.families.llama:FAMILY",
    "mistral": "jaxsafety.models.families.mistral:FAMILY",
    "qwen2": "jaxsafety.models.families.qwen:QWEN2",
    "qwen3": "jaxsafety.models.families.qwen:QWEN3",
    "gemma2": "jaxsafety.models.families.gemma:GEMMA2",
    "gemma3_text": "jaxsafety.models.families.gemma:GEMMA3",
    "olmo2": "jaxsafety.models.families.olmo:FAMILY",
}

# (the organism's world, or None with files; and WHERE where it has a second parameter) -> Judge
JUDGES = {
    "organism": "jaxsafety.benchmarks.organism:judge",
    "rules": "jaxsafety.judges.rules:make",
    "ours": "jaxsafety.judges.rules:make",  # the same, by its name among the lists
    "arditi": "jaxsafety.judges.lists.arditi:make",
    "gcg": "jaxsafety.judges.lists.gcg:make",
    "harmbench_list": "jaxsafety.judges.lists.harmbench:make",
    "xstest_list": "jaxsafety.judges.lists.xstest:make",
    "classifier": "jaxsafety.judges.trained.classifier:make",
    "combined": "jaxsafety.judges.trained.combined:make",
    "llama_guard1": "jaxsafety.judges.guards.llama_guard:make_one",
    "llama_guard2": "jaxsafety.judges.guards.llama_guard:make_two",
    "llama_guard3": "jaxsafety.judges.guards.llama_guard:make_three",
    "wildguard": "jaxsafety.judges.guards.wildguard:make",
    "harmbench_llama2": "jaxsafety.judges.guards.harmbench:make_llama2",
    "harmbench_mistral": "jaxsafety.judges.guards.harmbench:make_mistral",
    "qwen3guard": "jaxsafety.judges.guards.qwen3guard:make",
    "shieldgemma": "jaxsafety.judges.guards.shieldgemma:make",
    "reward": "jaxsafety.judges.guards.reward:make",
    "strongreject": "jaxsafety.judges.rubric.strongreject:make",
    "weak": "jaxsafety.weak.judge:make",
}

# (world or None, *, safety, over_refusal, capability: prompts per set, seed) -> Benchmarks
BENCHMARKS = {
    "organism": "jaxsafety.benchmarks.organism:benchmarks",
    "organism_domains": "jaxsafety.benchmarks.organism:domain_benchmarks",
}

# Public prompt sets in their own files -> benchmarks.public.PublicSet, in the order of a report
SETS = {
    "advbench": "jaxsafety.benchmarks.sets.advbench:SET",
    "harmbench": "jaxsafety.benchmarks.sets.harmbench:SET",
    "strongreject": "jaxsafety.benchmarks.sets.strongreject:SET",
    "jailbreakbench_harmful": "jaxsafety.benchmarks.sets.jailbreakbench:HARMFUL",
    "sorry_bench": "jaxsafety.benchmarks.sets.sorry_bench:SET",
    "simple_safety_tests": "jaxsafety.benchmarks.sets.simple_safety_tests:SET",
    "ailuminate": "jaxsafety.benchmarks.sets.ailuminate:SET",
    "xstest_unsafe": "jaxsafety.benchmarks.sets.xstest:UNSAFE",
    "or_bench_toxic": "jaxsafety.benchmarks.sets.or_bench:TOXIC",
    "catqa": "jaxsafety.benchmarks.sets.catqa:SET",
    "do_not_answer": "jaxsafety.benchmarks.sets.do_not_answer:SET",
    "tdc2023": "jaxsafety.benchmarks.sets.tdc2023:SET",
    "i_malicious_instructions": "jaxsafety.benchmarks.sets.safety_tuned_llamas:MALICIOUS",
    "i_cona": "jaxsafety.benchmarks.sets.safety_tuned_llamas:CONA",
    "i_controversial": "jaxsafety.benchmarks.sets.safety_tuned_llamas:CONTROVERSIAL",
    "i_physical_safety_unsafe": "jaxsafety.benchmarks.sets.safety_tuned_llamas:PHYSICAL_UNSAFE",
    "q_harm": "jaxsafety.benchmarks.sets.safety_tuned_llamas:Q_HARM",
    "xstest_safe": "jaxsafety.benchmarks.sets.xstest:SAFE",
    "or_bench_hard": "jaxsafety.benchmarks.sets.or_bench:HARD",
    "or_bench_80k": "jaxsafety.benchmarks.sets.or_bench:MANY",
    "jailbreakbench_benign": "jaxsafety.benchmarks.sets.jailbreakbench:BENIGN",
    "i_physical_safety_safe": "jaxsafety.benchmarks.sets.safety_tuned_llamas:PHYSICAL_SAFE",
    "i_alpaca": "jaxsafety.benchmarks.sets.safety_tuned_llamas:ALPACA",
    "mmlu": "jaxsafety.benchmarks.sets.mmlu:SET",
    "gsm8k": "jaxsafety.benchmarks.sets.gsm8k:SET",
    "arc_easy": "jaxsafety.benchmarks.sets.arc:EASY",
    "arc_challenge": "jaxsafety.benchmarks.sets.arc:CHALLENGE",
    "openbookqa": "jaxsafety.benchmarks.sets.openbookqa:SET",
    "piqa": "jaxsafety.benchmarks.sets.piqa:SET",
    "commonsense_qa": "jaxsafety.benchmarks.sets.commonsense_qa:SET",
    "boolq": "jaxsafety.benchmarks.sets.boolq:SET",
    "truthfulqa_mc1": "jaxsafety.benchmarks.sets.truthfulqa:MC1",
    "truthfulqa_mc2": "jaxsafety.benchmarks.sets.truthfulqa:MC2",
    "hellaswag": "jaxsafety.benchmarks.sets.hellaswag:SET",
    "winogrande": "jaxsafety.benchmarks.sets.winogrande:SET",
}

# (train.trackers.api.Tracked) -> Tracker
TRACKERS = {
    "tensorboard": "jaxsafety.train.trackers.tensorboard:TensorBoard",
    "trackio": "jaxsafety.train.trackers.trackio_runs:Trackio",
    "wandb": "jaxsafety.train.trackers.wandb_runs:Wandb",
}

# Modules that only an extra of pyproject.toml installs -> that extra.
EXTRAS = {
    "nltk": "parity",
    "torch": "parity",
    "transformers": "parity",
    "peft": "parity",
    "trl": "parity",
    "crowdkit": "parity",
    "lm_eval": "parity",
    "sklearn": "judges",
    "starlette": "serve",
    "uvicorn": "serve",
    "trackio": "trackio",
    "wandb": "wandb",
}

TABLES: Mapping[str, Mapping[str, str]] = {
    "methods": METHODS,
    "mitigations": MITIGATIONS,
    "models": MODELS,
    "judges": JUDGES,
    "benchmarks": BENCHMARKS,
    "sets": SETS,
    "trackers": TRACKERS,
}


def lacks(field: str, name: str, module: str) -> UsageError:
    """The error of what needs a module of `EXTRAS` that is not installed.

    Args:
      field: "judge", ...
      name: what needs it.
      module: as it is imported.
    """
    extra = f"pip install 'jaxsafety[{EXTRAS[module]}]'"
    return bad(field, name, f"an installation with {module}: {extra}")


def resolve(table: str | Mapping[str, str], name: str) -> Any:
    """Imports and returns what `name` stands for.

    Args:
      table: a table of this module or its name ("methods", "models", ...).
      name: the entry.

    Raises:
      UsageError: an unknown table or entry; the line gives the nearest name and all of them. Or an
        entry that needs a package of an extra that is not installed; the line gives the extra.
        Or one of a user's own that cannot be imported, for whatever reason.
      ModuleNotFoundError: a module of jaxsafety is missing: a broken installation.
    """
    if isinstance(table, str):
        if table.lower() not in TABLES:
            raise bad("registry", table, ", ".join(TABLES))
        field, entries = table.lower(), TABLES[table.lower()]
    else:
        field = next((label for label, known in TABLES.items() if known is table), "registry")
        entries = table
    if name not in entries:
        near = difflib.get_close_matches(str(name), entries, n=1)
        hint = f"{near[0]!r}? known: " if near else ""
        raise bad(field.removesuffix("s"), name, hint + ", ".join(sorted(entries)))
    module, _, attribute = entries[name].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        package = (getattr(error, "name", "") or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and package in EXTRAS:
            raise lacks(field.removesuffix("s"), name, package) from None
        if module.partition(".")[0] == "jaxsafety":
            raise  # a broken installation, or a mistake here
        given = f"{entries[name]} ({type(error).__name__}: {str(error)[:120]})"
        raise bad(
            f"registry, {field} {name!r}", given, "'module:attribute' that imports"
        ) from error
