"""SafeSteer stages A to C: the refusal direction, the steered teacher, the safety-token set.

The stages' numerics live in `probing/`; here they meet a `Context`: prompts, judge, sampler, log.
Every function returns plain values, so its result can be an artifact on disk.
Letters: P post-instruction positions, L layers, D width, X prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from jaxsafety.core.errors import bad
from jaxsafety.data.tokens.encode import encode_prompt, post_instruction
from jaxsafety.data.tokens.system import without_system
from jaxsafety.data.tokens.tokenizer import Tokenizer
from jaxsafety.judges.judging import judged, pair
from jaxsafety.models.api import LayerInputs
from jaxsafety.probing import directions, forward, random_sets, scoring, selection, votes
from jaxsafety.probing.pieces import Piece, Pieces
from jaxsafety.probing.random_sets import word_tokens
from jaxsafety.protocols import Context, Item, SampleConfig, Served, Setting
from jaxsafety.sampling import copies

PROMPT_SETS = ("harmful_train", "harmful_val", "harmless_train", "harmless_val", "wrapped_val")
VOTERS = ("val", "kept", "all")
# Stage A's prompts: with what the template writes, or without its own system turn.
SYSTEMS = {"template": encode_prompt, "none": without_system}
ROWS = 64  # answers sampled at once
# The voted set and its controls. Those of `WORDED` are told by words of complying answers.
WORDED = ("neutral", "complying")
TOKEN_KINDS = ("votes", "random", "matched", *WORDED)
NONE = LayerInputs()


@dataclass(frozen=True)
class DirectionConfig:
    """Stage A. `openers` are first words of refusals; empty means measure them from judged answers.

    `opener_ids` are first tokens of refusals by id, in the place of `openers`. `system` "none"
    leaves the system turn out that a template writes of its own (Qwen2.5, Llama 3.2), in all of
    this stage and in no other; "template" is the template as it is.
    `filter` keeps harmful prompts that the base refuses and harmless ones that it answers: "score"
    by the refusal score of the first token (A4), "judge" by what it says, for models whose first
    tokens are shared by both. `minimum` prompts must survive; `fallback` is error or rank.
    Candidates answer at `temperature`: greedy answers hide how much of the mass a teacher moves.
    """

    select: selection.SelectConfig = field(default_factory=selection.SelectConfig)
    openers: tuple[str, ...] = ()
    opener_ids: tuple[int, ...] = ()
    system: str = "template"
    filter: str = "judge"
    minimum: int = 8
    fallback: str = "rank"
    max_tokens: int = 40
    temperature: float = 1.0


@dataclass(frozen=True)
class TokenConfig:
    """Stage C. `prompts`, of the harmless ones: which the teacher answers for the vote.

    "val" is every validation prompt, "kept" those of them that stage A's filter kept (the published
    code), "all" those that are trained on too (the paper's text: 160).

    `kind`: votes, or a control: random, matched (random with the teacher mass of the voted set,
    or as near as the tokens left come to it), neutral (as matched, without a word of complying
    answers) or complying (as matched, of such words alone); controls never contain a voted token
    or a word of refusals. `revote`: updates between two votes while the student trains
    (`revote.py`); 0, as published, votes once before it.
    """

    votes: votes.VoteConfig = field(default_factory=votes.VoteConfig)
    prompts: str = "val"
    kind: str = "votes"
    control_seed: int = 0
    revote: int = 0


def steering(found: Mapping[str, Any], num_layers: int) -> LayerInputs:
    """The teacher as an argument: coefficient * vector at the input of one block."""
    candidate = selection.Candidate(found["layer"], found["position"], found["coefficient"])
    return selection.steering_inputs(candidate, num_layers, np.asarray(found["vector"]))


def encode_items(ctx: Context, items: Sequence[Item], system: str = "template") -> list[list[int]]:
    """Prompt ids of items, generation prompt included; `system` is one of `SYSTEMS`."""
    return [SYSTEMS[system](ctx.tokenizer, item.messages) for item in items]


def attacks(ctx: Context) -> Sequence[Item]:
    """Harmful validation prompts that try hardest: wrapped ones, or plain ones if none are."""
    return ctx.setting.prompts.get("wrapped_val") or ctx.setting.prompts["harmful_val"]


def pieces(ctx: Context, *, kept: bool = True) -> Pieces:
    """Long loops of this run: kept as artifacts (or not), ended by SIGTERM, told of in its log."""
    found = Pieces(check=ctx.interrupt.check, log=ctx.log)
    if not kept:
        return found
    return replace(found, keep=lambda name, make: ctx.artifact(f"parts/{name}", make))


def answers(
    ctx: Context,
    prompts: Sequence[Sequence[int]],
    cfg: SampleConfig,
    layers: LayerInputs = NONE,
    steer: str = "all",
    *,
    step: int = 0,
) -> list[list[int]]:
    """What the base says to each prompt, as ids; the run may end between two batches."""
    # Longest first, as `generate` cuts them itself, in calls of one size: each size is compiled.
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    size = -(-len(order) // -(-len(order) // ROWS))

    def say(part: Sequence[int]) -> list[list[int]]:
        said = copies.generate(
            ctx,
            Served(ctx.variables["base"], layers, steer),
            [prompts[i] for i in part],
            cfg,
            seed=ctx.seed,
            step=step,
            batch_size=size,
            names=part,
        )
        return [row[0].ids for row in said]

    parts = [order[start : start + size] for start in range(0, len(order), size)]
    work = [Piece("", len(part), partial(say, part)) for part in parts]
    said = pieces(ctx, kept=False).run("answers of the base", "prompts", work)
    pairs = zip(parts, said, strict=True)
    found = {i: ids for part, rows in pairs for i, ids in zip(part, rows, strict=True)}
    return [found[i] for i in range(len(prompts))]


def responder(
    ctx: Context, max_tokens: int, temperature: float, system: str = "template"
) -> Callable[..., list[str]]:
    """`(layer inputs, steer, items) -> texts` from the base; temperature 0 is greedy."""
    cfg = SampleConfig(max_tokens, temperature, stop=ctx.tokenizer.eos_ids)

    def respond(layers: LayerInputs, steer: str, items: Sequence[Item]) -> list[str]:
        said = answers(ctx, encode_items(ctx, items, system), cfg, layers, steer)
        return [ctx.tokenizer.decode(ids) for ids in said]

    return respond


def filter_prompts(cfg: DirectionConfig, ctx: Context) -> dict[str, Any]:
    """Which prompts the base treats as it should, and the tokens that open its refusals (A3, A4).

    Returns:
      refusal_ids, and per split of prompts: kept (indices), rule ("threshold" or "rank").

    Raises:
      UsageError: too few prompts of a split pass, or no opener can be measured.
    """
    splits = PROMPT_SETS[:4]
    kept: dict[str, directions.Filtered] = {}

    def choose(name: str, scores: np.ndarray) -> None:
        kept[name] = directions.filter_prompts(
            scores,
            name.startswith("harmful"),
            minimum=min(cfg.minimum, len(scores)),
            fallback=cfg.fallback,
            field=name,
            by=cfg.filter,
        )

    refused: dict[str, np.ndarray] = {}
    given = cfg.openers or cfg.opener_ids
    if cfg.filter == "judge" or not given:
        respond = responder(ctx, cfg.max_tokens, 0.0, cfg.system)
        for two in (splits[:2], splits[2:]):  # harmful ones first, and at once: it may be over
            asked = {name: ctx.setting.prompts[name] for name in two}
            refused |= judged_refusals(ctx, respond, asked)
            for name in two if cfg.filter == "judge" else ():
                choose(name, np.where(refused[name], 1.0, -1.0))  # by how the base behaves
    check = pieces(ctx).check

    def logits(name: str) -> np.ndarray:
        ids = encode_items(ctx, ctx.setting.prompts[name], cfg.system)
        return forward.last_logits(ctx.model, ctx.variables["base"], ids, check=check)

    if given:
        refusal_ids = directions.refusal_tokens(ctx.tokenizer, given)
    else:
        train = ("harmful_train", "harmless_train")
        rows = np.concatenate([logits(name) for name in train])
        said = np.concatenate([refused[name] for name in train])
        refusal_ids = directions.measured_refusal_tokens(rows[said], rows[~said])
    ctx.log(f"refusal openers: {' '.join(ctx.tokenizer.token(i) for i in refusal_ids)}")
    for name in splits:
        if cfg.filter == "score":
            choose(name, directions.refusal_score(logits(name), refusal_ids))
        rule, count = kept[name], len(ctx.setting.prompts[name])
        ctx.log(f"{name}: {len(rule.kept)} of {count} kept by {cfg.filter} ({rule.rule})")
    return {
        "refusal_ids": [int(i) for i in refusal_ids],
        "kept": {name: list(rule.kept) for name, rule in kept.items()},
        "rule": {name: rule.rule for name, rule in kept.items()},
    }


def scored_candidates(
    cfg: DirectionConfig, ctx: Context
) -> tuple[directions.Directions, list[selection.Candidate]]:
    """Refusal ids, filter, difference of means and next-token scores of every candidate (A3-A6)."""
    model, params = ctx.model, ctx.variables["base"]
    found = ctx.artifact("filter", lambda: filter_prompts(cfg, ctx))
    kept = {
        name: encode_items(ctx, [ctx.setting.prompts[name][i] for i in rows], cfg.system)
        for name, rows in found["kept"].items()
    }
    positions = len(post_instruction(ctx.tokenizer))
    raw = directions.extract(
        model, params, kept["harmful_train"], kept["harmless_train"], positions
    )
    arditi = cfg.select.criterion == "arditi"
    candidates = scoring.score_candidates(
        model,
        params,
        raw,
        kept["harmful_val"],
        kept["harmless_val"],
        found["refusal_ids"],
        coefficients=(1.0,) if arditi else cfg.select.coefficients,
        limits=cfg.select if arditi else None,
        pieces=pieces(ctx),
    )
    return raw, candidates


def find_direction(cfg: DirectionConfig, ctx: Context) -> dict[str, Any]:
    """Stage A: candidates and their scores, then the selection among them.

    Artifacts besides what it returns: filter, and `parts/direction.<score>.<n>`, pieces of the
    scores, so that a run that is ended goes on where it was.
    """
    raw, candidates = scored_candidates(cfg, ctx)
    chosen = selection.select(
        raw,
        candidates,
        cfg.select,
        respond=responder(ctx, cfg.max_tokens, cfg.temperature, cfg.system),
        judge=ctx.setting.judge,
        harmless=ctx.setting.prompts["harmless_val"],
        wrapped=attacks(ctx),
        pieces=pieces(ctx),
    )
    ctx.log(
        f"direction: layer {chosen.layer}, position {chosen.position}, coefficient"
        f" {chosen.coefficient:g}, steer {chosen.steer}, norm ratio {chosen.norm_ratio:.2f}"
    )
    result = chosen._asdict()
    result["candidates"] = [c._asdict() for c in chosen.candidates]
    return result


def judged_refusals(
    ctx: Context, respond: Callable[..., list[str]], splits: Mapping[str, Sequence[Item]]
) -> dict[str, np.ndarray]:
    """[X] bool per split: which prompts the base refuses, greedily, by the judge's word."""
    if ctx.setting.judge is None:
        raise bad("method.direction.filter", "judge", "score with openers: there is no judge")
    items = [item for part in splits.values() for item in part]
    verdicts = judged(ctx.setting.judge, pair(items, respond(LayerInputs(), "all", items)))
    refused = np.asarray([bool(v["refusal"]) for v in verdicts])
    ends = np.cumsum([len(part) for part in splits.values()])
    return dict(zip(splits, np.split(refused, ends[:-1]), strict=True))


def find_tokens(
    cfg: TokenConfig, ctx: Context, found: Mapping[str, Any], student: Any = None
) -> dict[str, Any]:
    """Stage C: S by voting, or one of its random controls.

    `student`: parameters that the teacher is compared with; None is the base's.
    """
    prompts = encode_items(ctx, voters(cfg.prompts, ctx))

    def sampled(model: Any, params: Any, tokenizer: Any, *args: Any, **options: Any) -> Any:
        what = Served(params, options.pop("layers"), options.pop("steer"))
        return copies.generate(ctx, what, *args, **options)

    tally = votes.measure(
        ctx.model,
        ctx.variables["base"],
        ctx.tokenizer,
        prompts,
        steering(found, ctx.model.config.num_layers),
        cfg.votes,
        generate=sampled,
        stop=ctx.tokenizer.eos_ids,
        steer=found["steer"],
        seed=ctx.seed,
        log=ctx.log,
        pieces=pieces(ctx, kept=False),
        student=student,
    )
    chosen = votes.elect(tally, cfg.votes, ctx.tokenizer.token)
    voted_mass = float(np.sum(chosen.mean_teacher_prob))
    if cfg.kind != "votes":
        chosen = _control(cfg, ctx, tally, chosen.ids)
    mass = float(np.sum(chosen.mean_teacher_prob))
    if cfg.kind != "votes":
        ctx.log(f"control set, {cfg.kind}: teacher mass {mass:.3f}, of the voted {voted_mass:.3f}")
    fields = {k: list(v) for k, v in chosen._asdict().items()}
    v = cfg.votes
    settings = {"size": v.size, "top": v.top, "horizon": v.horizon, "floor": v.floor}
    masses = {"teacher_mass": mass, "voted_mass": voted_mass}
    return {**fields, **settings, **masses, "rollout": v.rollout, "kind": cfg.kind}


def _control(
    cfg: TokenConfig, ctx: Context, tally: votes.Tally, ids: Sequence[int]
) -> votes.TokenSet:
    """A control of the voted `ids`, of as many tokens."""
    exclude, within = {*ids, *word_tokens(ctx.tokenizer, ctx.setting.refusal_words)}, None
    if cfg.kind in WORDED:
        complying = word_tokens(ctx.tokenizer, ctx.setting.complying_words)
        if cfg.kind == "complying":
            within = complying
        else:
            exclude |= set(complying)
    options: dict[str, Any] = {
        "seed": cfg.control_seed,
        "exclude": sorted(exclude),
        "names": ctx.tokenizer.token,
    }
    if cfg.kind == "random":
        return random_sets.random_set(tally, len(ids), **options)
    return random_sets.mass_matched_random(tally, ids, within=within, reach=0.8, **options)


def voters(which: str, ctx: Context) -> list[Item]:
    """The harmless prompts of the vote, `which` one of `VOTERS`.

    Raises:
      UsageError: "kept" of a run whose stage A has not filtered.
    """
    given = ctx.setting.prompts
    if which != "kept":
        return [*(given["harmless_train"] if which == "all" else ()), *given["harmless_val"]]

    def missing() -> dict[str, Any]:
        raise bad("method.tokens.prompts", "kept", "val or all, where no prompt was filtered")

    rows = ctx.artifact("filter", missing)["kept"]["harmless_val"]
    return [given["harmless_val"][i] for i in rows]


def drawable(cfg: TokenConfig, tokenizer: Tokenizer, setting: Setting) -> None:
    """Rejects a control that the setting has no words for, or too few.

    Raises:
      UsageError: see above.
    """
    if cfg.kind not in WORDED:
        return
    if not setting.complying_words:
        allowed = "votes, random, matched: no words of complying answers are known here"
        raise bad("method.tokens.kind", cfg.kind, allowed)
    complying = set(word_tokens(tokenizer, setting.complying_words))
    free = len(complying - set(word_tokens(tokenizer, setting.refusal_words)))
    if cfg.kind == "complying" and free < cfg.votes.size:
        allowed = f"at most {free}, the tokens of complying answers that no refusal has"
        raise bad("method.tokens.votes.size", cfg.votes.size, allowed)
