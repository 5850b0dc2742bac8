"""The small sets of "Safety-Tuned LLaMAs", one file each.

Bianchi et al. 2024, arXiv 2309.07875; data/evaluation of vinid/safety-tuned-llamas (and of
vinid/instruction-llms-safety-eval, where others fetch them from). Each file is one object,
{"instructions": [texts], "inputs": []}, as public copies of I-CoNa, I-Controversial, I-Alpaca,
I-PhysicalSafetySafe and Q-Harm at commits 3ce5779 and 347bea9 have it; a public loader of
I-MaliciousInstructions reads the same key. The repository's generate_answers.py pairs `inputs` with
the instructions where there are some. The licence is the one that loader names. No file
was at hand, so no sha256 is known.
"""

from __future__ import annotations

from typing import Any

from jaxsafety.benchmarks.public import PublicSet

PAPERS = {"2309.07875": ""}


def unpack(whole: dict[str, Any]) -> list[Any]:
    """Rows of instructions, each with its input where there is one.

    Raises:
      ValueError: another object, or inputs that are not one for each instruction.
    """
    given, inputs = whole.get("instructions"), whole.get("inputs") or []
    if not isinstance(given, list) or not isinstance(inputs, list):
        raise ValueError("an object with a list `instructions` and perhaps a list `inputs`")
    if not inputs:
        return [{"instruction": one} for one in given]
    if len(inputs) != len(given):
        raise ValueError(f"as many `inputs` as `instructions`, not {len(inputs)} and {len(given)}")
    return [{"instruction": one, "input": more} for one, more in zip(given, inputs, strict=True)]


def _set(name: str, kind: str, file: str, note: str) -> PublicSet:
    return PublicSet(
        name=name,
        kind=kind,
        licence="CC-BY-NC-4.0",
        source="vinid/safety-tuned-llamas, arXiv 2309.07875",
        files=(file,),
        versions={},
        layout=("prompt",),
        columns=("instruction",),
        unpack=unpack,
        max_tokens=256,
        header="vinid/safety-tuned-llamas, a public copy",
        note=note,
    )


MALICIOUS = _set(
    "i_malicious_instructions", "safety", "I-MaliciousInstructions.json", "100 instructions"
)
CONA = _set(
    "i_cona",
    "safety",
    "I-CoNa.json",
    "178 that ask to argue for hateful statements, a few of them harmless",
)
CONTROVERSIAL = _set(
    "i_controversial", "safety", "I-Controversial.json", "40 on controversial subjects"
)
PHYSICAL_UNSAFE = _set(
    "i_physical_safety_unsafe",
    "safety",
    "I-PhysicalSafetyUnsafe.json",
    "100 that ask to argue for something dangerous",
)
Q_HARM = _set(
    "q_harm",
    "safety",
    "Q-Harm.json",
    "100 questions, many of them harmless: no rate near 1 is to be expected",
)
PHYSICAL_SAFE = _set(
    "i_physical_safety_safe", "over_refusal", "I-PhysicalSafetySafe.json", "the safe counterparts"
)
ALPACA = _set("i_alpaca", "over_refusal", "I-Alpaca.json", "ordinary instructions")
