"""Supervised fine-tuning on dialogues, of all parameters or of LoRA adapters."""

from jaxsafety.methods.sft import program
from jaxsafety.protocols import CHATS, Method

METHOD = Method(
    program.SftConfig,
    program.check,
    program.program,
    program.fits,
    reads=CHATS,
    encode=program.encode,
    planned=program.planned,
    frozen=lambda cfg: cfg.rank > 0,
    title="SFT",
)
