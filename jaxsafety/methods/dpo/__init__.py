"""DPO: learning that of two answers one is preferred (arXiv 2305.18290)."""

from jaxsafety.methods.dpo import config, program
from jaxsafety.protocols import PAIRS, Method

PAPERS = {
    "2305.18290": "",
    "2310.03708": "form=modpo",
    "2603.07017": "form=paper_eq1|paper_eq2",
}

METHOD = Method(
    config.DpoConfig,
    config.check,
    program.program,
    program.fits,
    reads=PAIRS,
    encode=program.encode,
    planned=program.planned,
    frozen=lambda cfg: cfg.rank > 0,
    title="DPO",
)
