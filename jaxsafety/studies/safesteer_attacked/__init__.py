"""What is left of a defence under attack? SafeSteer, its baselines and refusal SFT, attacked.

Read `program` first. `attacks` are the three attacks, `lessons` the dialogues that refusals and
few-shot attacks are taught with, `sections` the table of the report.
"""

from jaxsafety.protocols import Finished, Method, Section
from jaxsafety.studies.safesteer_attacked import config, program

PAPERS = {"2606.02530": "", "2605.15239": "", "2406.11717": ""}


def _sections() -> tuple[Section[Finished], ...]:
    from jaxsafety.studies.safesteer_attacked.sections import own

    return own()


METHOD = Method(
    config.AttackedConfig,
    config.check,
    program.program,
    config.fits,
    prepare=program.prepare,
    sections=_sections,
    title="Attacks on SafeSteer",
)
