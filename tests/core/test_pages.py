"""Large pages: asked for once, where they are to be had and nobody has decided otherwise."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import types

import pytest

from jaxsafety.core import pages

ASKED = "always [madvise] never\n"


@pytest.mark.parametrize(
    ("environment", "version", "enabled", "found"),
    [
        ({}, "glibc 2.36", ASKED, True),
        ({}, "glibc 3.1", ASKED, True),
        ({}, "glibc 2.34", ASKED, False),
        ({}, "", ASKED, False),
        ({}, "musl", ASKED, False),
        ({}, "glibc 2.36", "[always] madvise never\n", False),
        ({}, "glibc 2.36", "always madvise [never]\n", False),
        ({}, "glibc 2.36", None, False),
        ({"GLIBC_TUNABLES": ""}, "glibc 2.36", ASKED, False),
        ({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, "glibc 2.36", ASKED, False),
    ],
)
def test_when_they_are_wanted(tmp_path, environment, version, enabled, found):
    file = tmp_path / "enabled"
    if enabled is not None:
        file.write_text(enabled)
    assert pages.wanted(environment, version, file) is found


def begun(monkeypatch, main, environment=None):
    """What would be started again, if anything."""
    told = []
    monkeypatch.setattr(os, "execve", lambda *given: told.append(given))
    monkeypatch.setattr(pages, "wanted", lambda *given: True)
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    monkeypatch.setitem(sys.modules, "__main__", main)
    pages.begin_again()
    return told


def test_only_our_own_command_begins_again(monkeypatch, root):
    def of(file):
        return types.SimpleNamespace(__file__=str(file))

    ours = of(root / "jaxsafety" / "__main__.py")
    ((program, argv, environment),) = begun(monkeypatch, ours)
    assert program == argv[0] == sys.executable and argv[1:] == sys.orig_argv[1:]
    assert environment["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=1"
    assert begun(monkeypatch, of("/somewhere/bin/jaxsafety"))
    others = (types.SimpleNamespace(), of("/somewhere/pytest/__main__.py"), of("train.py"))
    assert not any(begun(monkeypatch, other) for other in others)
    monkeypatch.setattr(pages, "_is_ours", lambda: True)
    monkeypatch.setitem(sys.modules, "jax", types.ModuleType("jax"))
    pages.begin_again()  # too late: what is imported may have begun already


@pytest.mark.skipif(
    not pages.wanted({}, pages.libc(), pages.SYSTEM), reason="large pages are not to be had here"
)
def test_a_step_meets_few_page_faults():
    code = (
        "import resource, jax, jax.numpy as jnp\n"
        "f = jax.jit(lambda x: jnp.sin(jnp.sin(x) @ jnp.ones((2048, 2048))).sum())\n"
        "x = jnp.ones((8192, 2048))\n"  # its temporaries are 64 MiB each
        "f(x).block_until_ready()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "f(x).block_until_ready()\n"
        "print('faults', resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    faults = []
    for more in ({}, {pages.VARIABLE: pages.SETTING}):
        env = {k: v for k, v in os.environ.items() if k != pages.VARIABLE} | more
        done = subprocess.run(
            [sys.executable, "-c", code], env=env, text=True, capture_output=True, check=True
        )
        faults.append(int(re.search(r"faults (\d+)", done.stdout).group(1)))
    page = resource.getpagesize()
    assert faults[0] > (64 << 20) / page > 10 * faults[1]
