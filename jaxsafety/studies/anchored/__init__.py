"""Which mitigation is safest at the same capability? Arms that are fine-tuned to a declared goal.

After "Safety Measurements for Fine-tuned LLMs Should be Grounded in Capability" (arXiv 2606.03648):
its thesis is that models are comparable where they reach the same goal. Of the paper only abstract
and opening are public, so the protocol is ours (docs/anchored.md):
goals are declared before training (`goals.py`), every arm is fine-tuned with its mitigations
(`arms.py`), the earliest checkpoint that reaches the goal is selected by capability on a dev split
alone (`benchmarks/anchors.py`), and what was selected is measured on the safety sets
(`program.py`), beside the last step of the same trainings, and the worst of what keeps a floor.
Pinned by tests/studies/test_anchored_*.py.
"""

from jaxsafety.protocols import PROMPTS, Finished, Method, Section
from jaxsafety.studies.anchored import config, plan, program

PAPERS = {"2606.03648": ""}


def _sections() -> tuple[Section[Finished], ...]:
    """What its report shows: curves, capability against safety, orders, coherence, judges."""
    from jaxsafety.studies.anchored.sections import SECTIONS

    return SECTIONS


METHOD = Method(
    config.AnchoredConfig,
    config.check,
    program.program,
    config.fits,
    reads=tuple(name for name in PROMPTS if name != "distil"),
    prepare=program.prepare,
    planned=plan.planned,
    learns=config.learns,
    sections=_sections,
    title="Anchored",
    uses=config.uses,
)
