"""What is on the screen, and what a script reads: commands, marks, Ctrl-C, two models."""

import io
import os
import pty
import signal
import subprocess
import sys

import pytest

from jaxsafety import cli
from jaxsafety.serving import terminal
from jaxsafety.serving.chat import Chat
from jaxsafety.serving.terminal import Terminal
from jaxsafety.testing import random_checkpoint
from tests.conftest import QUICK


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return random_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return random_checkpoint(tmp_path_factory.mktemp("other") / "other", seed=1)


class Screen(io.StringIO):
    """Standard input or output at a terminal; `at` is called with what was printed."""

    at = staticmethod(lambda text: None)

    def isatty(self):
        return True

    def write(self, text):
        self.at(text)
        return super().write(text)


def talk(chats, *lines, kind=Screen, at=None):
    sink = Screen()
    sink.at = at or sink.at
    Terminal(chats, kind("".join(f"{line}\n" for line in lines)), sink).talk()
    return sink.getvalue()


def test_a_screen_has_prompts_and_answers_in_pieces(tiny, capsys):
    whole = Chat.open(tiny, max_tokens=12).ask("hello")
    written = []
    said = talk({"tiny": Chat.open(tiny, max_tokens=12)}, "hello", "/reset", at=written.append)
    first = "/help lists the commands, /quit leaves\n"
    assert said == f"{first}you> {whole}\nyou> the conversation is forgotten\nyou> \n"
    assert whole not in written  # it came in pieces
    assert capsys.readouterr().err == "[cut at 12 tokens; --max-tokens]\n"


def test_a_script_reads_answers_only(tiny, capsys):
    same = Chat.open(tiny, max_tokens=12)
    answers = [same.ask("hello"), same.ask("hello")]
    lines = ("hello", "/help", "/compare", "/what is it", "hello", "/reset", "hello", "/quit", "x")
    said = talk({"tiny": Chat.open(tiny, max_tokens=12)}, *lines, kind=io.StringIO)
    assert said == "".join(f"{answer}\n" for answer in [*answers, answers[0]])
    told = capsys.readouterr().err
    assert "/quit     leaves" in told and told.count("[cut at 12 tokens; --max-tokens]") == 3
    assert "/compare: got 'one model'; allowed: with `chat --compare=OTHER`\n" in told
    assert "command: got '/what is it'; allowed: /help, /reset, /compare, /quit\n" in told


def test_paths_are_no_commands(tiny, capsys):
    chat = Chat.open(tiny, max_tokens=4)
    talk({"tiny": chat}, "/etc/passwd is a file", kind=io.StringIO)
    assert chat.messages[0].content == "/etc/passwd is a file"
    assert "error" not in capsys.readouterr().err


def test_the_limit_of_a_short_context_is_told_as_such(tiny, capsys):
    talk({"tiny": Chat.open(tiny, max_tokens=500)}, "hello", kind=io.StringIO)
    assert capsys.readouterr().err == "[cut at 128 tokens; half of the context]\n"


def test_help_lists_the_commands(tiny):
    said = talk({"tiny": Chat.open(tiny, max_tokens=4)}, "/help")
    assert all(f"\n{name} " in said.replace("you> ", "") for name in terminal.COMMANDS)


def test_ctrl_c_stops_the_answer_and_keeps_what_was_said(tiny, capsys):
    chat = Chat.open(tiny, max_tokens=60)
    sent = []

    def interrupt(text):
        if chat.messages == [] and text not in ("\n", "") and "you>" not in text:
            sent.append(text)
            if len(sent) == 3:  # the line about commands, and two pieces
                signal.raise_signal(signal.SIGINT)

    said = talk({"tiny": chat}, "hello", "hello", at=interrupt)
    kept = chat.messages[1].content
    assert kept == "".join(sent[1:]) and f"you> {kept}\nyou> " in said
    assert len(chat.messages) == 4
    assert capsys.readouterr().err.splitlines()[0] == "[stopped]"


def test_a_compilation_is_told_once_and_only_to_a_reader(tiny, monkeypatch, capsys):
    monkeypatch.setattr(terminal, "PATIENCE", 0.0)
    chats = {"tiny": Chat.open(tiny, max_tokens=5)}
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    talk(chats, "hello", "/reset", "hello", "/reset", "hello")
    assert capsys.readouterr().err.count("compiling ...") == 1
    chats = {"tiny": Chat.open(tiny, max_tokens=6)}
    talk(chats, "hello", kind=io.StringIO)
    assert "compiling" not in capsys.readouterr().err


def test_two_models_answer_each_with_its_own_history(tiny, other, capsys):
    alone = [Chat.open(path, max_tokens=8) for path in (tiny, other)]
    a, b = ([chat.ask("hello"), chat.ask("why")] for chat in alone)
    chats = {"tiny": Chat.open(tiny, max_tokens=8), "other": Chat.open(other, max_tokens=8)}
    said = talk(chats, "hello", "why", "/compare", "so", "/compare", kind=io.StringIO)
    lines = [f"tiny> {a[0]}", f"other> {b[0]}", f"tiny> {a[1]}", f"other> {b[1]}"]
    assert said == "\n".join([*lines, alone[0].ask("so"), ""])
    assert [len(chat.messages) for chat in chats.values()] == [6, 4]
    said = talk(chats, "/compare", "/compare", "/reset")
    assert "tiny answers, alone\nyou> tiny, other answer\n" in said
    assert not any(chat.messages for chat in chats.values())


def test_compare_takes_what_model_takes(tiny, other, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n"))
    assert cli.main(["chat", f"--model={other}", f"--compare={other}", "--max-tokens=4"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.removeprefix("other> ") == second.removeprefix("other (2)> ") != first
    assert cli.main(["chat", f"--model={tiny}", "--compare=nowhere"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("jaxsafety: error: --compare: got 'nowhere'") and error.count("\n") == 1


def test_help_of_the_command_shows_defaults(capsys):
    with pytest.raises(SystemExit):
        cli.main(["chat", "--help"])
    text = capsys.readouterr().out
    options = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    assert len(options) == 10 and text.count("default: ") == 9  # all but --workdir


# Tells at once that something is compiled, and compiles when the strike was heard: on a busy
# machine the whole answer might be there before it.
EAGER = """
import signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)
from jaxsafety import cli
from jaxsafety.core import signals
from jaxsafety.sampling import stream
from jaxsafety.serving import terminal
terminal.PATIENCE = 0.0
heard, say, prefill = threading.Event(), signals.say, stream._prefill
signals.say = lambda line: (say(line), heard.set())
stream._prefill = lambda *given: (heard.wait(60), prefill(*given))[1]
sys.argv = ["jaxsafety", "chat"]
sys.exit(cli.main())
"""


def test_ctrl_c_while_compiling_and_at_the_prompt(root):
    """Neither crashes; the first leaves the conversation open, the second ends it."""
    (ours, theirs), (errors, stderr) = pty.openpty(), pty.openpty()
    env = {**os.environ, "XLA_FLAGS": QUICK, "JAX_ENABLE_COMPILATION_CACHE": "0"}
    process = subprocess.Popen(
        [sys.executable, "-c", EAGER],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=root,
        env=env,
    )
    os.close(theirs)
    os.close(stderr)
    told = b""
    try:
        os.write(ours, b"hello\n")
        while b"compiling" not in told:
            told += os.read(errors, 1000)
        process.send_signal(signal.SIGINT)
        while b"this message is forgotten" not in told:
            told += os.read(errors, 1000)
        os.write(ours, b"hello\n")
        assert process.stdout is not None
        process.stdout.readline()  # about commands
        assert len(process.stdout.readline()) > len(b"you> you> \n")
        process.send_signal(signal.SIGINT)
        while b"is not kept" not in told:
            told += os.read(errors, 1000)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(errors)
    words = told.decode()
    assert "stopping once it is compiled; Ctrl-C again leaves at once" in words
    assert "Traceback" not in words and "Fatal" not in words
