"""The chunked loss: equal to dense, blind to weightless rows, three matmuls, little memory."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxsafety.core.errors import UsageError
from jaxsafety.losses.dense import dense_divergence
from jaxsafety.losses.divergence import KINDS, VARIANTS, divergence

N, D, V = 11, 5, 13
S = np.array([3, 7, 1, 12])
CASES = [(variant, kind) for variant in VARIANTS for kind in KINDS]
MASKS = {
    "all": np.ones(N, bool),
    "some": np.arange(N) % 3 != 1,
    "one": np.arange(N) == 6,
    "none": np.zeros(N, bool),
}


def arrays(seed=0, n=N, d=D, v=V):
    random = np.random.default_rng(seed)
    student, teacher = (random.normal(size=(n, d)).astype(np.float32) for _ in range(2))
    head, other = (random.normal(size=(d, v)).astype(np.float32) * 0.6 for _ in range(2))
    return student, teacher, head, other


def weights(mask, seed=1):
    raw = np.random.default_rng(seed).random(mask.shape) * mask
    return (raw / max(raw.sum(), 1e-9)).astype(np.float32)


def relative(got, expected):
    return np.linalg.norm(got - expected) / max(np.linalg.norm(expected), 1e-12)


def with_gradients(fn, shared, **options):
    """(student, head, weight, teacher, other) -> ((loss, values), gradients by the first three)."""

    def loss(student, head, weight, teacher, other):
        return fn(student, teacher, head, None if shared else other, weight, **options)

    return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)


def frozen(fn, **options):
    """The gradient by the student alone: the head takes the path without its gradient."""

    def loss(student, head, weight, teacher, other):
        return fn(student, teacher, head, other, weight, **options)

    return jax.grad(lambda *args: loss(*args)[0])


def dense_shared(student, teacher, head, _, weight, **options):
    """Sharing a head must not let the gradient in through the teacher."""
    constant = jax.lax.stop_gradient(head)
    return dense_divergence(student, teacher, head, constant, weight, **options)


@pytest.mark.parametrize(("variant", "kind"), CASES)
def test_chunked_equals_dense(variant, kind):
    options = dict(variant=variant, kind=kind, subset=S, topk=4)

    @jax.jit
    def ours(*args):
        return {
            "shared": with_gradients(divergence, True, chunk=3, **options)(*args),
            "separate": with_gradients(divergence, False, chunk=4, **options)(*args),
            "one chunk": with_gradients(divergence, False, **options)(*args),
            "frozen": frozen(divergence, chunk=5, **options)(*args),
        }

    @jax.jit
    def dense(*args):
        separate = with_gradients(dense_divergence, False, **options)(*args)
        return {
            "shared": with_gradients(dense_shared, True, **options)(*args),
            "separate": separate,
            "one chunk": separate,
            "frozen": separate[1][0],
        }

    student, teacher, head, other = arrays()
    for name, mask in MASKS.items():
        weight = weights(mask)
        got, expected = (f(student, head, weight, teacher, other) for f in (ours, dense))
        for way in ("shared", "separate", "one chunk"):
            (loss, values), gradients = got[way]
            (dense_loss, dense_values), dense_gradients = expected[way]
            assert abs(loss - dense_loss) <= 1e-6, (name, way)
            np.testing.assert_allclose(values, dense_values, rtol=5e-6, atol=2e-6)
            for mine, theirs in zip(gradients, dense_gradients, strict=True):
                assert relative(mine, theirs) <= 1e-5, (name, way)
        assert relative(got["frozen"], expected["frozen"]) <= 1e-5
        # rows without weight: not small, zero; and what they hold changes not one bit
        assert np.all(np.asarray(got["frozen"])[~mask] == 0)
        dirty = np.where(mask[:, None], student, np.nan), np.where(mask[:, None], teacher, np.inf)
        again = ours(dirty[0], head, weight, dirty[1], other)
        jax.tree.map(np.testing.assert_array_equal, again, got)


def test_a_shift_by_one_position_changes_the_loss():
    student, teacher, head, other = arrays()
    weight = weights(MASKS["some"])

    @jax.jit
    def losses(teacher):
        options = [dict(variant=variant, kind=kind, subset=S, topk=4) for variant, kind in CASES]
        return jnp.stack(
            [divergence(student, teacher, head, other, weight, **o)[0] for o in options]
        )

    assert np.abs(losses(teacher) - losses(np.roll(teacher, 1, 0))).min() > 1e-3


def test_only_the_loss_carries_gradients_and_none_reach_the_teacher():
    student, teacher, head, other = arrays()
    weight = weights(MASKS["all"])
    options = dict(variant="generalised", subset=S, chunk=4)

    def loss(teacher, other):
        return divergence(student, teacher, head, other, weight, **options)[0]

    for gradient in jax.grad(loss, argnums=(0, 1))(teacher, other):
        assert np.all(np.asarray(gradient) == 0)
    values = lambda s: divergence(s, teacher, head, other, weight, **options)[1].sum()  # noqa: E731
    assert np.all(np.asarray(jax.grad(values)(student)) == 0)


def test_the_head_flag_forces_and_refuses():
    student, teacher, head, _ = arrays()
    weight = weights(MASKS["some"])

    def gradients(flag):
        def loss(student, head):
            options = dict(variant="full", chunk=4, train_head=flag)
            return divergence(student, teacher, head, None, weight, **options)[0]

        return jax.grad(loss, argnums=(0, 1))(student, head)

    automatic, on, off = gradients(None), gradients(True), gradients(False)
    np.testing.assert_array_equal(automatic[1], on[1])
    assert np.abs(on[1]).max() > 1e-3 and np.all(np.asarray(off[1]) == 0)
    np.testing.assert_array_equal(on[0], off[0])


def matmuls(fn, *args):
    """Products with the head in the jaxpr of `fn`, loops included."""
    return len(re.findall(r"dot_general\[", str(jax.make_jaxpr(fn)(*args))))


def test_three_matmuls_with_a_frozen_head_two_when_shared():
    student, teacher, head, other = arrays()
    weight = weights(MASKS["all"])

    def loss(student, head, other):
        return divergence(student, teacher, head, other, weight, variant="full", chunk=4)[0]

    assert matmuls(jax.grad(loss), student, head, other) == 3
    assert matmuls(jax.grad(loss), student, head, None) == 2  # [h_s; h_t] W, and g W^T
    assert matmuls(jax.grad(loss, argnums=(0, 1)), student, head, other) == 4
    assert matmuls(loss, student, head, other) == 2


@pytest.mark.parametrize("variant", ["full", "generalised", "tail", "topk"])
def test_temporary_memory_is_of_chunks_not_of_rows(variant):
    chunk, vocab, width = 32, 1024, 4

    def temporary(rows):
        def loss(student, teacher, head, weight):
            options = dict(variant=variant, subset=S, topk=4, chunk=chunk)
            return divergence(student, teacher, head, None, weight, **options)[0]

        shapes = [(rows, width), (rows, width), (width, vocab), (rows,)]
        args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
        compiled = jax.jit(jax.grad(loss)).lower(*args).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many = temporary(2048), temporary(4096)
    assert few < 10 * 4 * chunk * vocab + 20 * 4 * 2048 * width
    assert few < 4 * 2048 * vocab / 4  # a quarter of what one dense [N,V] takes
    assert many < 1.1 * few + 20 * 4 * 2048 * width


def test_bfloat16_multiplies_in_bfloat16_and_sums_in_float32():
    student, teacher, head, other = arrays()
    weight = weights(MASKS["all"])
    rough = [jnp.asarray(x, jnp.bfloat16) for x in (student, teacher)]
    fn = jax.jit(with_gradients(divergence, False, variant="full", chunk=4))
    (loss, values), gradients = fn(rough[0], head, weight, rough[1], other)
    (exact, _), slopes = with_gradients(dense_divergence, False, variant="full")(
        student, head, weight, teacher, other
    )
    assert loss.dtype == values.dtype == jnp.float32
    assert [g.dtype for g in gradients] == [jnp.bfloat16, jnp.float32, jnp.float32]
    assert float(loss) == pytest.approx(float(exact), rel=0.03)
    for mine, theirs in zip(gradients, slopes, strict=True):
        assert relative(np.asarray(mine, np.float32), theirs) < 0.03


def test_halves_of_the_batch_add_up():
    student, teacher, head, other = arrays(n=12)
    weight = weights(np.arange(12) % 4 != 2)
    fn = jax.jit(with_gradients(divergence, False, variant="tail", subset=S, chunk=4))
    whole = fn(student, head, weight, teacher, other)
    cut = [fn(student[i], head, weight[i], teacher[i], other) for i in (slice(6), slice(6, 12))]
    assert float(whole[0][0]) == pytest.approx(sum(float(c[0][0]) for c in cut), abs=1e-6)
    np.testing.assert_allclose(whole[1][1], cut[0][1][1] + cut[1][1][1], atol=1e-6)


def test_rows_split_over_eight_devices():
    student, teacher, head, _ = arrays(n=128, d=8, v=64)
    weight = weights(np.random.default_rng(3).random(128) < 0.6)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())

    def compiled(shards):
        def loss(student, head, weight, teacher):
            options = dict(variant="generalised", subset=S, chunk=32, shards=shards)
            return divergence(student, teacher, head, None, weight, **options)[0]

        fn = jax.jit(
            jax.value_and_grad(loss, argnums=(0, 1)),
            in_shardings=(split, whole, split, split),
            out_shardings=(whole, (split, whole)),
        )
        return fn.lower(student, head, weight, teacher).compile()

    def flops(program):
        return program.cost_analysis()["flops"]

    args = [
        jax.device_put(x, s)
        for x, s in zip((student, head, weight, teacher), (split, whole, split, split), strict=True)
    ]
    shared_work = compiled(8)
    loss, gradients = shared_work(*args)
    expected, slopes = jax.value_and_grad(
        lambda s, h: dense_shared(s, teacher, h, None, weight, variant="generalised", subset=S)[0],
        argnums=(0, 1),
    )(student, head)
    assert float(loss) == pytest.approx(float(expected), abs=1e-6)
    for mine, theirs in zip(gradients, slopes, strict=True):
        assert relative(mine, theirs) <= 1e-5
    # each device computes its own rows of a chunk, not all of them
    assert flops(shared_work) < 0.3 * flops(compiled(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "jsd"}, "variant: got 'jsd'; allowed: full, partial, generalised, tail, "),
        ({"kind": "kl"}, "kind: got 'kl'; allowed: reverse_kl, forward_kl"),
        ({"subset": None}, "token_set: got None; allowed: at least one token id"),
        ({"subset": []}, "token_set: got .*; allowed: at least one token id"),
        ({"subset": [1, 2, 2]}, r"token_set: got \[2\]; allowed: .* each once"),
        ({"subset": [1, 13]}, r"token_set: got \[13\]; allowed: .* from 0 to 12"),
        ({"subset": [-1]}, r"token_set: got \[-1\]"),
        (
            {"subset": [[1], [2, 3]]},
            "token_set: got 'lists of unlike lengths'; allowed: at least one",
        ),
        ({"subset": [[1, 2]]}, r"token_set: got \(1, 2\)"),
        ({"subset": [0.5]}, "token_set: got 'float64 ids'"),
        ({"variant": "topk", "topk": 14}, "topk: got 14; allowed: 1 to 13"),
        ({"variant": "topk", "topk": 0}, "topk: got 0; allowed: 1 to 13"),
        ({"chunk": 0}, "chunk: got 0; allowed: a positive integer"),
    ],
)
def test_bad_input_is_one_line_with_field_given_and_allowed(change, message):
    student, teacher, head, other = arrays()
    options = {"variant": "partial", "subset": S, **change}
    with pytest.raises(UsageError, match=message) as error:
        divergence(student, teacher, head, other, weights(MASKS["all"]), **options)
    assert "\n" not in str(error.value)


def test_the_plain_call_is_the_mean_over_rows_with_a_shared_head():
    student, teacher, head, _ = arrays()
    plain = divergence(student, teacher, head)
    weight = np.full(N, 1 / N, np.float32)
    whole = divergence(student, teacher, head, None, weight, variant="full")
    np.testing.assert_array_equal(plain[0], whole[0])
    np.testing.assert_array_equal(plain[1], whole[1])
    np.testing.assert_allclose(plain[0], np.mean(plain[1]), rtol=1e-6)


def test_a_teacher_with_a_head_may_have_another_width():
    student, _, head, _ = arrays()
    _, teacher, _, other = arrays(d=D + 2)
    weight = weights(MASKS["all"])
    options = dict(variant="partial", subset=S)
    got = divergence(student, teacher, head, other, weight, **options)
    expected = dense_divergence(student, teacher, head, other, weight, **options)
    assert relative(got[1], expected[1]) < 1e-5
