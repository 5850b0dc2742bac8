"""Compiled programs kept between processes: where, whose, how many, and when not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from jaxsafety import cli
from jaxsafety.core import compiled

PROGRAM = """
import sys
from jaxsafety.core import compiled
folder = compiled.keep()
import jax
misses = []
jax.monitoring.register_event_listener(lambda name, **_: misses.append(name))
f = jax.jit(lambda x: jax.lax.fori_loop(0, 9, lambda i, y: jax.numpy.sin(y @ x), x))
print(folder, float(f(jax.numpy.eye(8)).sum()))
print(sum(name.endswith("cache_hits") for name in misses))
"""


def kept_files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def start(home, *before, **given):
    """Runs PROGRAM as a process of its own: its two lines."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XDG_"))}
    env |= {"HOME": str(home), "JAX_PLATFORMS": "cpu", compiled.SECONDS: "0", **given}
    code = "\n".join([*before, PROGRAM])
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_second_process_compiles_nothing(tmp_path):
    first, second = start(tmp_path), start(tmp_path, "import jax")  # imported already, too
    assert first[0] == second[0] and first[1] == "0" and int(second[1]) > 0
    folder = tmp_path / ".cache" / "jaxsafety" / f"xla-{compiled.machine()}"
    assert first[0].startswith(str(folder)) and kept_files(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "given", [{"JAX_COMPILATION_CACHE_DIR": ""}, {"JAX_ENABLE_COMPILATION_CACHE": "false"}]
)
def test_who_decided_is_left_alone(tmp_path, given):
    assert start(tmp_path, **given)[0].startswith("None ")
    assert not kept_files(tmp_path)


def test_a_folder_of_ones_own(tmp_path):
    given = {"JAX_COMPILATION_CACHE_DIR": "elsewhere", "HOME": str(tmp_path)}
    assert compiled.keep(dict(given)) is None
    given = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    assert compiled.keep(given) == tmp_path / "cache" / "jaxsafety" / f"xla-{compiled.machine()}"
    assert given[compiled.FOLDER] and given[compiled.SECONDS] == compiled.LEAST


def test_no_folder_that_is_the_users_alone_is_no_folder(tmp_path):
    assert compiled.keep({}) is None
    assert compiled.keep({"HOME": "relative"}) is None
    (tmp_path / ".cache").write_text("a file")
    assert compiled.keep({"HOME": str(tmp_path)}) is None
    home = tmp_path / "home"
    folder = compiled.keep({"HOME": str(home)})
    assert folder is not None
    folder.chmod(0o777)  # whoever may write there may have us run anything
    given = {"HOME": str(home)}
    assert compiled.keep(given) is None and compiled.FOLDER not in given


def test_what_was_used_longest_ago_goes_first(tmp_path):
    for i in range(6):
        file = tmp_path / f"{i}-cache"
        file.write_bytes(b"x" * 100)
        os.utime(file, (1000 + 10 * (i != 0), 1000 + (5 - i)))  # 0 was read last, long ago
    (tmp_path / "0-cache").touch()
    assert compiled.prune(tmp_path, 600) == 600 and len(kept_files(tmp_path)) == 6
    assert compiled.prune(tmp_path, 250) == 200
    assert "0-cache" in [p.name for p in kept_files(tmp_path)]


def test_machines_of_other_instructions_have_other_names(tmp_path):
    names = set()
    for i, text in enumerate(("flags : avx\n", "flags : avx avx512f\n", "Features : sve\n", "")):
        file = tmp_path / str(i)
        file.write_text("processor : 0\nmodel name : a\ncpu MHz : 2000\n" + text)
        names.add(compiled.machine(file))
        file.write_text(file.read_text().replace("2000", "2001"))
        names.add(compiled.machine(file))  # what changes by the minute is no other machine
    assert len(names) == 4
    assert compiled.machine(tmp_path / "none")


def test_the_commands_that_compile_ask_for_it(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(compiled, "keep", lambda: asked.append(1))
    for argv in (["chat", "--seed=-1"], ["eval", "--rejudge"], ["serve", "--template=x"]):
        assert cli.main(argv) == 2
    assert len(asked) == 3
    for argv in (["report", "nowhere"], ["run", "--config=none.py", "--distributed=h:1,2,0"]):
        assert cli.main(argv) == 2
    assert len(asked) == 3
    capsys.readouterr()
