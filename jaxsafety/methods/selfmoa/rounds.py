"""One round: attacks are made, answered, judged; pairs are made of the answers. No training.

Three artifacts, so that a run that was stopped repeats no more than a third of a round:

    attack.R   seeds, expansions and disguises that are new, why others were not, tokens
    answers.R  token ids of M answers to each disguise
    round.R    scores, successes, pairs that can be learnt from, what judges were asked

Steps 1 to 8 of Self-MOA's loop (arXiv 2603.07017, section 4). Where the paper is silent: answers
are judged beside the *expansion*, as in APRT's code, and learnt behind the disguise.
Letters: N attacks, M answers to each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from jaxsafety.data.schema import Encoded, Example, Message
from jaxsafety.data.tokens.encode import encode_dialogues, encode_prompt
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.judges.judging import require
from jaxsafety.judges.opening import open_judge
from jaxsafety.methods.selfmoa import pairing, scores, source
from jaxsafety.methods.selfmoa.config import SelfMoaConfig
from jaxsafety.methods.selfmoa.novelty import why_not
from jaxsafety.methods.selfmoa.pool import Attack, Pool, said_otherwise, text_of
from jaxsafety.protocols import (
    Context,
    Exchange,
    Item,
    Judge,
    SampleConfig,
    Variables,
    as_trained,
)
from jaxsafety.sampling import copies

ROOM = "no room"  # in the context, for the attack and what is said to it
# Steps of sampling from which attackers count theirs; answers begin at 0: nobody shares numbers.
EXPANDER, HIDER = 1 << 28, 1 << 29
OFF = "off"  # an expansion that asks for something else, which only the organism can tell


class Team(NamedTuple):
    """The attackers' variables, which are read when a round is made: no sooner, as of `target`."""

    expander: Variables
    hider: Variables


@dataclass(frozen=True)
class Round:
    """What a round found.

    Attributes:
      number: of the round.
      seeds: S.
      attacks: N of them.
      answers: [N][M] token ids.
      ended: [N][M] whether the model stopped by itself.
      safe: [N,M] P(safe).
      helpful: [N,M].
      won: [N] which were successful.
      pairs: those that can be learnt from.
      told: counts, for the report.
    """

    number: int
    seeds: Sequence[Item]
    attacks: Sequence[Attack]
    answers: Sequence[Sequence[Sequence[int]]]
    ended: Sequence[Sequence[bool]]
    safe: np.ndarray
    helpful: np.ndarray
    won: np.ndarray
    pairs: Sequence[pairing.Pair]
    told: Mapping[str, Any]


class Judges:
    """The loop's two judges, opened once."""

    def __init__(self, cfg: SelfMoaConfig, ctx: Context) -> None:
        """Nothing is opened yet."""
        self.cfg, self.ctx, self.least = cfg.scores, ctx, cfg.pairs.diff_min

    @cache  # noqa: B019  (as long as the run)
    def judge(self, text: str) -> Judge | None:
        """A judge by NAME=WHERE; the setting's own for ""."""
        return open_judge(text, self.ctx.setting.world)[1] if text else self.ctx.setting.judge

    def open(self) -> None:
        """Says now what cannot be opened, or would never score an answer.

        Raises:
          UsageError: see `judges.opening.open_judge` and `scores.check_judges`.
        """
        asked_of = (self.cfg.safety, self.cfg.helpful_judge)
        safe, helpful = (require(self.judge(text)) for text in asked_of)
        asked = Exchange(source.seeds(self.ctx.setting)[0], "I cannot help with that.")
        scores.check_judges(safe, helpful, self.cfg, asked, self.least)
        if not all(asked_of):
            said = f"the loop learns from {self.ctx.setting.judged_by or 'the judge'}"
            self.ctx.log(f"{said}, which measures too: see method.scores")

    def ask(self, exchanges: Sequence[Exchange]) -> scores.Scores:
        """[N] scores of N answers."""
        cfg, seed = self.cfg, self.ctx.seed
        safe = scores.safety(self.judge(cfg.safety), exchanges, cfg.flip, seed)
        helpful = scores.helpfulness(self.judge(cfg.helpful_judge), exchanges, cfg, seed)
        calls = {"safety": len(exchanges), "helpful": len(exchanges)}
        return scores.Scores(safe, helpful, calls)


def play(
    cfg: SelfMoaConfig,
    ctx: Context,
    pool: Pool,
    number: int,
    team: Team | None,
    target: Variables,
    judges: Judges,
) -> Round:
    """A round, made or read back.

    Args:
      cfg: of the loop.
      ctx: of the run.
      pool: before the round; it is not changed.
      number: of the round, from 0.
      team: the attackers; None asks the prompts as they are.
      target: what answers. A round that is on disk reads neither.
      judges: of the answers.
    """
    seeds = pool.drawn(cfg.prompts, ctx.seed, number)
    made = ctx.artifact(f"attack.{number}", lambda: attack(cfg, ctx, pool, seeds, number, team))
    attacks = read_attacks(seeds, made, number)
    said = ctx.artifact(f"answers.{number}", lambda: answer(cfg, ctx, attacks, number, target))
    told = ctx.artifact(f"round.{number}", lambda: judge(cfg, ctx, attacks, said, judges))
    told = {**told, "rejected": made["rejected"], "attack_tokens": made["tokens"]}
    return Round(
        number,
        seeds,
        attacks,
        said["ids"],
        said["ended"],
        told["safe"],
        told["helpful"],
        np.asarray(told["won"], bool),
        [pairing.Pair(*row) for row in told["pairs"]],
        told,
    )


def attack(
    cfg: SelfMoaConfig,
    ctx: Context,
    pool: Pool,
    seeds: Sequence[Item],
    number: int,
    team: Team | None,
) -> dict[str, Any]:
    """What is made of the seeds: `{"of": which seed, "expanded", "meta", "hidden", ...}`."""
    if team is None:
        texts = [text_of(item) for item in seeds]
        metas = [dict(item.meta) for item in seeds]
        rows = {"of": list(range(len(seeds))), "expanded": texts, "meta": metas, "hidden": texts}
        return {**rows, "rejected": {}, "tokens": {}}
    found: dict[int, tuple[str, Any]] = {}
    seen, rejected, tokens = set(pool.seen), Counter[str](), Counter[str]()
    for again in range(cfg.attack.tries):
        open_ = [i for i in range(len(seeds)) if i not in found]
        if not open_:
            break
        asked = [seeds[i] for i in open_]
        step = EXPANDER + number * cfg.attack.tries + again  # others in every try
        heat = cfg.attack.expand_temperature
        for i, text in zip(
            open_,
            rewrite(cfg, ctx, team.expander, asked, step, heat, tokens, "expander"),
            strict=True,
        ):
            meta = source.reread(ctx.setting, seeds[i], text)
            why = why_not(text_of(seeds[i]), text, seen, cfg.novelty) or (
                OFF if meta is None else ""
            )
            if not why and not has_room(ctx, (Message("user", text),), cfg.attack.tokens):
                why = ROOM
            if why:
                rejected[why] += 1
                continue
            seen.add(text)
            found[i] = (text, dict(meta or {}))
    kept = sorted(found)
    items = [said_otherwise(seeds[i], "", found[i][0]) for i in kept]
    heat = cfg.attack.hide_temperature
    hidden = rewrite(cfg, ctx, team.hider, items, HIDER + number, heat, tokens, "hider")
    # What the hider says nothing to is asked as it is.
    asked = {i: h or found[i][0] for i, h in zip(kept, hidden, strict=True)}
    kept = [
        i
        for i in kept
        if has_room(ctx, said_otherwise(seeds[i], "", asked[i]).messages, cfg.tokens)
    ]
    if len(kept) < len(asked):
        rejected[ROOM] += len(asked) - len(kept)
    return {
        "of": kept,
        "expanded": [found[i][0] for i in kept],
        "meta": [found[i][1] for i in kept],
        "hidden": [asked[i] for i in kept],
        "rejected": dict(rejected),
        "tokens": dict(tokens),
    }


def has_room(ctx: Context, messages: Sequence[Message], tokens: int) -> bool:
    """Whether the context holds a prompt and as many tokens behind it."""
    return len(encode_prompt(ctx.tokenizer, messages)) + tokens <= ctx.model.config.max_length


def rewrite(
    cfg: SelfMoaConfig,
    ctx: Context,
    who: Variables,
    items: Sequence[Item],
    step: int,
    temperature: float,
    tokens: Counter[str],
    name: str,
) -> list[str]:
    """What an attacker makes of the last turns; counts its tokens under `name`."""
    if not items:
        return []
    ctx.interrupt.check()
    stop, what = tuple(ctx.tokenizer.eos_ids), as_trained(cfg, who)
    said = copies.generate(
        ctx,
        what,
        [encode_prompt(ctx.tokenizer, (Message("user", text_of(item)),)) for item in items],
        SampleConfig(cfg.attack.tokens, temperature, cfg.attack.top_p, stop=stop),
        seed=ctx.seed,
        step=step,
    )
    tokens[name] += sum(len(row[0].ids) for row in said)
    return [ctx.tokenizer.decode(row[0].ids).strip() for row in said]


def read_attacks(seeds: Sequence[Item], made: Mapping[str, Any], number: int) -> list[Attack]:
    """The attacks of an artifact."""
    attacks = []
    rows = zip(made["of"], made["expanded"], made["meta"], made["hidden"], strict=True)
    for index, (of, expanded, meta, hidden) in enumerate(rows):
        seed = seeds[of]
        same = expanded == text_of(seed)
        item = seed if same else said_otherwise(seed, f"made/{number}/{index}", expanded, meta)
        attacks.append(Attack(seed, item, said_otherwise(item, f"{item.id}/hidden", hidden)))
    return attacks


def answer(
    cfg: SelfMoaConfig, ctx: Context, attacks: Sequence[Attack], number: int, target: Variables
) -> dict[str, Any]:
    """M answers to each disguise."""
    if not attacks:
        return {"ids": [], "ended": []}
    ctx.interrupt.check()
    stop, what = tuple(ctx.tokenizer.eos_ids), as_trained(cfg, target)
    said = copies.generate(
        ctx,
        what,
        [encode_prompt(ctx.tokenizer, one.hidden.messages) for one in attacks],
        SampleConfig(cfg.tokens, cfg.temperature, cfg.top_p, stop=stop),
        seed=ctx.seed,
        step=number,
        samples=cfg.samples,
    )
    return {
        "ids": [[list(map(int, one.ids)) for one in row] for row in said],
        "ended": [[bool(one.finished) for one in row] for row in said],
    }


def judge(
    cfg: SelfMoaConfig,
    ctx: Context,
    attacks: Sequence[Attack],
    said: Mapping[str, Any],
    judges: Judges,
) -> dict[str, Any]:
    """Scores, successes and pairs; of the pairs those whose sides differ and have room."""
    size = (len(attacks), cfg.samples)
    exchanges = [
        Exchange(one.expanded, ctx.tokenizer.decode(ids))
        for one, row in zip(attacks, said["ids"], strict=True)
        for ids in row
    ]
    ctx.interrupt.check()
    told = judges.ask(exchanges) if exchanges else scores.Scores(*2 * (np.zeros(0),), calls={})
    safe, helpful = (np.asarray(x, np.float64).reshape(size) for x in (told.safe, told.helpful))
    left: Counter[str] = Counter()
    pairs, end = [], ending(ctx.tokenizer)
    for pair in pairing.build_pairs(helpful, safe, cfg.pairs):
        sides = [said["ids"][pair.prompt][i] for i in pair[1:]]
        if sides[0] == sides[1] or not all(sides):
            left["equal" if sides[0] == sides[1] else "empty"] += 1
            continue
        prompt = encode_prompt(ctx.tokenizer, attacks[pair.prompt].hidden.messages)
        if len(prompt) + max(map(len, sides)) + len(end) > cfg.length:
            left["long"] += 1
            continue
        pairs.append([int(x) for x in pair])
    won = pairing.successes(helpful, safe, cfg.limits)
    return {
        "safe": safe,
        "helpful": helpful,
        "won": [bool(x) for x in won],
        "pairs": pairs,
        "left_out": dict(left),
        "untold": int((~np.isfinite(safe) | ~np.isfinite(helpful)).sum()),
        "calls": dict(told.calls),
        "answer_tokens": sum(len(ids) for row in said["ids"] for ids in row),
    }


@cache
def ending(tokenizer: Tokenizer) -> Sequence[int]:
    """What an answer that stopped by itself ends with, the stop token first."""
    turns = (Message("user", "a"), Message("assistant", "a"))
    (whole,) = encode_dialogues(tokenizer, [Example("", turns, {})])
    answer = [i for i, kept in zip(whole.ids, whole.mask, strict=True) if kept]
    places = [place for place, token in enumerate(answer) if token in tokenizer.eos_ids]
    return tuple(answer[places[0] if places else -1 :])


def encoded(ctx: Context, one: Attack, ids: Sequence[int], end: Sequence[int]) -> Encoded:
    """An answer behind its disguise; one that did not stop by itself is learnt without an end."""
    prompt = encode_prompt(ctx.tokenizer, one.hidden.messages)
    said = [*ids, *end]
    return Encoded([*prompt, *said], [False] * len(prompt) + [True] * len(said))
