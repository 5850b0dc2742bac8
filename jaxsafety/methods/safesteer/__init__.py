"""SafeSteer (arXiv 2606.02530): a steered teacher, few safety tokens, reverse KL on them.

Read `program` first: its stage is what is trained. `teacher` finds direction and tokens before it,
`inspect` and `changed` look into the trained model after it; `published` has what was published.
"""

from jaxsafety.methods.safesteer import plan, program, published
from jaxsafety.protocols import Finished, Method, Section

PAPERS = {"2606.02530": "", "2406.11717": "", "2605.15239": "teacher=context"}


def _sections() -> tuple[Section[Finished], ...]:
    """What its report shows: direction, safety tokens, distance from the base."""
    from jaxsafety.methods.safesteer.sections import SECTIONS

    return SECTIONS


METHOD = Method(
    program.SafeSteerConfig,
    program.check,
    program.program,
    program.fits,
    inspect=program.inspect,
    prepare=program.prepare,
    planned=plan.planned,
    sections=_sections,
    title="SafeSteer",
    differences=published.differences,
)
