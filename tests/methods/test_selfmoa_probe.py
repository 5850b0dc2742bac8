"""What a loop says at its end where more is unsafe than before it."""

from hypothesis import given
from hypothesis import strategies as st

from jaxsafety.methods.selfmoa import probe


def of(unsafe, n=64, split="wrapped_val"):
    return {split: {"n": 64, "unsafe": [unsafe, n], "refusal": [0, n]}}


@given(st.integers(0, 64), st.integers(0, 64))
def test_a_rise_is_said_and_a_fall_is_not(before, after):
    told = probe.risen(of(before), of(after))
    assert told == (f"wrapped_val unsafe {after} of 64, {before} before" if after > before else "")


def test_what_cannot_be_compared_is_no_rise():
    assert probe.risen({}, {}) == ""
    assert probe.risen({}, of(3)) == probe.risen(of(3), {}) == ""
    assert probe.risen(of(1, 10), of(5, 60)) == ""  # the judge could tell less of one
    harmless = "harmless_val"
    assert probe.risen(of(1, split=harmless), of(9, split=harmless)) == ""
    both = {**of(1, split="harmful_val"), **of(2)}
    more = {**of(2, split="harmful_val"), **of(3)}
    assert probe.risen(both, more) == (
        "harmful_val unsafe 2 of 64, 1 before, wrapped_val unsafe 3 of 64, 2 before"
    )


def test_refusals_of_what_is_harmless_are_a_rise_too():
    def told(refused):
        return {"harmless_val": {"n": 24, "unsafe": [0, 24], "refusal": [refused, 24]}}

    assert probe.risen(told(0), told(10)) == "harmless_val refused 10 of 24, 0 before"
    assert probe.risen(told(10), told(3)) == ""
