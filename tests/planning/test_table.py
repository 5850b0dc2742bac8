"""A plan as text: what is known, what is not and why."""

import pytest

from jaxsafety.planning import table


@pytest.fixture
def found():
    """What `plan` returns of a step on eight GPUs."""
    program = {
        "hbm_per_chip": {"parameters": 1 << 30, "sum": 2 << 30, "limit": 59 << 30},
        "fits": True,
        "flops": 1e12,
        "seconds_at_least": 0.1,
        "optimal_seconds": None,
        "optimal_seconds_cause": "this compiler estimates no time",
        "seconds_between_chips": 0.25,
        "collectives": {"all-gather": {"count": 3, "bytes": 1 << 29}},
    }
    return {
        "topology": "h100:8",
        "chips": 8,
        "mesh": {"data": 1, "fsdp": 8, "tensor": 1},
        "model": "llama",
        "parameters": 10**9,
        "fits": True,
        "margin": 0.9,
        "stage": "sft.plain",
        "steps": 300,
        "trainings": 4,
        "rows": {"step": {"rows": 16, "tokens": 512, "said": 0}},
        "dtypes": {"stored": "bfloat16", "trained": "float32", "computed": "bfloat16"},
        "replicated": {"parameters": 1 << 29, "frozen": 1 << 28},
        "programs": {"step": program},
        "gpu": {"memory": 84942979072, "fraction": 0.75, "fraction_needed": 0.03, "jax": "0.10.2"},
    }


@pytest.mark.parametrize(
    ("sampling", "between", "told"),
    [("split", 7.3, True), ("split", 0.05, False), ("split", None, False), ("data", 7.3, False)],
)
def test_who_waits_for_weights_of_other_chips_hears_of_copies(found, sampling, between, told):
    found["programs"]["rollout"] = {**found["programs"]["step"], "seconds_between_chips": between}
    if between is None:
        found["programs"]["rollout"]["collectives"] = None
    text = table.table(found | {"sampling": sampling})
    assert ("--config.mesh.sampling=tensor" in text) == told
    assert ("copies for sampling: data" in text) == (sampling == "data")
    assert "copies" not in table.table(found | {"programs": {"step": found["programs"]["step"]}})


def test_the_page_says_what_a_plan_of_a_gpu_cannot_know(found):
    text = table.table(found)
    assert "8 GPUs" in text and "0.75 of the card's 79.11 GiB" in text and "not run" in text
    del found["gpu"]
    assert "8 chips" in table.table(found) and "card" not in table.table(found)


def test_the_page_says_what_is_assumed_and_what_is_sent(found):
    found["rows"]["rollout"] = {"rows": 64, "tokens": 640, "said": 128}
    text = table.table(found)
    assert "step 16 rows of 512 tokens; rollout 64 rows of 640 tokens, 128 of them sampled" in text
    assert "sft.plain: 300 steps, 4 such trainings in a run: at least 120.0 s of steps" in text
    assert "trained float32" in text and "0.75 GiB a chip lie on other chips too" in text
    assert "all-gather: 3, 0.50 GiB" in text and "between chips: 0.250 s" in text


def test_the_compiler_s_estimate_or_why_there_is_none(found):
    assert "no time by the compiler: this compiler estimates no time" in table.table(found)
    found["programs"]["step"]["optimal_seconds"] = 0.5
    assert "by the compiler 0.500 s, with the body of every loop counted once" in table.table(found)


def test_a_refused_program_has_a_reason_and_no_traffic(found):
    refused = {"reason": "Ran out of memory", "collectives": None, "seconds_between_chips": None}
    found["programs"]["step"] |= refused | {"fits": False}
    found["fits"] = False
    text = table.table(found)
    assert "compiler: Ran out of memory" in text and "between chips" not in text
