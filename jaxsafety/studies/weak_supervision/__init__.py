"""How weak may supervision be before safety stops emerging: judges of known errors, five losses."""

from jaxsafety.protocols import Method
from jaxsafety.studies.weak_supervision import program as _program
from jaxsafety.studies.weak_supervision.config import WeakConfig, check

METHOD = Method(
    config=WeakConfig,
    check=check,
    program=_program.program,
    fits=_program.fits,
    title="Weak supervision",
)
