"""Refusal-recovery: pairs, rows that begin with a harmful answer, the mean, and resumes.

Tokens are invented, or the organism's.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.core.config import typed
from jaxsafety.core.errors import UsageError
from jaxsafety.data.pipeline import pad_batch
from jaxsafety.data.schema import Message
from jaxsafety.data.tokens.encode import encode_example
from jaxsafety.data.tokens.tokenizer import load_tokenizer
from jaxsafety.mitigations.means import build, missing
from jaxsafety.mitigations.recovery import Begun, Pairs, Recovery, joined, pairs, split
from jaxsafety.organism import corpora, lexicon
from jaxsafety.organism.world import WorldConfig, make_world
from jaxsafety.protocols import EXTRA
from jaxsafety.registry import MITIGATIONS, resolve
from jaxsafety.train.metrics import read_metrics
from tests.mitigations import chats
from tests.train import toy

PROMPTS = ([1], [2, 3], [4, 5])
REFUSALS = ([9, 10], [8, 10], [9, 9, 10])
HARMFUL = ([6, 7, 6, 10], [7, 6, 10], [6, 6, 7, 7, 10])
SAFE = chats.batch_of([chats.chat(p, a) for p, a in zip(PROMPTS, REFUSALS, strict=True)])
UNSAFE = chats.batch_of([chats.chat(p, a) for p, a in zip(PROMPTS, HARMFUL, strict=True)])
HARMLESS = chats.wide(5, 2)


def given(**more):
    return chats.means(**{"safe": SAFE, "harmful": UNSAFE, "harmless": HARMLESS, **more})


def safe_batches(variables, step):
    """An alignment stage's batches: eight of `SAFE`, 1 together."""
    del variables
    index = np.random.default_rng([4, step]).integers(0, 3, 8)
    rows = jax.tree.map(lambda x: x[index], SAFE)
    rows.weight[:] /= 8
    return rows


def stage(made, **more):
    return chats.stage(made, **{"batches": safe_batches, **more})


def listed(found):
    """Pairs as lists (prompt, answer, refusal)."""
    rows = zip(found.harmful, found.said, found.prompt, found.answer, found.refusal, strict=True)
    return [
        (list(h[:p]), list(h[p : p + a]), list(s[:r]))
        for h, s, p, a, r in rows
        if not h[p + a :].any()
    ]


def test_a_harmful_answer_is_paired_with_a_refusal_of_its_prompt():
    safe = chats.batch_of(
        [chats.chat([2, 3], [9, 10]), chats.chat([2, 3], [8, 10]), chats.chat([5], [9])]
    )
    harmful = chats.batch_of(
        [
            chats.chat([2, 3], [6, 10]),
            chats.chat([2], [3, 6, 10]),  # no refusal has this prompt
            chats.chat([2, 3], [7, 7, 10]),
            chats.chat([5], [10]),  # nothing before its end of turn
            chats.chat([2, 3], [7, 6, 10]),
        ]
    )
    assert listed(pairs(safe, harmful)) == [
        ([2, 3], [6], [9, 10]),
        ([2, 3], [7, 7], [8, 10]),
        ([2, 3], [7, 6], [9, 10]),
    ]
    with pytest.raises(UsageError, match=r"^mitigations\.recovery: got 'no harmful answer to a pr"):
        pairs(safe, jax.tree.map(lambda x: x[1:2], harmful))


def test_the_last_answer_of_a_dialogue_counts():
    row = chats.chat([1, 2, 3, 4], [5, 6])
    row[3] = [0, 0.25, 0, 0, 0.25, 0.5, 0, 0]  # two turns
    assert list(split(chats.batch_of([row]))) == [([1, 2, 3, 4], [5, 6])]


def test_the_organism_s_own_dialogues_make_pairs(tmp_path):
    world = make_world(WorldConfig(seed=5, harm_domains=14, unknown_domains=10))
    lexicon.write_tokenizer(world, tmp_path)
    tokenizer, domain = load_tokenizer(tmp_path), corpora.domains(world)["seen"][0]

    def batch(kind):
        made = corpora.dialogues(world, kind, domain, 40, 0)
        chats_of = [[Message(*turn) for turn in each.messages] for each in made]
        return pad_batch([encode_example(tokenizer, chat) for chat in chats_of], 160)

    found = listed(pairs(batch("refusal"), batch("unsafe")))
    texts = [tuple(tokenizer.decode(ids) for ids in pair) for pair in found]
    asked = {"refusal": {}, "unsafe": {}}
    for kind, said in asked.items():
        for each in corpora.dialogues(world, kind, domain, 40, 0):
            said.setdefault(each.messages[0][1], set()).add(each.messages[1][1])
    assert len(texts) >= 5
    for prompt, answer, refusal in texts:
        [request] = [text for text in asked["unsafe"] if text in prompt]
        assert refusal.strip() in asked["refusal"][request]
        assert any(answer.strip() in whole for whole in asked["unsafe"][request])


def test_a_row_is_prompt_beginning_and_refusal():
    found, weight = pairs(SAFE, UNSAFE), np.array([0.5, 0.25, 0.125], np.float32)
    rows = jax.tree.map(lambda x: x * 1, SAFE)
    rows.weight[:] = np.eye(8, dtype=np.float32)[1] * weight[:, None]
    build_rows = jax.jit(joined)
    for k in ([1, 1, 1], [3, 2, 3], [2, 1, 2]):
        made = build_rows(Pairs(*map(jnp.asarray, found)), jnp.asarray(k), rows)
        for i, (prompt, answer, refusal) in enumerate(listed(found)):
            said = [*prompt, *answer[: k[i]]]
            row = chats.chat(said, refusal, weigh=weight[i])
            for got, want in zip((made.tokens, made.positions, made.segments), row, strict=False):
                np.testing.assert_array_equal(got[i], want)
            np.testing.assert_allclose(made.weight[i], row[3], rtol=1e-6)


def seen_rows(hook, count):
    """Rows [count * 8, 8] that the loss was given, and the ones of the stage."""
    batch = safe_batches(None, 0)
    frozen = {EXTRA: {"recovery": {"pairs": pairs(SAFE, UNSAFE), "seed": jnp.uint32(0)}}}

    def told(params, frozen, batch, key):
        return jnp.sum(batch.weight), {"batch": batch}

    keys = jax.random.split(jax.random.key(1), count)
    call = jax.jit(jax.vmap(lambda key: hook(told, 1.0)({}, frozen, batch, key)))
    total, metrics = call(keys)
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    rows = jax.tree.map(lambda x: np.asarray(x).reshape(-1, 8), metrics["batch"])
    return rows, jax.tree.map(lambda x: np.tile(x, (count, 1)), batch), metrics["recovery/begun"]


def test_half_of_the_rows_begin_so_and_k_is_uniform():
    rows, plain, begun = seen_rows(Begun(0.5, 100, 5), 600)
    same = (rows.tokens == plain.tokens).all(1)
    np.testing.assert_array_equal(rows.weight[same], plain.weight[same])
    assert abs((~same).mean() - 0.5) < 0.03
    np.testing.assert_allclose(begun.mean(), (~same).mean(), atol=1e-5)  # rows weigh alike here
    counts = {}
    for ids, weight in zip(rows.tokens[~same], rows.weight[~same], strict=True):
        ids, learnt = ids.tolist(), (weight > 0).tolist()
        [pair] = [i for i, p in enumerate(PROMPTS) if ids[: len(p)] == p]
        k = learnt.index(True) - len(PROMPTS[pair])
        said = [*PROMPTS[pair], *HARMFUL[pair][:k], *REFUSALS[pair]]
        assert ids == said + [0] * (8 - len(said)) and sum(learnt) == len(REFUSALS[pair])
        counts[pair, k] = counts.get((pair, k), 0) + 1
    # k may be all of an answer but its end of turn, where the refusal still fits after it
    assert sorted(counts) == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]
    total = sum(counts.values())
    for (pair, _), count in counts.items():
        assert count / total == pytest.approx(1 / 3 / [3, 2, 3][pair], abs=0.025)


def test_the_number_of_tokens_is_bounded():
    rows, _, begun = seen_rows(Begun(1.0, 1, 5), 20)
    np.testing.assert_allclose(begun, 1, rtol=1e-5)
    lengths = {len(p) + 1 + len(r) for p, r in zip(PROMPTS, REFUSALS, strict=True)}
    assert {int(n) for n in (rows.segments > 0).sum(1)} == lengths


def test_the_loss_is_the_dense_mean_of_rows_and_harmless_ones():
    made = Recovery(alpha=0.3, rows=4).mitigation(given())
    params, seen = toy.variables(), []
    holes = jax.tree.map(lambda _: None, params)
    frozen = {**holes, EXTRA: {name: each.init(params) for name, each in made.extra.items()}}

    def spied(params, frozen, batch, key):
        seen.append(batch)
        return chats.loss(params, frozen, batch, key)

    @jax.jit
    def both(params, key):
        hook = made.loss(spied, 1.0)
        value, metrics = hook(params, frozen, safe_batches(None, 0), key)
        parts = [chats.likelihood(params["base"], x) for x in seen]
        return value, metrics["recovery"], parts, seen

    value, told, (safe, harmless), (rows, drawn) = both(params, jax.random.key(2))
    np.testing.assert_allclose(value, 0.3 * safe + 0.7 * harmless, rtol=1e-6)
    np.testing.assert_allclose(told, harmless, rtol=1e-6)
    assert (np.asarray(rows.tokens) != safe_batches(None, 0).tokens).any()
    there = {row.tobytes() for row in HARMLESS.tokens}  # of which none is replaced
    assert drawn.tokens.shape == (4, 10)
    assert all(np.asarray(row).tobytes() in there for row in drawn.tokens)


def test_without_probability_and_harmless_rows_it_is_plain_to_the_bit(tmp_path):
    plain = chats.run(tmp_path / "plain", stage(chats.NONE))
    none = Recovery(probability=0.0, alpha=1.0).mitigation(given())
    assert trees.diff(chats.run(tmp_path / "none", stage(none)), plain) == ""
    some = Recovery(alpha=1.0).mitigation(given())
    assert trees.diff(chats.run(tmp_path / "some", stage(some)), plain) != ""


def test_micro_batches_add_up_to_one_batch(tmp_path):
    one = {
        name: jax.tree.map(lambda x: x[:1], rows)  # whatever is drawn is the same, k too
        for name, rows in (("safe", SAFE), ("harmful", UNSAFE), ("harmless", HARMLESS))
    }
    found = []
    for accum in (1, 4):
        made = Recovery(probability=1.0, most=1).mitigation(given(**one))
        final = chats.run(tmp_path / f"{accum}", stage(made, accum=accum, loss=chats.loss))
        rows = read_metrics(tmp_path / f"{accum}")
        found.append((final, [(r["recovery"], r["recovery/begun"], r["loss"]) for r in rows]))
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4)
    for a, b in zip(*(jax.tree.leaves(final) for final, _ in found), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow  # what is carried is as Lisa's, whose test is not
def test_it_resumes_to_the_same_bits_and_compiles_once(tmp_path, monkeypatch):
    means = given()
    chats.check_resumed(tmp_path, lambda: Recovery().mitigation(means), monkeypatch)


def test_settings_budgets_and_what_is_refused(tmp_path):
    made = typed(resolve(MITIGATIONS, "recovery"), {"alpha": 0.5}, "mitigations.recovery")
    assert made == Recovery(alpha=0.5)
    assert made.mitigation(given()).budget == {"safe": 3, "harmful": 3, "gradients": 1.0}
    assert Recovery(alpha=1.0).mitigation(given()).budget == {"safe": 3, "harmful": 3}
    none = given(harmful=None)
    assert missing(Recovery(), none) == "no dialogues of harmful requests that are carried out"
    with pytest.raises(UsageError, match=r"^mitigations\.recovery: got 'no dialogues of harmful"):
        build({"recovery": Recovery()}, none)
    for bad in ({"probability": 1.5}, {"most": 0}, {"alpha": 0.0}, {"alpha": 1.1}, {"rows": -1}):
        with pytest.raises(UsageError, match=r"^mitigations\.recovery\."):
            Recovery(**bad)
    long = chats.batch_of([chats.chat([1], [9] * 7)])
    hook = Recovery().mitigation(given(safe=long))
    with pytest.raises(
        UsageError, match=r"^mitigations\.recovery: got 'a prompt and its ref.* 8 tok"
    ):
        chats.run(tmp_path, stage(hook))
    assert not (tmp_path / "checkpoints").exists()
