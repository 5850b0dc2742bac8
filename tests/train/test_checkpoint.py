"""Commits, half-written steps, owners, damage, other meshes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsafety.core import sharding, trees
from jaxsafety.core.errors import UsageError
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.train.checkpoint import COMMIT_MARKER, METADATA, Checkpoints, digest


def state(value=0.0):
    return {
        "step": jnp.int32(3),
        "params": {"w": jnp.arange(32.0).reshape(4, 8) + value, "hole": None},
        "half": jnp.ones(4, jnp.bfloat16),
        "key": jax.random.key(7),
        "empty": (),
    }


def target(tree):
    one = sharding.replicated(sharding.make_mesh())
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), tree)


def test_what_is_saved_comes_back_bitwise(tmp_path):
    saved = Checkpoints(tmp_path, "a")
    assert saved.latest() is None
    assert not (tmp_path / "checkpoints").exists()  # looking creates nothing
    saved.save(3, state(), finished=True)
    again = Checkpoints(tmp_path, "a")
    assert again.latest() == (3, True)
    got = again.restore(3, target(state()))
    assert trees.diff(got, state()) == ""
    assert got["half"].dtype == jnp.bfloat16
    assert got["params"]["hole"] is None


def test_only_the_newest_are_kept_and_a_step_can_be_saved_again(tmp_path):
    saved = Checkpoints(tmp_path, "a", keep=2)
    for step in (5, 9, 10, 10):
        saved.save(step, state(step))
    assert sorted(p.name for p in (tmp_path / "checkpoints" / "a").iterdir()) == ["10", "9"]
    got = saved.restore(10, target(state()))
    np.testing.assert_array_equal(got["params"]["w"], state(10)["params"]["w"])


def test_a_whole_step_without_a_commit_marker_counts_and_stays(tmp_path):
    # orbax-checkpoint 0.12.0 to 0.12.2 write no marker on a local disk: the rename commits.
    saved = Checkpoints(tmp_path, "a", keep=3)
    saved.save(1, state())
    saved.save(2, state(2), finished=True)
    directory = tmp_path / "checkpoints" / "a"
    for step in directory.iterdir():
        (step / COMMIT_MARKER).unlink()
    again = Checkpoints(tmp_path, "a")
    assert again.latest() == (2, True)
    got = again.restore(2, target(state()))
    np.testing.assert_array_equal(got["params"]["w"], state(2)["params"]["w"])
    assert sorted(p.name for p in directory.iterdir()) == ["1", "2"]


def test_a_step_that_was_never_committed_is_left_out_and_can_be_written_again(tmp_path):
    saved = Checkpoints(tmp_path, "a", keep=3)
    saved.save(1, state())
    saved.save(2, state())
    directory = tmp_path / "checkpoints" / "a"
    uncommit(directory / "2")
    (directory / "3.orbax-checkpoint-tmp").mkdir()
    (directory / "4").mkdir()
    again = Checkpoints(tmp_path, "a", keep=3)
    assert again.latest() == (1, False)
    assert sorted(p.name for p in directory.iterdir()) == ["1", "2", "4"]  # temporaries go, only
    again.save(2, state())
    assert again.latest() == (2, False)


def uncommit(step):
    """What a kill leaves in a bucket: no marker yet, and no time of the commit."""
    (step / COMMIT_MARKER).unlink()
    file = step / METADATA
    file.write_text(json.dumps({**json.loads(file.read_text()), "commit_timestamp_nsecs": None}))


def test_another_dtype_is_called_so_and_not_damage(tmp_path):
    saved = Checkpoints(tmp_path, "a")
    saved.save(1, state())
    for other in (jnp.float32, jnp.int32):
        wanted = target({**state(), "half": jnp.ones(4, other)})
        with pytest.raises(UsageError, match=f"dtype of half is bfloat16, here {other.__name__}"):
            saved.restore(1, wanted)
    np.testing.assert_array_equal(saved.restore(1, target(state()))["half"], state()["half"])


def test_stage_names_with_slashes_do_not_nest(tmp_path):
    Checkpoints(tmp_path, "modpo").save(5, state())
    Checkpoints(tmp_path, "modpo/1").save(2, state())
    assert Checkpoints(tmp_path, "modpo").latest() == (5, False)
    assert Checkpoints(tmp_path, "modpo/1").latest() == (2, False)


def test_a_workdir_of_another_config_is_refused(tmp_path):
    Checkpoints(tmp_path, "a", fingerprint="one").save(1, state())
    assert Checkpoints(tmp_path, "a", fingerprint="one").latest() == (1, False)
    with pytest.raises(UsageError, match="^workdir: got .*config two .*this is of one") as error:
        Checkpoints(tmp_path, "a", fingerprint="two")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "other",
    [
        {**state(), "params": {"w": jnp.zeros((4, 9)), "hole": None}},
        {**state(), "params": {"w": state()["params"]["w"], "hole": jnp.zeros(3)}},
        {**state(), "more": jnp.zeros(3)},
        {**state(), "half": None},
    ],
)
def test_another_structure_is_refused(tmp_path, other):
    saved = Checkpoints(tmp_path, "a")
    saved.save(1, state())
    with pytest.raises(UsageError, match="^workdir: got "):
        saved.restore(1, target(other))


def test_damage_is_noticed(tmp_path, monkeypatch):
    saved = Checkpoints(tmp_path, "a")
    monkeypatch.setattr("jaxsafety.train.checkpoint.digest", lambda tree: "of another tree")
    saved.save(1, state())
    monkeypatch.undo()
    with pytest.raises(UsageError, match="damaged"):
        saved.restore(1, target(state()))


def test_the_digest_sees_names_shapes_and_values():
    tree = {"a": jnp.arange(4.0), "b": jnp.ones((64, 64))}
    assert digest(tree) == digest({k: v + 0 for k, v in tree.items()})
    others = [
        {"a": jnp.arange(4.0) + 1, "b": tree["b"]},
        {"a": tree["a"], "b": 2 * tree["b"]},
        {"a": tree["a"], "b": jnp.ones((64, 32))},
        {"a": tree["a"], "c": tree["b"]},
    ]
    assert len({digest(t) for t in [tree, *others]}) == 5


@pytest.mark.parametrize(("before", "after"), [((8, 1, 1), (1, 1, 1)), ((1, 4, 2), (2, 1, 4))])
def test_restore_onto_another_mesh(tmp_path, before, after):
    axes = {"w": ("embed", "mlp")}
    tree = {"w": jnp.arange(64.0).reshape(8, 8)}

    def places(shape):
        return sharding.shardings(axes, tree, sharding.make_mesh(MeshConfig(*shape)))

    saved = Checkpoints(tmp_path, "a")
    saved.save(1, jax.device_put(tree, places(before)))
    wanted = places(after)
    abstract = {"w": jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=wanted["w"])}
    got = saved.restore(1, abstract)
    assert got["w"].sharding == wanted["w"]
    np.testing.assert_array_equal(got["w"], tree["w"])


def test_keep_must_be_positive(tmp_path):
    with pytest.raises(UsageError, match=r"train\.keep"):
        Checkpoints(tmp_path, "a", keep=0)
