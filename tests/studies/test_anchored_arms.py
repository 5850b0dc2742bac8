"""Arms as strings: what they mean, which grid points they have, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from jaxsafety.core.errors import UsageError, bad
from jaxsafety.mitigations.anchor import Anchor
from jaxsafety.mitigations.ema import Ema
from jaxsafety.protocols import Mitigation
from jaxsafety.studies.anchored import arms


@dataclass(frozen=True)
class Edit:
    """Throwaway: edits what a stage left."""

    s: float = 0.5
    mode: str = "paper"
    when: ClassVar[str] = "after"
    apart: ClassVar[dict[str, str]] = {"ema": "both move what the stage leaves"}

    def mitigation(self):
        return Mitigation()


@dataclass(frozen=True)
class Wants:
    """Throwaway: one setting has no default, and the defaults of two others go ill together."""

    steps: int
    free: float = 0.1
    least: int = 0

    def __post_init__(self):
        if self.free and not self.least:
            raise bad("mitigations.wants.least", self.least, "1 or more")


KNOWN = {"anchor": Anchor, "ema": Ema, "edit": Edit}


def test_names_settings_and_order():
    plain, both = arms.points(("plain", "ema:decay=0.9+anchor"), known=KNOWN)
    assert plain.named == {} and plain.name == plain.training == "plain"
    assert list(both.named.items()) == [("ema", Ema(0.9)), ("anchor", Anchor())]
    assert both.name == both.training == "ema-decay-0-9-anchor"


def test_the_registry_is_what_is_known():
    assert arms.points(("anchor:strength=1e+1",))[0].named == {"anchor": Anchor(10.0)}


def test_a_grid_has_every_choice_at_every_rate():
    found = arms.points(("edit:s=0.1|0.2,mode=a|b",), (1.0, 3.0), KNOWN)
    assert [(p.named["edit"].s, p.named["edit"].mode, p.rate) for p in found] == [
        (s, mode, rate) for s in (0.1, 0.2) for mode in "ab" for rate in (1.0, 3.0)
    ]
    assert len({p.name for p in found}) == 8 and {p.arm for p in found} == {
        "edit:s=0.1|0.2,mode=a|b"
    }


def test_what_is_only_edited_afterwards_shares_a_training():
    chosen = ("plain", "edit", "anchor", "anchor+edit:s=0.1|0.2")
    found = arms.points(chosen, known=KNOWN)
    assert [p.training for p in found] == ["plain", "plain", "anchor", "anchor", "anchor"]
    assert found[3].of("after") == {"edit": Edit(0.1)} and "edit" not in found[3].of("train")
    assert found[3].of("align", "train") == {"anchor": Anchor()}


def test_what_repairs_alike_shares_that_too():
    @dataclass(frozen=True)
    class Fix:
        size: int = 1
        when: ClassVar[str] = "repair"

    known = {**KNOWN, "fix": Fix}
    chosen = ("plain", "fix", "fix+edit", "anchor+fix+edit:s=0.1|0.2", "fix:size=2")
    found = arms.points(chosen, known=known)
    assert [p.training for p in found] == ["plain"] * 3 + ["anchor"] * 2 + ["plain"]
    assert [p.repair for p in found] == ["", "fix", "fix", "anchor-fix", "anchor-fix", "fix-size-2"]
    assert found[3].of("repair") == {"fix": Fix()}


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ((), "method.arms: got (); allowed: one or more of plain, anchor"),
        (
            ("anchr",),
            "method.arms: got 'anchr'; allowed: 'anchor'? known: plain, anchor, ema, edit",
        ),
        (("anchor:strenth=1",), "got 'strenth=1'; allowed: 'strength'? known: strength"),
        (("anchor:strength=much",), "got 'much'; allowed: a value of type float"),
        (("anchor:strength=-1",), "mitigations.anchor.strength: got -1.0"),
        (("anchor:",), "method.arms: got 'anchor:'; allowed: anchor, or anchor:FIELD=VALUE"),
        (("ema+ema",), "each mitigation of an arm once"),
        (("plain+ema",), "plain alone"),
        (("ema", "ema"), "arms and grid points that differ"),
        (("edit+ema",), "got 'edit with ema'; allowed: one of them: both move what the stage"),
        (("ema+edit",), "got 'edit with ema'; allowed: one of them: both move what the stage"),
    ],
)
def test_bad_arms_are_one_line(chosen, message):
    with pytest.raises(UsageError) as caught:
        arms.points(chosen, known=KNOWN)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_settings_that_have_to_be_given():
    known = {"wants": Wants}
    assert arms.points(("wants:steps=3,least=2",), known=known)[0].named == {
        "wants": Wants(3, 0.1, 2)
    }
    for text, message in (
        ("wants:least=2", r"method\.arms\.steps: got 'nothing'; allowed: a value of type int"),
        ("wants:steps=3", r"method\.arms, 'wants:steps=3': mitigations\.wants\.least: got 0"),
    ):
        with pytest.raises(UsageError, match=message):
            arms.points((text,), known=known)


def test_a_moment_that_is_none(monkeypatch):
    monkeypatch.setattr(Edit, "when", "later")
    with pytest.raises(UsageError, match=r"mitigations\.edit\.when: got 'later'.*align, train"):
        arms.points(("edit",), known=KNOWN)


def test_what_trains_differently_is_another_training():
    one, other = arms.points(
        ("anchor:strength=1e-1+edit:s=0.5", "anchor:strength=1e+1"), known=KNOWN
    )
    assert one.named["anchor"] != other.named["anchor"]
    assert one.training != other.training
    both = arms.points(("anchor:strength=1e-1|1e+1",), known=KNOWN)
    assert len({point.name for point in both}) == 2


def test_a_long_arm_has_a_name_that_a_file_can_have():
    text = "edit:mode=" + "a" * 300
    one, other = arms.points((text, text + "b"), known=KNOWN)
    assert one.name != other.name
    assert len(one.name) < 100


def test_terms_stand_behind_what_computes_a_second_loss():
    arms.points(("mixing+anchor",))
    for first in ("anchor", "ewc", "kl"):
        with pytest.raises(UsageError, match=f"{first} before mixing.*allowed: mixing before"):
            arms.points((f"{first}+mixing",))
