"""A small network with all that a real stage has: frozen leaves, weights, on-policy batches."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.protocols import Context, OptimConfig, Setting, Stage
from jaxsafety.train.metrics import MetricWriter

AXES = {
    "base": {
        "embed": {"table": ("vocab", "embed")},
        "mlp": {"up": {"kernel": ("embed", "mlp")}, "down": {"kernel": ("mlp", "embed")}},
    }
}


def variables():
    """base: [V=12,D=8] table, [D,F=16] up, [F,D] down; teacher: the very same buffers."""
    keys = jax.random.split(jax.random.key(3), 3)
    base = {
        "embed": {"table": jax.random.normal(keys[0], (12, 8))},
        "mlp": {
            "up": {"kernel": jax.random.normal(keys[1], (8, 16)) * 0.3},
            "down": {"kernel": jax.random.normal(keys[2], (16, 8)) * 0.3},
        },
    }
    return {"base": base, "teacher": base}


def forward(base, tokens):
    """Logits [B,T,V] for tokens [B,T]."""
    x = base["embed"]["table"][tokens]
    x = x + jnp.tanh(x @ base["mlp"]["up"]["kernel"]) @ base["mlp"]["down"]["kernel"]
    return x @ base["embed"]["table"].T


def loss(params, frozen, batch, key):
    """Weighted sum of next-token losses plus a second term with its own weights; no noise."""
    del key
    base = jax.tree.map(
        lambda a, b: b if a is None else a,
        params["base"],
        frozen["base"],
        is_leaf=lambda x: x is None,
    )
    logits = forward(base, batch["tokens"][:, :-1])
    logp = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(logp, batch["tokens"][:, 1:, None], -1)[..., 0]
    nll = -jnp.sum(picked * batch["weight"][:, 1:])
    rows = jnp.sum(jnp.square(logits).mean((1, 2)) * batch["row_weight"])
    return nll + 0.01 * rows, {"nll": nll, "rows": rows}


def noisy_loss(params, frozen, batch, key):
    """Depends on the key, so that a resumed run must repeat it."""
    value, metrics = loss(params, frozen, batch, key)
    noise = jax.random.normal(key, ())
    return value * (1 + 0.1 * noise), {**metrics, "noise": noise}


def batch(step, rows=8, length=6):
    """Skewed lengths; both weights sum to 1 over the batch."""
    rng = np.random.default_rng([5, step])
    mask = np.arange(length)[None] < rng.integers(2, length + 1, (rows, 1))
    mask[:, 0] = False
    row = mask.any(1) * rng.random(rows)
    return {
        "tokens": rng.integers(0, 12, (rows, length)).astype(np.int32),
        "weight": (mask / mask.sum()).astype(np.float32),
        "row_weight": (row / row.sum()).astype(np.float32),
    }


def offline(variables, step):
    """A stage's batches that ignore the variables."""
    del variables
    return batch(step)


@jax.jit
def _continue(base, tokens):
    return jnp.argmax(forward(base, tokens), -1).astype(jnp.int32)


def on_policy(variables, step):
    """The student continues the prompt, so a batch depends on the current parameters."""
    given = batch(step)
    tokens = np.asarray(_continue(variables["base"], given["tokens"]))
    length = 6 if step % 3 else 5  # two shapes, hence two compilations
    return {
        "tokens": np.concatenate([given["tokens"][:, :3], tokens[:, 3:]], 1)[:, :length],
        "weight": given["weight"][:, :length],
        "row_weight": given["row_weight"],
    }


OPTIM = OptimConfig(lr=0.05, weight_decay=0.01, accum=2)


def program(steps=10, hook=None, trainable=("base/.*",)):
    """Two stages; `hook(step)` is called before every batch."""

    def with_hook(batches):
        def call(variables, step):
            if hook is not None:
                hook(step)
            return batches(variables, step)

        return call

    v = yield Stage("warm/up", noisy_loss, trainable, with_hook(offline), steps, OPTIM)
    v = {**v, "teacher": v["base"]}  # the trained buffers are now the teacher as well
    return (yield Stage("distil", noisy_loss, trainable, with_hook(on_policy), steps, OPTIM))


def context(workdir, *, mesh=None, log=None, tensorboard=False, **more):
    """A Context with what the loop needs and nothing else."""
    unused = {"model": None, "tokenizer": None, "artifact": None}
    return Context(
        **unused,
        workdir=workdir,
        setting=Setting(),
        mesh=mesh,
        writer=MetricWriter(workdir, tensorboard=tensorboard),
        variables=variables(),
        log=log or (lambda line: None),
        **more,
    )
