"""The flag over several processes: asked every few seconds' worth of steps, by all at the same."""

import signal

import pytest

from jaxsafety.core import hosts, interrupt
from jaxsafety.core.interrupt import Interrupt, Preempted


@pytest.fixture
def asked(monkeypatch):
    """Two processes, of which the other one is three times slower; what was asked."""
    questions = []

    def most(values):
        questions.append(values)
        return [values[0], 3 * values[1]]

    clock = [0.0]
    monkeypatch.setattr(hosts, "several", lambda: True)
    monkeypatch.setattr(hosts, "most", most)
    monkeypatch.setattr(hosts, "agree", lambda flag: questions.append("agree") or flag)
    monkeypatch.setattr(interrupt.time, "perf_counter", lambda: clock[0])
    return questions, clock


def test_a_loop_asks_by_the_slowest_process_and_pieces_inside_a_step_do_not(asked):
    questions, clock = asked
    flag, steps = Interrupt(), []
    for step in range(5, 60):
        before = len(questions)
        flag.at(step)
        if len(questions) > before:
            steps.append(step)
        else:
            flag.check()  # a rollout between two questions
            assert len(questions) == before
        clock[0] += 0.1
    # The first gap is one step; then 2 s of steps of 0.3 s, the slower process's, are six.
    assert steps == [5, 6, *range(12, 60, 6)]
    flag.set(signal.SIGINT)
    assert not flag.at(59)  # the others are not asked here
    assert flag.at(60)
    flag.rest()
    with pytest.raises(Preempted):
        flag.check()
    assert (flag.reason, flag.code) == ("Ctrl-C", 130)


def test_slow_steps_are_asked_every_time(asked):
    questions, clock = asked
    flag = Interrupt()
    for step in range(4):
        flag.at(step)
        clock[0] += 30.0
    assert len(questions) == 4
