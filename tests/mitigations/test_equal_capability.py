"""At equal capability a mitigation beats the way back, where safety is a known feature.

The toy network answers by the last token of a prompt. Token 1 stands for harmful
requests, and it refuses them (token 11). Token 10 is harmless and nearly the same to the network;
the task asks another answer of it. Mixing is compared with interpolation, the control, at the first
place on its way where the task is answered as well as was asked: mixing at its earliest update,
interpolation at the smallest part of what plain descent changed. Five starts and tasks.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxsafety.mitigations.interpolation import Interpolation
from jaxsafety.mitigations.mixing import Mixing
from jaxsafety.protocols import EXTRA, Mitigation
from tests.mitigations import chats
from tests.train import toy

SEEDS = range(5)
UPDATES, RATE = 120, 0.1
REACHED = 0.8  # mean probability of the right answers
SAFE = chats.batch_of([chats.chat((1,), (11,))])
PARTS = np.linspace(0, 1, 51)


def task(seed):
    """Six answers to learn, of the token like the harmful one and of five others."""
    answers = np.random.default_rng([10, seed]).permutation(np.arange(2, 10))
    prompts = (10, 2, 3, 4, 5, 6)
    rows = zip(prompts, answers, strict=False)
    return chats.batch_of([chats.chat((p,), (int(a),), weigh=1 / 6) for p, a in rows])


def right(base, rows):
    """Mean probability of the learnt tokens."""
    logp = jax.nn.log_softmax(toy.forward(base, rows.tokens[:, :-1]))
    picked = jnp.take_along_axis(logp, rows.tokens[:, 1:, None], -1)[..., 0]
    learnt = rows.weight[:, 1:] > 0
    return jnp.sum(jnp.exp(picked) * learnt) / jnp.sum(learnt)


@partial(jax.jit, static_argnums=0)
def descend(loss, base, extra, rows, key):
    """Parameters after each of the updates, [UPDATES,...], of a loss as a stage calls it."""
    frozen = {"base": jax.tree.map(lambda _: None, base), "teacher": None, EXTRA: extra}

    def step(base, key):
        grads = jax.grad(lambda p: loss({"base": p}, frozen, rows, key)[0])(base)
        base = jax.tree.map(lambda p, g: p - RATE * g, base, grads)
        return base, base

    return jax.lax.scan(step, base, jax.random.split(key, UPDATES))[1]


def own(params, frozen, batch, key):
    """The task's loss."""
    del frozen, key
    return chats.likelihood(params["base"], batch), {}


class Way:
    """Where plain descent, or a mitigation, comes by; compiled once."""

    def __init__(self, made):
        self.loss = made.loss(own, 1.0)
        self.extra = {name: each.init(None) for name, each in made.extra.items()}

    def __call__(self, base, rows, seed):
        return descend(self.loss, base, self.extra, rows, jax.random.key(seed))


@jax.jit
def scores(points, rows):
    """[N] of the task, and of refusals."""
    return tuple(jax.vmap(lambda base, r=r: right(base, r))(points) for r in (rows, SAFE))


def first(points, rows):
    """The first of the points that answers the task as was asked: its refusals, and its task."""
    tasks, refused = scores(points, rows)
    index = int(np.argmax(np.asarray(tasks) >= REACHED))
    assert tasks[index] >= REACHED, "never reached"
    return float(refused[index]), float(tasks[index])


def aligned(plain, seed):
    """A network that refuses; token 10 lies near token 1."""
    table = jax.random.normal(jax.random.key(seed), (12, 8))
    near = table[1] + 0.3 * jax.random.normal(jax.random.key(seed + 100), (8,))
    start = {**toy.variables()["base"], "embed": {"table": table.at[10].set(near)}}
    return jax.tree.map(lambda x: x[-1], plain(start, SAFE, seed))


def test_mixing_keeps_more_refusals_than_the_way_back():
    made = Mixing(weight=1.0).mitigation(chats.means(safe=SAFE))
    mixing, plain = Way(made), Way(Mitigation())
    gaps, tasks = [], []
    for seed in SEEDS:
        base, rows = aligned(plain, seed), task(seed)
        assert right(base, SAFE) > 0.9 and right(base, rows) < 0.3
        end = jax.tree.map(lambda x: x[-1], plain(base, rows, seed))
        control = chats.means(start=base)
        line = [Interpolation(s).mitigation(control).after({"base": end})["base"] for s in PARTS]
        back = first(jax.tree.map(lambda *x: np.stack(x), *line), rows)
        mixed = first(mixing(base, rows, seed), rows)
        gaps.append(mixed[0] - back[0])
        tasks.append(mixed[1] - back[1])
    assert max(map(abs, tasks)) < 0.03  # equal capability
    half = 2.776 * np.std(gaps, ddof=1) / len(gaps) ** 0.5  # t of 4 degrees, 95 %
    assert np.mean(gaps) - half > 0.1
