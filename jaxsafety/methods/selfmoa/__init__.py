"""Self-MOA: safety of a small model from its own answers to its own attacks, judged weakly."""

from jaxsafety.methods.selfmoa import plan as _plan
from jaxsafety.methods.selfmoa import program as _program
from jaxsafety.methods.selfmoa import source as _source
from jaxsafety.methods.selfmoa.config import SelfMoaConfig, check, uses
from jaxsafety.protocols import Finished, Method, Section

PAPERS = {
    "2603.07017": "",
    "2305.18290": "stage.form=dpo",
    "2310.03708": "stage.form=modpo",
}


def _sections() -> tuple[Section[Finished], ...]:
    from jaxsafety.methods.selfmoa import sections

    return sections.SECTIONS


METHOD = Method(
    config=SelfMoaConfig,
    check=check,
    program=_program.program,
    fits=_program.fits,
    prepare=_program.prepare,
    planned=_plan.planned,
    learns=_source.learns,
    sections=_sections,
    title="Self-MOA",
    uses=uses,
)
