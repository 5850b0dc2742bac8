"""Vaccine: norm and direction of the perturbation, its control, accumulation, and resumes."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import trees
from jaxsafety.core.config import typed
from jaxsafety.core.errors import UsageError
from jaxsafety.mitigations.means import build, factor, missing
from jaxsafety.mitigations.vaccine import Vaccine, scaled
from jaxsafety.models.api import LayerInputs
from jaxsafety.protocols import PERTURBATION
from jaxsafety.registry import MITIGATIONS, resolve
from jaxsafety.train.metrics import read_metrics
from tests.mitigations import aligning, chats

KEY = jax.random.key(2)


def made(rho=0.5, random=False):
    return Vaccine(rho, random).mitigation(aligning.means())


def dense(base, batch, add):
    """- sum w log p from whole logits, with `add` at the blocks' inputs."""
    layers = LayerInputs(add=add)
    out = aligning.tiny()[0].apply(
        base, batch.tokens, batch.positions, segments=batch.segments, layers=layers
    )
    logp = jax.nn.log_softmax(aligning.tiny()[0].unembed(base, out.hidden)[:, :-1])
    picked = jnp.take_along_axis(logp, batch.tokens[:, 1:, None], axis=-1)[..., 0]
    return -jnp.sum(picked * batch.weight[:, 1:])


def seen(hooks, batch, accum=1):
    """The perturbation that a loss linear in it is given last, and what it is linear by."""
    found, slope = [], np.random.default_rng(8).normal(size=(2, *batch.tokens.shape, 32)) * 1e-3
    slope = np.float32(slope * (batch.segments > 0)[..., None])

    def spied(params, frozen, batch, key):
        found.append(frozen[PERTURBATION])
        return jnp.sum(slope * frozen[PERTURBATION]) + params["w"], {}

    @jax.jit
    def compute(params):
        own = hooks.grad(lambda f: jax.value_and_grad(f, has_aux=True))(
            hooks.loss(spied, 1 / accum)
        )
        _, grads = own(params, {}, batch, KEY)
        given = found.pop()
        return (given.primal if hasattr(given, "primal") else given), grads

    eps, grads = compute({"w": jnp.zeros(())})
    assert grads["w"] == 1
    return np.asarray(eps), slope


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("rho", [0.1, 5.0])
def test_the_perturbation_has_one_norm_over_all_layers(rho, random):
    batch = aligning.batches(None, 0)
    eps, slope = seen(made(rho, random), batch)
    assert eps.shape == (2, 8, 14, 32) and eps.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(np.float64(eps)), rho, rtol=1e-5)
    assert not eps[:, batch.segments == 0].any()  # nothing on padding
    assert all(np.abs(layer).max() > 0 for layer in eps)
    if not random:
        np.testing.assert_allclose(eps, rho * slope / np.linalg.norm(slope), rtol=1e-5)
    parts = [seen(made(rho, random), aligning.batches(None, i), accum=4)[0] for i in range(4)]
    total = np.sqrt(sum(np.sum(np.float64(part) ** 2) for part in parts))
    np.testing.assert_allclose(total, rho, rtol=1e-5)  # whatever a step is split into


def test_the_control_is_noise_of_every_step_s_own():
    batch = aligning.batches(None, 0)
    noise, slope = (x.ravel() for x in seen(made(1.0, True), batch))
    assert abs(noise @ slope) < 0.1 * np.linalg.norm(slope)
    live = noise[noise != 0] * np.sqrt(np.count_nonzero(noise))
    np.testing.assert_allclose([live.mean(), (live**4).mean()], [0, 3], atol=0.3)


def test_without_a_gradient_nothing_is_perturbed():
    assert not np.asarray(scaled(jnp.zeros((2, 3)), 5.0)).any()
    np.testing.assert_allclose(np.linalg.norm(scaled(jnp.full((2, 3), 1e-12), 5.0)), 5, rtol=1e-5)


def test_the_gradient_is_that_of_the_dense_formula_at_the_perturbed_states():
    hooks, batch = made(), aligning.batches(None, 0)
    params, frozen = aligning.at_hand(hooks)
    (value, metrics), grads = jax.jit(aligning.gradients(hooks))(params, frozen, batch, KEY)

    @jax.jit
    def reference(base):
        zero = jnp.zeros((2, 8, 14, 32))
        plain, g = jax.value_and_grad(dense, argnums=2)(base, batch, zero)
        eps = 0.5 * g / jnp.sqrt(jnp.sum(g**2))
        return plain, *jax.value_and_grad(dense)(base, batch, eps)

    plain, perturbed, expected = reference(params["base"])
    np.testing.assert_allclose([metrics["vaccine"], value], [plain, perturbed], rtol=1e-5)
    assert perturbed > plain + 1e-3  # it hurts
    aligning.close(grads["base"], expected, atol=3e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 2])
def test_without_length_training_is_plain_to_the_bit(tmp_path, rank):
    plain = aligning.run(tmp_path / "plain", aligning.stage(rank=rank), rank)
    none = aligning.run(tmp_path / "none", aligning.stage(made(0.0), rank=rank), rank)
    some = aligning.run(tmp_path / "some", aligning.stage(made(0.5), rank=rank), rank)
    assert trees.diff(none, plain) == "" and trees.diff(some, plain) != ""
    for a, b in zip(*(read_metrics(tmp_path / d) for d in ("none", "some")), strict=True):
        assert a["loss"] == a["vaccine"] and b["loss"] > b["vaccine"]


@pytest.mark.slow
def test_equal_micro_batches_add_up_to_the_whole(tmp_path):
    def twice(variables, step):
        rows = aligning.batches(variables, step, rows=4)
        both = jax.tree.map(lambda x: np.repeat(x, 2, axis=0), rows)  # strided: one each
        return both.replace(weight=both.weight / 2)

    one, two = (
        aligning.run(tmp_path / f"{n}", aligning.stage(made(), accum=n, batches=twice))
        for n in (1, 2)
    )
    aligning.close(one, two, atol=2e-5)


@pytest.mark.slow
def test_the_loss_is_less_hurt_once_it_was_trained_so(tmp_path):
    """Robustness to a fixed perturbation, against plain training of as many steps."""
    batch, rho = aligning.batches(None, 0), 1.0
    given = {"steps": 40, "batches": lambda variables, step: batch}

    def hurt(hooks, name):
        base = aligning.run(tmp_path / name, aligning.stage(hooks, **given))["base"]

        @jax.jit
        def rise(base):
            zero = jnp.zeros((2, 8, 14, 32))
            plain, g = jax.value_and_grad(dense, argnums=2)(base, batch, zero)
            eps = rho * g / jnp.sqrt(jnp.sum(g**2))
            return dense(base, batch, eps), plain

        return [float(x) for x in rise(base)]

    (plain, before), (robust, after) = hurt(aligning.NONE, "plain"), hurt(made(rho), "robust")
    assert robust < plain and max(before, after) < 5


def noisy_toy(params, frozen, batch, key):
    """The toy network, perturbed."""
    rest = {name: frozen[name] for name in ("base", "teacher")}
    base = trees.combine(params, rest)["base"]
    x = base["embed"]["table"][batch.tokens] + frozen[PERTURBATION][0]
    logits = jnp.tanh(x @ base["mlp"]["up"]["kernel"]) @ base["mlp"]["down"]["kernel"]
    value = jnp.sum(jnp.square(logits - 1) * batch.weight[..., None])
    return value * (1 + 0.1 * jax.random.normal(key, ())), {}


@pytest.mark.parametrize("random", [False, True])
def test_it_resumes_to_the_same_bits_and_compiles_once(tmp_path, monkeypatch, random):
    monkeypatch.setattr(chats, "noisy_loss", noisy_toy)
    sizes = SimpleNamespace(config=SimpleNamespace(num_layers=1, embed_dim=8))
    given = chats.means(model=sizes, safe=chats.dialogues(3, 1))
    chats.check_resumed(tmp_path, lambda: Vaccine(0.5, random).mitigation(given), monkeypatch)


def test_needs_costs_and_bad_settings():
    settings = typed(resolve(MITIGATIONS, "vaccine"), {"rho": 0.3}, "mitigations.vaccine")
    assert settings == Vaccine(0.3)
    given = aligning.means()
    assert settings.mitigation(given).budget == {"safe": 12, "gradients": 1}
    assert factor(settings.mitigation(given).budget) == 2
    assert factor(Vaccine(random=True).mitigation(given).budget) == 1
    assert missing(settings, aligning.means(safe=None)).startswith("no dialogues of harmful req")
    with pytest.raises(UsageError, match="vaccine with mixing.*own rows"):
        build({"vaccine": settings, "mixing": resolve(MITIGATIONS, "mixing")()}, given)
    for rho in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match=r"^mitigations\.vaccine\.rho: got "):
            Vaccine(rho)
    hooked = aligning.gradients(made())
    with pytest.raises(UsageError, match=r"^mitigations\.vaccine: got 'batches of type dict'"):
        hooked({}, {}, {"tokens": chats.offline(None, 0).tokens}, KEY)
