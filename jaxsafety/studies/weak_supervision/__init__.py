"""How weak may supervision be before safety stops emerging: judges of known errors, five losses."""

from jaxsafety.protocols import Finished, Method, Section
from jaxsafety.studies.weak_supervision import program as _program
from jaxsafety.studies.weak_supervision.config import WeakConfig, check

PAPERS = {"2603.07017": ""}


def _sections() -> tuple[Section[Finished], ...]:
    from jaxsafety.studies.weak_supervision import sections

    return sections.own()


METHOD = Method(
    config=WeakConfig,
    check=check,
    program=_program.program,
    fits=_program.fits,
    sections=_sections,
    title="Weak supervision",
)
