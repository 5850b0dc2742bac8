"""The models of a run: measured one after another, and the trained one written for others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxsafety.core import disk, hosts
from jaxsafety.evaluation import evaluate
from jaxsafety.experiment.sections import EvalConfig
from jaxsafety.models.formats import files, hf
from jaxsafety.protocols import Context, Served
from jaxsafety.sampling import copies


def round_as_stored(params: Any, dtype: str) -> Any:
    """Parameters in the dtype they are stored in; where they are in it already, themselves.

    Those with int8 kernels are frozen: nothing was trained that could be rounded.
    """
    if dtype == "int8":
        return params
    floating = lambda x: jnp.issubdtype(x.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(lambda x: x.astype(dtype) if floating(x) else x, params)


def export(folder: Path, base: Path, ctx: Context, params: Any, dtype: str) -> None:
    """Writes the trained model, unless it is there in this dtype, and the world it lives in.

    Whole or not at all: `config.json` comes last, and a directory without it is no model.
    """

    def there() -> bool:
        try:
            config = json.loads((folder / "config.json").read_text())
            weights = {files.names(file)[0] for file in set(files.tensor_files(folder).values())}
            tokens = ctx.tokenizer is None or (folder / "tokenizer.json").is_file()
            return bool(config.get("dtype") == dtype and weights and tokens)
        except (OSError, ValueError, AttributeError, IndexError):  # or files lost or cut off
            return False

    if (base / "world.json").is_file():
        disk.write(folder / "world.json", (base / "world.json").read_text())
    if not hosts.share(there):
        hf.save(folder, ctx.model, params, dtype=dtype, tokenizer=ctx.tokenizer)


class Arms:
    """Measures one model of the run after another under the same settings."""

    def __init__(
        self,
        ctx: Context,
        cfg: EvalConfig,
        decodings: Sequence[evaluate.Decoding],
    ) -> None:
        """Remembers what all arms share."""
        self.ctx, self.cfg, self.decodings = ctx, cfg, decodings

    def __call__(self, name: str, what: Served) -> list[dict[str, Any]]:
        """Evaluates what is served as arm `name`; finished sets are read back.

        Raises:
          Preempted: between two batches, the last of which is on disk.
        """
        interrupt = self.ctx.interrupt
        interrupt.doing = f"this batch of answers ({name})"
        if self._copies(name, what):
            self._answer(name, what)
        records = evaluate.evaluate(
            self.ctx.model,
            what.params,
            self.ctx.tokenizer,
            self.ctx.setting.benchmarks,
            self.ctx.setting.judge,
            self.ctx.workdir,
            name,
            groups=self.ctx.setting.groups,
            **self._options(what),
        )
        interrupt.doing = "what it is doing"
        return records

    def _options(self, what: Served) -> dict[str, Any]:
        return dict(
            seed=self.cfg.seed,
            decodings=self.decodings,
            batch_size=self.cfg.batch_size,
            log=self.ctx.log,
            fingerprint=self.ctx.fingerprint,
            layers=what.layers,
            steer=what.steer,
            encode=what.encode,
            check=self.ctx.interrupt.check,
        )

    def _copies(self, name: str, what: Served) -> bool:
        """Whether a copy is to answer: the run asks for one, and some answers are not there yet."""
        ctx, mesh = self.ctx, self.ctx.mesh
        if mesh is None or copies.mesh_of(mesh, ctx.sampling) is mesh:
            return False
        sets = ctx.setting.benchmarks, self.decodings, ctx.workdir, name
        about: dict[str, Any] = dict(
            seed=self.cfg.seed, steer=what.steer, fingerprint=ctx.fingerprint
        )
        return hosts.share(lambda: bool(evaluate.missing(*sets, **about)))

    def _answer(self, name: str, what: Served) -> None:
        """Answers from a copy, all of them before a judge is asked: a guard needs its memory."""
        with copies.copied(self.ctx.model, what, self.ctx.mesh, self.ctx.sampling) as there:
            for said in evaluate.answer(
                self.ctx.model,
                there.params,
                self.ctx.tokenizer,
                self.ctx.setting.benchmarks,
                self.ctx.workdir,
                name,
                **self._options(there),
            ):
                told = f"{name}, {said.bench.name}, {said.decoding}"
                self.ctx.log(f"{told}: {len(said.lines)} answers, {said.how}")
