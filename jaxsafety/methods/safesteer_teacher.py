"""SafeSteer stages A to C: the refusal direction, the steered teacher, the safety-token set.

The stages' numerics live in `probing/`; here they meet a `Context`: prompts, judge, sampler, log.
Every function returns plain values, so its result can be an artifact on disk.
Letters: P post-instruction positions, L layers, D width, X prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxsafety.data.chat import encode_prompt, post_instruction
from jaxsafety.errors import bad
from jaxsafety.models.api import LayerInputs
from jaxsafety.probing import controls, directions, forward, selection, votes
from jaxsafety.protocols import Context, Exchange, Item, SampleConfig
from jaxsafety.sampling import decode

PROMPT_SETS = ("harmful_train", "harmful_val", "harmless_train", "harmless_val", "wrapped_val")


@dataclass(frozen=True)
class DirectionConfig:
    """Stage A. `openers` are first words of refusals; empty means measure them from judged answers.

    `filter` keeps harmful prompts that the base refuses and harmless ones that it answers: "score"
    by the refusal score of the first token (A4), "judge" by what it says, for models whose first
    tokens are shared by both. `minimum` prompts must survive; `fallback` is error or rank.
    Candidates answer at `temperature`: greedy answers hide how much of the mass a teacher moves.
    """

    select: selection.SelectConfig = field(default_factory=selection.SelectConfig)
    openers: tuple[str, ...] = ()
    filter: str = "judge"
    minimum: int = 8
    fallback: str = "rank"
    max_tokens: int = 40
    temperature: float = 1.0


@dataclass(frozen=True)
class TokenConfig:
    """Stage C. `prompts`: "val" (the published code: at most 32) or "all" (the paper's text: 160).

    `kind`: votes, or a control: random, or matched (random with the teacher mass of the voted set,
    or as near as the tokens left come to it); controls never contain a voted token or a word of
    refusals.
    """

    votes: votes.VoteConfig = field(default_factory=votes.VoteConfig)
    prompts: str = "val"
    kind: str = "votes"
    control_seed: int = 0


def steering(found: Mapping[str, Any], num_layers: int) -> LayerInputs:
    """The teacher as an argument: coefficient * vector at the input of one block."""
    candidate = selection.Candidate(found["layer"], found["position"], found["coefficient"])
    return selection.steering_inputs(candidate, num_layers, np.asarray(found["vector"]))


def encoded(ctx: Context, items: Sequence[Item]) -> list[list[int]]:
    """Prompt ids of items, generation prompt included."""
    return [encode_prompt(ctx.tokenizer, item.messages) for item in items]


def responder(ctx: Context, max_tokens: int, temperature: float) -> Callable[..., list[str]]:
    """`(layer inputs, steer, items) -> texts` from the base; temperature 0 is greedy."""
    cfg = SampleConfig(max_tokens, temperature, stop=ctx.tokenizer.eos_ids)

    def respond(layers: LayerInputs, steer: str, items: Sequence[Item]) -> list[str]:
        answers = decode.generate(
            ctx.model, ctx.variables["base"], ctx.tokenizer, encoded(ctx, items), cfg,
            seed=ctx.seed, layers=layers, steer=steer,
        )  # fmt: skip
        return [ctx.tokenizer.decode(row[0]) for row in answers]

    return respond


def scored_candidates(
    cfg: DirectionConfig, ctx: Context
) -> tuple[directions.Directions, list[selection.Candidate]]:
    """Refusal ids, filter, difference of means and next-token scores of every candidate (A3-A6)."""
    model, params = ctx.model, ctx.variables["base"]
    ids = {name: encoded(ctx, ctx.prompts[name]) for name in PROMPT_SETS[:4]}
    logits = {name: forward.last_logits(model, params, ids[name]) for name in ids}
    refused: dict[str, np.ndarray] = {}
    if cfg.filter == "judge" or not cfg.openers:
        respond = responder(ctx, cfg.max_tokens, 0.0)
        refused = {name: judged_refusals(ctx, respond, ctx.prompts[name]) for name in ids}
    if cfg.openers:
        refusal_ids = directions.refusal_tokens(ctx.tokenizer, cfg.openers)
    else:
        rows = np.concatenate([logits["harmful_train"], logits["harmless_train"]])
        said = np.concatenate([refused["harmful_train"], refused["harmless_train"]])
        refusal_ids = directions.measured_refusal_tokens(rows[said], rows[~said])
    ctx.log(f"refusal openers: {' '.join(ctx.tokenizer.token(i) for i in refusal_ids)}")
    kept = {}
    for name in ids:
        harmful = name.startswith("harmful")
        if cfg.filter == "judge":  # a prompt is on its side if the base behaves so
            scores = np.where(refused[name], 1.0, -1.0)
        else:
            scores = directions.refusal_score(logits[name], refusal_ids)
        minimum = min(cfg.minimum, len(scores))
        rule = directions.filter_prompts(
            scores, harmful, minimum=minimum, fallback=cfg.fallback, field=name
        )
        kept[name] = [ids[name][i] for i in rule.kept]
        ctx.log(f"{name}: {len(rule.kept)} of {len(scores)} kept by {cfg.filter} ({rule.rule})")
    positions = len(post_instruction(ctx.tokenizer))
    raw = directions.extract(
        model, params, kept["harmful_train"], kept["harmless_train"], positions
    )
    arditi = cfg.select.criterion == "arditi"
    candidates = selection.score_candidates(
        model,
        params,
        raw,
        kept["harmful_val"],
        kept["harmless_val"],
        refusal_ids,
        coefficients=(1.0,) if arditi else cfg.select.coefficients,
    )
    return raw, candidates


def find_direction(cfg: DirectionConfig, ctx: Context) -> dict[str, Any]:
    """Stage A: candidates and their scores, then the selection among them."""
    raw, candidates = scored_candidates(cfg, ctx)
    chosen = selection.select(
        raw,
        candidates,
        cfg.select,
        respond=responder(ctx, cfg.max_tokens, cfg.temperature),
        judge=ctx.judge,
        harmless=ctx.prompts["harmless_val"],
        wrapped=ctx.prompts["wrapped_val"],
    )
    ctx.log(
        f"direction: layer {chosen.layer}, position {chosen.position}, coefficient"
        f" {chosen.coefficient:g}, steer {chosen.steer}, norm ratio {chosen.norm_ratio:.2f}"
    )
    result = chosen._asdict()
    result["candidates"] = [c._asdict() for c in chosen.candidates]
    return result


def judged_refusals(
    ctx: Context, respond: Callable[..., list[str]], items: Sequence[Item]
) -> np.ndarray:
    """[X] bool: which prompts the base refuses, greedily, by the judge's word."""
    if ctx.judge is None:
        raise bad("method.direction.filter", "judge", "score with openers: there is no judge")
    texts = respond(LayerInputs(), "all", items)
    verdicts = ctx.judge([Exchange(i, t) for i, t in zip(items, texts, strict=True)])
    return np.asarray([bool(v["refusal"]) for v in verdicts])


def find_tokens(cfg: TokenConfig, ctx: Context, found: Mapping[str, Any]) -> dict[str, Any]:
    """Stage C: S by voting, or one of its random controls."""
    names = ("harmless_val",) if cfg.prompts == "val" else ("harmless_train", "harmless_val")
    prompts = [ids for name in names for ids in encoded(ctx, ctx.prompts[name])]
    tally = votes.measure(
        ctx.model, ctx.variables["base"], ctx.tokenizer, prompts,
        steering(found, ctx.model.config.num_layers), cfg.votes, generate=decode.generate,
        stop=ctx.tokenizer.eos_ids, steer=found["steer"], seed=ctx.seed, log=ctx.log,
    )  # fmt: skip
    chosen = votes.elect(tally, cfg.votes, ctx.tokenizer.token)
    voted_mass = float(np.sum(chosen.mean_teacher_prob))
    if cfg.kind != "votes":
        draw = {"random": _random, "matched": _matched}[cfg.kind]
        exclude = sorted({*chosen.ids, *ctx.extras.get("refusal_token_ids", ())})
        chosen = draw(
            tally, chosen.ids, seed=cfg.control_seed, exclude=exclude, names=ctx.tokenizer.token
        )
    mass = float(np.sum(chosen.mean_teacher_prob))
    if cfg.kind != "votes":
        ctx.log(f"control set, {cfg.kind}: teacher mass {mass:.3f}, of the voted {voted_mass:.3f}")
    fields = {k: list(v) for k, v in chosen._asdict().items()}
    v = cfg.votes
    settings = {"size": v.size, "top": v.top, "horizon": v.horizon, "floor": v.floor}
    masses = {"teacher_mass": mass, "voted_mass": voted_mass}
    return {**fields, **settings, **masses, "rollout": v.rollout, "kind": cfg.kind}


def _random(tally: votes.Tally, ids: Sequence[int], **kwargs: Any) -> votes.TokenSet:
    return controls.random_set(tally, len(ids), **kwargs)


def _matched(tally: votes.Tally, ids: Sequence[int], **kwargs: Any) -> votes.TokenSet:
    return controls.mass_matched_random(tally, ids, reach=0.8, **kwargs)
