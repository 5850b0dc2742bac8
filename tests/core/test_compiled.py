"""Compiled programs kept between processes: where, whose, how many, and when not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

from jaxsafety import cli
from jaxsafety.core import compiled
from jaxsafety.core.compiled import read_back

PROGRAM = """
import sys
from jaxsafety.core import compiled
compiled.read_back = lambda: True  # whatever machine the test is on
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


@pytest.fixture(autouse=True)
def any_machine(monkeypatch):
    monkeypatch.setattr(compiled, "read_back", lambda: True)


def start(home, *before, told=False, **given):
    """Runs PROGRAM as a process of its own: its two lines, with `told` what else it said."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XDG_"))}
    env |= {"HOME": str(home), "JAX_PLATFORMS": "cpu", compiled.SECONDS: "0", **given}
    code = "\n".join([*before, PROGRAM])
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr if told else done.stdout.splitlines()


def test_the_second_process_compiles_nothing(tmp_path):
    first, second = start(tmp_path), start(tmp_path, "import jax")  # imported already, too
    assert first[0] == second[0] and first[1] == "0" and int(second[1]) > 0
    folder = tmp_path / ".cache" / "jaxsafety" / f"xla-{compiled.machine()}"
    assert first[0].startswith(str(folder)) and kept_files(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_half_an_entry_is_deleted_and_made_again(tmp_path):
    """What a killed process left: it would warn at every start, and never be written again."""
    folder = Path(start(tmp_path)[0].split()[0])
    entries = [p for p in kept_files(folder) if p.name.endswith("-cache")]
    for file in entries:
        file.write_bytes(file.read_bytes()[:50])
    assert "Error reading persistent compilation cache" in start(tmp_path, told=True)
    for file in entries:
        os.utime(file, (time.time() - 100,) * 2)  # nobody writes to it any more
    (folder / compiled.CHECKED).unlink()
    assert not start(tmp_path, told=True)
    assert all(len(p.read_bytes()) > 50 for p in entries)
    assert int(start(tmp_path)[1]) > 0


def test_what_is_whole_or_being_written_is_left(tmp_path):
    folder = compiled.keep({"HOME": str(tmp_path)})
    old, new = folder / "old-cache", folder / "new-cache"
    old.write_bytes(zlib.compress(b"program"))
    new.write_bytes(b"\x78\x9c half")
    os.utime(old, (time.time() - 100,) * 2)
    (folder / compiled.CHECKED).unlink()
    assert compiled.mend(folder) == 0 and old.is_file() and new.is_file()
    os.utime(new, (time.time() - 65,) * 2)  # since the last look, which was a minute back
    os.utime(folder / compiled.CHECKED, (time.time() - 70,) * 2)
    assert compiled.mend(folder) == 1 and old.is_file() and not new.exists()
    assert (folder / compiled.CHECKED).stat().st_mtime < time.time() - 50


def test_an_intel_cpu_alone_keeps_nothing(tmp_path):
    info, devices = tmp_path / "cpuinfo", tmp_path / "dev"
    devices.mkdir()
    info.write_text("vendor_id : GenuineIntel\n")
    assert not read_back(info, devices)
    (devices / "nvidia0").touch()  # its programs are read back
    assert read_back(info, devices)
    info.write_text("vendor_id : AuthenticAMD\n")
    assert read_back(info, tmp_path / "none") and read_back(tmp_path / "none", devices)


def test_a_process_that_told_jax_of_a_folder_keeps_its_own(tmp_path):
    folder = tmp_path / "mine"
    mine = f"import jax; jax.config.update('jax_compilation_cache_dir', {str(folder)!r})"
    assert start(tmp_path, mine)[0].startswith("None ") and not kept_files(tmp_path / ".cache")
    assert kept_files(folder)


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


def test_what_was_used_longest_ago_goes_first_of_every_machine(tmp_path):
    for i in range(6):
        file = tmp_path / f"xla-{i % 2}" / ("below" if i == 3 else "") / f"{i}-cache"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * 100)
        os.utime(file, (1000 + i, 1000 + i))
    os.utime(tmp_path / "xla-0" / "0-cache", (2000, 1000))  # read again
    (tmp_path / "other").write_bytes(b"x" * 1000)  # not ours
    assert compiled.prune(tmp_path, 600) == 600
    assert compiled.prune(tmp_path, 250) == 200
    left = sorted(p.name for p in kept_files(tmp_path))
    assert left == ["0-cache", "5-cache", "other"]


def test_a_folder_that_cannot_be_listed_ends_nothing(tmp_path, monkeypatch):
    def gone(*_):
        raise PermissionError

    monkeypatch.setattr(compiled, "prune", gone)
    assert compiled.keep({"HOME": str(tmp_path)}) is None


def test_somebody_elses_home_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    assert compiled.keep({"HOME": str(tmp_path)}) is None and not kept_files(tmp_path)
    assert not list(tmp_path.iterdir())


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


def test_the_commands_that_compile_ask_for_it_as_programs(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(compiled, "keep", lambda: asked.append(1))

    def program(*argv):
        monkeypatch.setattr(sys, "argv", ["jaxsafety", *argv])
        return cli.main()

    for argv in (["chat", "--seed=-1"], ["eval", "--rejudge"], ["serve", "--template=x"]):
        assert program(*argv) == 2
    assert len(asked) == 3
    for argv in (["report", "nowhere"], ["run", "--config=none.py", "--distributed=h:1,2,0"]):
        assert program(*argv) == 2
    assert cli.main(["chat", "--seed=-1"]) == 2  # in somebody's own process
    assert len(asked) == 3
    capsys.readouterr()
