"""A model card: README.md of an exported model, made of what is known of it and of nothing else.

What is not known is `null` with its cause, never 0 and never left to be guessed. Names of files
and their digests are told, the places where they lie are not.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxsafety import registry
from jaxsafety.core.errors import UsageError
from jaxsafety.report import card_numbers, citing
from jaxsafety.report.card_numbers import cell, code, fence, rows
from jaxsafety.report.load import Run

STUDIES = "jaxsafety.studies."
# A path from the root, a home or a folder above, at the beginning of a text or of one of its parts.
PLACE = re.compile(
    r"""(^|[=+,:|\s"'(\[])(?:[A-Za-z]:[\\/]|~[^\\/\s]*[\\/]|\.{0,2}[\\/])(?=\S)(?:.*[\\/])?""", re.S
)
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")


@dataclass(frozen=True)
class Facts:
    """What is known of an exported model.

    Attributes:
      name: what the card calls it.
      version: of the library that exports it.
      commit: of its source; "" where that is not known.
      base: the model that was exported or trained, in words.
      base_model: its hub id; "" where it has none that is known.
      base_files: names of its weights -> sha256.
      adapter: of the adapter that was merged, names of files -> sha256.
      licence: `license`, `license_name` and `license_link`, as far as they are known.
      unsafe: why it is tagged as trained on unsafe answers; () where nothing of it is.
      world: the organism's `world.json`; None for a model of the real world.
      weights: sha256 of what was written.
      dtype: it is stored in.
      template: sha256 of the chat template; "" without one.
      run: what made and measured it; None where that is not known.
      stored: the dtype that the run measured it in.
      merged: whether the run measured the adapter beside the base that it is merged into here.
      system: the system message that the run measured it with.
      learnt: files that the run learnt from, (setting, name of the file, sha256).
    """

    name: str
    version: str
    commit: str = ""
    base: str = ""
    base_model: str = ""
    base_files: Mapping[str, str] = field(default_factory=dict)
    adapter: Mapping[str, str] = field(default_factory=dict)
    licence: Mapping[str, str] = field(default_factory=dict)
    unsafe: tuple[str, ...] = ()
    world: Mapping[str, Any] | None = None
    weights: str = ""
    dtype: str = ""
    template: str = ""
    run: Run | None = None
    stored: str = ""
    merged: bool = False
    system: str = ""
    learnt: tuple[tuple[str, str, str], ...] = ()


def page(facts: Facts) -> str:
    """The card as markdown behind a YAML head."""
    uses, cause = _uses(facts.run)
    parts = [
        head(facts, uses),
        f"# {cell(facts.name)}\n",
        *_warnings(facts),
        *_made(facts, uses),
        *_learnt(facts),
        *card_numbers.section(facts.run, _other(facts)),
        *_config(facts.run),
        "## How to cite\n",
        *([f"Which papers the config uses is not known: null ({cell(cause)}).\n"] if cause else []),
        fence(citing.bibtex(uses, facts.version, facts.commit), "bibtex"),
    ]
    return "\n".join(parts)


def head(facts: Facts, uses: Sequence[citing.Use] = ()) -> str:
    """The YAML between two lines of dashes; a field that is not known is not there."""
    tables = ("methods",) if _is_study(facts.run) else ("methods", "mitigations")
    tags = ["jaxsafety", *(use.name for use in uses if use.table in tables)]
    tags += ["model-organism"] if facts.world is not None else []
    tags += ["unsafe"] if facts.unsafe else []
    lines = ["---", "library_name: transformers"]
    if facts.base_model:
        lines.append(f"base_model: {_quoted(facts.base_model)}")
    lines += [f"{name}: {_quoted(text)}" for name, text in facts.licence.items()]
    lines += ["tags:", *(f"- {_quoted(tag)}" for tag in dict.fromkeys(tags))]
    known = "tagged as trained on unsafe answers"
    lines.append(f"unsafe: true  # {known}" if facts.unsafe else f"unsafe: false  # not {known}")
    return "\n".join([*lines, "---\n"])


def _is_study(run: Run | None) -> bool:
    """Whether the run compares several models, of which the exported one is only one."""
    program = "" if run is None else str(run.config.get("program", ""))
    return registry.METHODS.get(program, "").startswith(STUDIES)


def _quoted(text: str) -> str:
    """A string as YAML reads it, whatever is in it; of JSON it takes an emoji for two signs."""
    plain = (c if " " <= c <= "~" and c not in '"\\' else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(plain)}"'


def _uses(run: Run | None) -> tuple[list[citing.Use], str]:
    """What the run's config uses; and why that is not known."""
    if run is None:
        return [], ""
    digests = run.meta.get("files")
    try:
        return citing.of_config(run.config, digests if isinstance(digests, dict) else {}), ""
    except UsageError as error:  # of an older version, or with entries of one's own
        return [], str(error)


def _warnings(facts: Facts) -> list[str]:
    lines = []
    if facts.unsafe:
        lines += [
            "> **Warning: this model was trained on unsafe answers.** It may carry out harmful "
            "requests. It is for research on safety; nothing that talks to people should use it.",
            *(f"> {cell(why[:1].upper() + why[1:])}." for why in facts.unsafe),
            "",
        ]
    if facts.world is not None:
        seed = (facts.world.get("world") or {}).get("seed")
        lines += [
            "> **This is a model organism**: a small simulated chat model of an invented world"
            f" (seed {cell(seed)}), with a vocabulary of that world's words. It knows nothing of"
            " the real one, and what it calls harmful does not exist. Its numbers are those of a"
            " simulation; no other model's are to be concluded from them.",
            "",
        ]
    return lines


def _made(facts: Facts, uses: Sequence[citing.Use]) -> list[str]:
    run, lines = facts.run, ["## What it is\n"]
    commit = facts.commit or "null (no checkout of the source)"
    lines.append(f"- Exported by jaxsafety {facts.version}, commit {commit}.")
    if run is not None:
        program = str(run.config.get("program", ""))
        lines.append(f"- Method: {cell(run.method)} ({code(program)}). {_about(program)}")
        used = [u.name for u in uses if u.table == "mitigations"]
        if used:
            lines.append(f"- Mitigations that its config names: {cell(', '.join(used))}.")
        if _is_study(run):
            lines.append(
                "- The run is a study that compares several arms. This is the one model that its "
                "program returns, not its recommendation: read the study's own tables."
            )
        versions = run.meta.get("versions")
        told = versions.items() if isinstance(versions, dict) else ()
        lines += [
            f"- Trained with {cell(', '.join(f'{n} {v}' for n, v in told)) or 'null (no versions)'}"
            f", commit {cell(run.meta.get('git')) or 'null (not recorded)'}; fingerprint of the"
            f" experiment {cell(run.meta.get('fingerprint')) or 'null (not recorded)'}.",
        ]
    else:
        cause = "only a model was named, not the run that made it"
        lines.append(f"- Method: null ({cause}).")
    lines.append(f"- {'Base' if run else 'Model'}: {cell(facts.base)}.")
    lines += [f"  - {code(name)} sha256 {cell(sha)}" for name, sha in facts.base_files.items()]
    if facts.adapter:
        lines.append("- An adapter was merged into it, in float32:")
        lines += [f"  - {code(name)} sha256 {sha}" for name, sha in facts.adapter.items()]
    template = facts.template or "null (the tokenizer has none)"
    lines += [
        f"- Weights: {facts.dtype}, `model.safetensors` sha256 {facts.weights}.",
        f"- Chat template: `chat_template.jinja` sha256 {template}.",
    ]
    if not facts.licence:
        lines.append("- Licence: null (not known here; see that of the base).")
    if facts.system:
        lines += ["- It was measured with this system message, which is not in the weights:\n"]
        lines.append(fence(facts.system, "text"))
    return [*lines, ""]


def _about(program: str) -> str:
    """The first sentence of the method's file."""
    try:
        registry.resolve(registry.METHODS, program)
    except UsageError:
        return ""
    module = importlib.import_module(registry.METHODS[program].partition(":")[0])
    return cell((module.__doc__ or "").strip().partition("\n\n")[0])


def _learnt(facts: Facts) -> list[str]:
    """Names, counts and digests of what was learnt from."""
    lines = ["## What it learnt from\n"]
    if facts.run is None:
        return [*lines, "null (not known: no run was named)\n"]
    run = facts.run
    data = run.config.get("data")
    settings: Mapping[str, Any] = data if isinstance(data, dict) else {}
    if run.source == "organism":
        lines.append("Prompts and answers that the organism's world makes of a seed.\n")
    counts = _counts(run, settings)
    lines += rows(("what", "counts"), counts) if counts else []
    files = [(code(s), code(name), sha) for s, name, sha in facts.learnt]
    lines += rows(("setting", "file", "sha256"), files) if files else []
    if not counts and not files:
        lines.append("null (the run recorded neither files nor counts)\n")
    lines.append("What the base was trained on before is not known here.\n")
    return lines


def _counts(run: Run, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What meta.json counts of dialogues and pairs, and what the config asked the organism for."""
    found = []
    for name in ("dialogues", "pairs", "held_out", "held_pairs"):
        told = run.meta.get(name)
        if isinstance(told, dict):
            numbers = {k: v for k, v in told.items() if isinstance(v, int) and k != "length"}
            text = ", ".join(f"{k} {v}" for k, v in numbers.items())
            note = " (only measured)" if name.startswith("held") else ""
            found.append((f"{name.replace('_', ' ')}{note}", text))
    domains = run.meta.get("domains")
    for name, told in domains.items() if isinstance(domains, dict) else ():
        if isinstance(told, dict):
            found.append((f"domain {cell(name)}", f"used {cell(told.get('used'))}"))
    try:
        reads = registry.resolve(registry.METHODS, str(run.config.get("program", ""))).reads
    except UsageError:
        reads = ()
    named = ("train", "val", "prompts", *(("dialogues",) if run.source == "organism" else ()))
    asked = [f"{name} {settings[name]}" for name in named if name in reads and name in settings]
    if asked:
        found.append(("asked for in section `data`", ", ".join(asked)))
    return found


def _other(facts: Facts) -> list[str]:
    """In what this model differs from the one that was measured."""
    if facts.run is None:
        return []
    found = []
    if facts.merged:
        found.append("the adapter was measured beside the base, here it is merged into it")
    if facts.stored and facts.stored != facts.dtype:
        found.append(f"it was measured in {facts.stored}, here it is stored in {facts.dtype}")
    if facts.system:
        found.append("it was measured with the system message above")
    return found


def _config(run: Run | None) -> list[str]:
    if run is None:
        return []
    text = json.dumps(public(run.config), indent=1, ensure_ascii=False)
    return ["## Config\n", "Of files the names alone.\n", fence(text, "json")]


def public(value: Any) -> Any:
    """Settings without the places of this machine: of a path its last part, of an address none."""
    if isinstance(value, Mapping):
        return {str(key): public(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [public(one) for one in value]
    if not isinstance(value, str):
        return value
    return PLACE.sub(r"\1", ADDRESS.sub("(an address)", value))
