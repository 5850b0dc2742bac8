"""What the report says of the teacher and of later votes."""

from __future__ import annotations

from jaxsafety.methods.safesteer import sections


class Run:
    """A finished run, of which only artifacts are read."""

    def __init__(self, **kept):
        self.kept = {name.replace("__", "."): value for name, value in kept.items()}

    def artifact(self, name):
        return self.kept.get(name)

    def artifacts(self, start):
        return {k.removeprefix(start): v for k, v in self.kept.items() if k.startswith(start)}


COUNTS = {"prompts": 64, "unsafe": 24, "incoherent": 1, "unknown": 0}


def test_the_flip_rate_stands_with_its_interval_or_its_cause():
    known = {**COUNTS, "flipped": 14, "rate": 14 / 24, "interval": [0.388, 0.755], "cause": ""}
    never = {**COUNTS, "flipped": 0, "rate": None, "interval": None, "cause": "no unsafe answer"}
    made = str(sections.flip(Run(flip={"all": known, "plain": never})))
    assert "0.58 (0.39 to 0.76)" in made and "not known: no unsafe answer" in made
    assert made.count("<tr>") == 3
    assert sections.flip(Run()) == ""


def test_later_votes_are_told_in_the_order_of_updates():
    first = {"ids": [1, 2, 3, 4], "tokens": ["a", "b", "c", "d"], "votes": [4, 3, 2, 1]}
    later = {"revote__10": {"ids": [1, 2, 9, 8]}, "revote__5": {"ids": [4, 3, 2, 7]}}
    run = Run(token_set=first, **later)
    assert sections.revoted(run) == ["after 5 updates 3 of 4", "after 10 updates 2 of 4"]
    made = str(sections.tokens(run))
    assert "after 5 updates 3 of 4, after 10 updates 2 of 4." in made
    assert "voted for again" not in str(sections.tokens(Run(token_set=first)))
