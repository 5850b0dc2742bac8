"""Self-MOA: safety of a small model from its own answers to its own attacks, judged weakly."""

from jaxsafety.methods.selfmoa import program as _program
from jaxsafety.methods.selfmoa.config import SelfMoaConfig, check
from jaxsafety.protocols import Method

METHOD = Method(
    config=SelfMoaConfig,
    check=check,
    program=_program.program,
    fits=_program.fits,
    prepare=_program.prepare,
    title="Self-MOA",
)
