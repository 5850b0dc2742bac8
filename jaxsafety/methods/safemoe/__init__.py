"""SafeMoE (arXiv 2606.00686): LoRA experts of unsafe corpora, a router trained on few safe answers.

Read `program` first: experts, then the router over them. `config` has the
settings, `experts` trains or loads them, `data` is what each stage learns from, `measure` looks at
experts alone, routed and ablated; `published` has what the paper trained.
"""

from jaxsafety.methods.safemoe import config, data, plan, program, published
from jaxsafety.protocols import Finished, Method, Section

PAPERS = {
    "2606.00686": "",
    "2402.07148": "gate=x-lora",
    "2405.11157": "gate=arrow",
}


def _sections() -> tuple[Section[Finished], ...]:
    """What its report shows: experts alone and routed, and who serves what."""
    from jaxsafety.methods.safemoe.sections import SECTIONS

    return SECTIONS


METHOD = Method(
    config.SafeMoEConfig,
    config.check,
    program.program,
    program.fits,
    program.serve,
    reads=program.READS,
    encode=data.encode,
    planned=plan.planned,
    sections=_sections,
    title="SafeMoE",
    differences=published.differences,
)
