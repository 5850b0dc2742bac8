"""Collectives are counted as often as they run, with the bytes of one device."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from jaxsafety.core import sharding
from jaxsafety.core.sharding import MeshConfig
from jaxsafety.planning import hlo

TRIPS, SIZE = 7, 64


@pytest.fixture(scope="module")
def mesh():
    return sharding.make_mesh(MeshConfig(data=2, fsdp=4))


def compiled(fn, mesh, spec, shape):
    where = jax.sharding.NamedSharding(mesh, spec)
    return jax.jit(fn, in_shardings=where).lower(jnp.zeros(shape)).compile().as_text()


def test_a_loop_counts_as_often_as_it_runs(mesh):
    @jax.shard_map(mesh=mesh, in_specs=P("fsdp"), out_specs=P("fsdp"))
    def looped(x):
        def body(i, x):
            return jnp.sin(x + jax.lax.psum(x, "fsdp"))

        return jax.lax.fori_loop(0, TRIPS, body, x)

    found = hlo.collectives(compiled(looped, mesh, P("fsdp"), (4 * SIZE,)))
    assert found == {"all-reduce": hlo.Traffic(TRIPS, TRIPS * SIZE * 4)}


def test_kinds_and_bytes(mesh):
    @jax.shard_map(mesh=mesh, in_specs=P("fsdp"), out_specs=P(), check_vma=False)
    def gathered(x):
        return jax.lax.all_gather(x.astype(jnp.bfloat16), "fsdp", tiled=True).astype(jnp.float32)

    found = hlo.collectives(compiled(gathered, mesh, P("fsdp"), (4 * SIZE,)))
    assert set(found) == {"all-gather"} and found["all-gather"].count == 1
    # CPU may gather in float32 what was asked for in bfloat16
    assert found["all-gather"].bytes in (4 * SIZE * 2, 4 * SIZE * 4)


def test_nothing_is_sent_by_one_device():
    text = jax.jit(lambda x: x @ x).lower(jnp.zeros((8, 8))).compile().as_text()
    assert hlo.collectives(text) == {}


TEXT = """HloModule m

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %s = f32[] add(%a, %b)
}

%body.1 (p: (s32[], bf16[8,4])) -> (s32[], bf16[8,4]) {
  %g = bf16[8,4]{1,0:T(8,128)} all-reduce(%x), channel_id=1, to_apply=%add
  ROOT %t = (s32[], bf16[8,4]) tuple(%i, %g)
}

%cond.1 (p: (s32[], bf16[8,4])) -> pred[] {
  ROOT %c = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (x: bf16[2,4]) -> bf16[8,4] {
  %start = (bf16[2,4], bf16[8,4]) all-gather-start(%x), dimensions={0}
  %done = bf16[8,4] all-gather-done(%start)
  %w = (s32[], bf16[8,4]) while(%t0), condition=%cond.1, body=%body.1, \
backend_config={"known_trip_count":{"n":"5"}}
  %u = (s32[], bf16[8,4]) while(%t1), condition=%cond.1, body=%body.1
  ROOT %r = bf16[8,4] get-tuple-element(%w), index=1
}
"""


def test_starts_count_once_and_unknown_loops_once():
    assert hlo.collectives(TEXT) == {
        "all-gather": hlo.Traffic(1, 64),
        "all-reduce": hlo.Traffic(6, 6 * 64),
    }


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("(f32[8], f32[16]) all-reduce-start(%a, %b), to_apply=%add", 96),
        ("((f32[2], f32[4]), (f32[8], f32[16])) all-gather-start(%a, %b)", 96),
        ("(f32[8], f32[8], u32[], u32[]) collective-permute-start(%a)", 32),
        ("(f32[8], f32[16]) all-reduce-done(%s)", 0),
        ("bf16[4,2]{1,0:T(8,128)(2,1)} all-gather(%a), dimensions={0}", 16),
    ],
)
def test_combined_and_asynchronous_results(line, size):
    assert hlo._collective(line)[1] == size


def test_a_loop_of_a_tpu_says_its_trips_in_the_condition():
    text = """HloModule m

%fused.1 (p.0: s32[], p.1: s32[]) -> pred[] {
  %p.0 = s32[]{:T(128)} parameter(0)
  %p.1 = s32[]{:T(128)} parameter(1)
  ROOT %compare.1 = pred[]{:T(512)} compare(%p.0, %p.1), direction=LT
}

%cond.1 (p: (s32[], bf16[16])) -> pred[] {
  %constant.9 = s32[]{:T(128)} constant(32), metadata={op_name="while"}
  %p = (s32[]{:T(128)}, bf16[16]{0}) parameter(0)
  %gte = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %less = pred[]{:T(512)} fusion(%gte, %constant.9), kind=kLoop, calls=%fused.1
}

%body.1 (p: (s32[], bf16[16])) -> (s32[], bf16[16]) {
  %p = (s32[]{:T(128)}, bf16[16]{0}) parameter(0)
  %gathered = bf16[64]{0} all-gather(%p), dimensions={0}
  ROOT %out = (s32[]{:T(128)}, bf16[16]{0}) tuple(%p)
}

ENTRY %main (x: (s32[], bf16[16])) -> (s32[], bf16[16]) {
  %x = (s32[]{:T(128)}, bf16[16]{0}) parameter(0)
  ROOT %loop = (s32[]{:T(128)}, bf16[16]{0}) while(%x), condition=%cond.1, body=%body.1
}
"""
    assert hlo.collectives(text) == {"all-gather": hlo.Traffic(32, 32 * 128)}


def test_a_loop_whose_trips_cannot_be_told_counts_as_often_as_is_said():
    """Such as that over sampled tokens; a loop in it counts by itself too."""
    text = """HloModule m

%cond.1 (p: (s32[], pred[])) -> pred[] {
  %p = (s32[], pred[]) parameter(0)
  %until = s32[] get-tuple-element(%p), index=0
  %other = s32[] get-tuple-element(%p), index=0
  ROOT %less = pred[] compare(%until, %other), direction=LT
}

%inner (p: (s32[], bf16[16])) -> (s32[], bf16[16]) {
  %p = (s32[], bf16[16]{0}) parameter(0)
  %gathered = bf16[64]{0} all-gather(%p), dimensions={0}
  ROOT %out = (s32[], bf16[16]{0}) tuple(%p)
}

%body.1 (p: (s32[], bf16[16])) -> (s32[], bf16[16]) {
  %p = (s32[], bf16[16]{0}) parameter(0)
  ROOT %out = (s32[], bf16[16]{0}) while(%p), condition=%cond.1, body=%inner, \
backend_config={"known_trip_count":{"n":"5"}}
}

ENTRY %main (x: (s32[], bf16[16])) -> (s32[], bf16[16]) {
  %x = (s32[], bf16[16]{0}) parameter(0)
  ROOT %loop = (s32[], bf16[16]{0}) while(%x), condition=%cond.1, body=%body.1
}
"""
    assert hlo.collectives(text) == {"all-gather": hlo.Traffic(5, 5 * 128)}
    assert hlo.collectives(text, 7) == {"all-gather": hlo.Traffic(35, 35 * 128)}
