import functools

import pytest

from jaxsafety import registry
from jaxsafety.core.errors import UsageError
from jaxsafety.judges import rules
from jaxsafety.judges.opening import open_judge, required, takes_where
from jaxsafety.protocols import Exchange, Item


@pytest.fixture
def added(monkeypatch, tmp_path):
    """Judges of a user's own: of the world alone, of a place, of one that may be absent; none."""
    (tmp_path / "judges_of_places.py").write_text(
        "def _judge(*facts):\n"
        "    return lambda exchanges: [{'unsafe': None, 'cause': repr(facts)} for _ in exchanges]\n"
        "def alone(world):\n    return _judge(world)\n"
        "def placed(world=None, where=''):\n    return _judge(world, where)\n"
        "def needs(world=None, where=''):\n"
        "    from jaxsafety.judges.opening import required\n"
        "    return _judge(required('needs', where, 'a directory'))\n"
        "def none(world=None):\n    return 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("alone", "placed", "needs", "none"):
        monkeypatch.setitem(registry.JUDGES, name, f"judges_of_places:{name}")


def said(judge):
    return judge([Exchange(Item("0", (), {}), "")])[0]["cause"]


def test_names_and_places(added):
    assert open_judge("rules") == ("rules", rules.judge)
    name, judge = open_judge("placed=a/b=c", "world")  # only the first sign parts
    assert name == "placed" and said(judge) == "('world', 'a/b=c')"
    assert said(open_judge("placed", "world")[1]) == "('world', '')"
    assert said(open_judge("alone", "world")[1]) == "('world',)"
    assert said(open_judge(" needs = x ")[1]) == "('x',)"


LINES = {
    "rule": "judge: got 'rule'; allowed: 'rules'? known: ",
    "": "judge: got ''; allowed: ",
    "=x": "judge: got ''; allowed: ",
    "rules=x": "judge: got 'rules=x'; allowed: rules alone: it takes no place",
    "rules=": "judge: got 'rules='; allowed: rules alone: it takes no place",
    "alone=x": "judge: got 'alone=x'; allowed: alone alone: it takes no place",
    "needs": "judge: got 'needs'; allowed: needs=WHERE, a directory",
    "needs=": "judge: got 'needs'; allowed: needs=WHERE, a directory",
    "none": "judge: got 'none, which makes 3'; allowed: an entry of registry.JUDGES",
    "organism": "eval.judge: got 'organism'; allowed: another one",
}


@pytest.mark.parametrize("text", LINES)
def test_what_is_no_judge_is_one_line(added, text):
    with pytest.raises(UsageError) as error:
        open_judge(text)
    assert str(error.value).startswith(LINES[text]) and "\n" not in str(error.value)


def test_which_factories_take_a_place():
    assert takes_where(lambda world=None, where="": None)
    assert not takes_where(lambda world=None: None)
    assert not takes_where(lambda world=None, *, seed=0: None)
    assert takes_where(functools.partial(lambda a, world, where: None, 1))
    assert not takes_where(max)  # has no signature
    assert required("x", "there", "a directory") == "there"
