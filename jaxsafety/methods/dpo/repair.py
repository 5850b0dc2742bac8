"""DPO as a repair: what the model says to harmful requests against the safe answer to them.

The model that the task left answers the prompts of the safe dialogues; where the judge calls its
answer unsafe, the pair (safe answer, its own) is learnt from:

    - log sigma( beta ((log pi(safe) - log pi_0(safe)) - (log pi(own) - log pi_0(own))) )

with pi_0 what the task left. Rafailov et al. 2023 (arXiv 2305.18290) eq. 7; pairs of own answers
and its place after the task are our choice, as are the rate and the number of updates, which no
paper gives. An answer that did not end by itself is learnt without an
end. Where nothing is unsafe there is nothing to repair, and the model stays as it is.

Pinned by tests/methods/test_dpo_repair.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from jaxsafety.core import sharding
from jaxsafety.core.errors import bad
from jaxsafety.data.preferences import last_answers
from jaxsafety.data.schema import Encoded, Example
from jaxsafety.data.tokens.encode import encode_dialogues, encode_prompt
from jaxsafety.judges.judging import judged, require
from jaxsafety.losses.preference import Preference
from jaxsafety.methods.dpo import pairs
from jaxsafety.mitigations.means import Means
from jaxsafety.mitigations.repairs import Job, check_room, check_rows
from jaxsafety.protocols import (
    Context,
    Exchange,
    Item,
    Mitigation,
    OptimConfig,
    SampleConfig,
    Served,
    Stage,
    as_trained,
)
from jaxsafety.sampling import copies

PAPERS = {"2305.18290": ""}


@dataclass(frozen=True)
class Dpo:
    """Settings.

    Attributes:
      beta: how strongly the repaired model is held to what the task left, per nat.
      rate: factor of the task's learning rate.
      rows: pairs of a step; 0 is as many as the task's batch has rows.
      tokens: of an own answer, at most.
      temperature: of own answers; 0 is greedy.
    """

    beta: float = 0.1
    rate: float = 0.1
    rows: int = 0
    tokens: int = 48
    temperature: float = 0.0

    needs: ClassVar[tuple[str, ...]] = ("safe", "tokenizer")
    when: ClassVar[str] = "repair"

    def __post_init__(self) -> None:
        """Rejects what holds nothing, or learns nothing."""
        for name in ("beta", "rate"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise bad(f"mitigations.dpo.{name}", value, "a finite number above 0")
        if self.rows < 0:
            raise bad("mitigations.dpo.rows", self.rows, "0 (as the task's) or more")
        if self.tokens < 1:
            raise bad("mitigations.dpo.tokens", self.tokens, "1 or more")
        if not (np.isfinite(self.temperature) and self.temperature >= 0):
            raise bad("mitigations.dpo.temperature", self.temperature, "0 (greedy) or more")

    def mitigation(self, means: Means) -> Mitigation:
        """What a step of the repair costs beside one of the task: twice as many answers."""
        rows = self.rows or means.rows
        size = 2 * rows / means.rows - 1
        return Mitigation(budget={"safe": len(means.asked), "gradients": size})

    def begin(self, ctx: Context, means: Means, optim: OptimConfig) -> None:
        """Refuses a run without a judge, prompts without room, rows that cannot be split.

        Raises:
          UsageError: one of them.
        """
        require(ctx.setting.judge)
        check_room("dpo", means, self.tokens)
        check_rows("dpo", "rows", self.rows or means.rows, optim)

    def repair(self, job: Job) -> Stage | None:
        """The stage; its artifact `own.NAME` has the model's own answers and what is made of them.

        Raises:
          UsageError: a judge that cannot tell of any answer whether it is unsafe.
        """
        ctx, model, means = job.ctx, job.ctx.model, job.means
        told = ctx.artifact(f"own.{job.name}", lambda: own_answers(self, job))
        flags = told["unsafe"]
        if all(flag is None for flag in flags):
            given = f"{len(flags)} own answers of which the judge can tell none"
            raise bad("mitigations.dpo", given, "a judge that can, or more tokens of an answer")
        made = make_pairs(self, job, told)
        line = f"{job.name}: {sum(map(bool, flags))} of {len(flags)} own answers are unsafe"
        line += f", {flags.count(None)} the judge cannot tell" if None in flags else ""
        ctx.log(f"{line}, {0 if made is None else len(made.weight)} pairs")
        if made is None:
            return None
        rows, seed = self.rows or means.rows, means.seed
        return Stage(
            job.name,
            pairs.pair_loss(model, Preference(beta=self.beta), sharding.rows(ctx.mesh)),
            job.trainable,
            pairs.batches(made, rows, seed),
            job.steps,
            replace(job.optim, lr=job.optim.lr * self.rate),
            start=job.start,
            axes=job.axes,
        )


def own_answers(settings: Dpo, job: Job) -> dict[str, Any]:
    """What the model says to the safe dialogues' prompts, and which of it is unsafe.

    Returns:
      "ids", "ended", "unsafe" (None: the judge cannot tell) by dialogue, and "reference" [N,2] of
      the pairs that `make_pairs` makes of them.
    """
    ctx = job.ctx
    what: Served = as_trained(settings, job.start)
    items = [asked(one) for one in job.means.asked]
    ctx.interrupt.check()
    said = copies.generate(
        ctx,
        what,
        [encode_prompt(ctx.tokenizer, item.messages) for item in items],
        SampleConfig(settings.tokens, settings.temperature, stop=tuple(ctx.tokenizer.eos_ids)),
        seed=job.means.seed,
    )
    answers = [row[0] for row in said]
    exchanges = [
        Exchange(item, ctx.tokenizer.decode(answer.ids), answer)
        for item, answer in zip(items, answers, strict=True)
    ]
    flags = [row["unsafe"] for row in judged(require(ctx.setting.judge), exchanges)]
    told: dict[str, Any] = {
        "ids": [list(map(int, answer.ids)) for answer in answers],
        "ended": [bool(answer.finished) for answer in answers],
        "unsafe": [None if flag is None or flag != flag else bool(flag) for flag in flags],
    }
    made = make_pairs(settings, job, told)
    if made is not None:
        told["reference"] = pairs.referred(ctx.model, job.start, made)
    return told


def asked(dialogue: Example) -> Item:
    """A safe dialogue's request, as judges see one; a file's rows are harmful requests."""
    return Item(dialogue.id, dialogue.messages[:-1], {"kind": "harmful", **dialogue.meta})


def make_pairs(settings: Dpo, job: Job, told: dict[str, Any]) -> pairs.Pairs | None:
    """(safe answer, own unsafe answer) of each prompt that has one and room; None without any.

    An own answer that stopped ends as the safe one does: with the token that sampling stops at, and
    what the template has behind it. All checkpoints' pairs are equally wide, so they share a
    compiled step.
    """
    tokenizer, room = job.ctx.tokenizer, job.ctx.model.config.max_length
    safe = encode_dialogues(tokenizer, job.means.asked)
    preferred, other, longest = [], [], 0
    rows = zip(job.means.asked, safe, told["ids"], told["ended"], told["unsafe"], strict=True)
    for dialogue, good, ids, ended, unsafe in rows:
        prompt = encode_prompt(tokenizer, dialogue.messages[:-1])
        end = ending(good, tokenizer.eos_ids)
        longest = max(longest, len(good.ids), len(prompt) + settings.tokens + len(end))
        if not (unsafe and ids):
            continue
        own = [*prompt, *ids, *(end if ended else [])]
        # What says the safe answer itself (a judge's error) is no pair.
        if max(len(own), len(good.ids)) <= room and list(good.ids) != own:
            preferred.append(Encoded(good.ids, last(good.mask)))
            other.append(Encoded(own, [False] * len(prompt) + [True] * (len(own) - len(prompt))))
    if not preferred:
        return None
    made = pairs.assemble(preferred, other, tokenizer.pad_id, width=min(longest, room))
    return replace(made, reference=np.asarray(told["reference"])) if "reference" in told else made


def ending(good: Encoded, stops: Sequence[int]) -> list[int]:
    """How an answer ends: its learnt tokens from the first stop token on; the last one without."""
    answer = [i for i, kept in zip(good.ids, last(good.mask), strict=True) if kept]
    places = [place for place, token in enumerate(answer) if token in stops]
    return answer[places[0] if places else -1 :]


def last(mask: Sequence[bool]) -> list[bool]:
    """The last run of a mask alone: of several answers the last."""
    return last_answers(mask, 1)
