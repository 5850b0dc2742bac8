"""What a GGUF says of scaled rotary frequencies, as transformers' `rope_scaling`.

Two forms: keys (`rope.scaling.type` and `.factor`; a factor alone is linear, and older files call
it `rope.scale_linear`), or a tensor `rope_freqs.weight` [H/2] by which each frequency is divided.
The tensor is what llama.cpp's converter makes of Llama 3's scaling, whose settings it leaves out;
they are found again from the numbers. Read in ggml-org/llama.cpp (MIT): conversion/llama.py
0274f0f `generate_extra_tensors`, conversion/base.py 00bd27a `set_gguf_parameters`.

Letters: H head dim.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxsafety.core.errors import bad

# original_max_position_embeddings, low_freq_factor, high_freq_factor of Llama 3.1 and later.
LENGTH, LOW, HIGH = 8192, 1.0, 4.0
TOLERANCE = 1e-5  # of float32 factors computed from float32 frequencies


def scaling(
    kind: Any, factor: Any, factors: np.ndarray | None, theta: float, where: str
) -> dict[str, Any] | None:
    """`rope_scaling` of config.json, None without any.

    Args:
      kind: the key `rope.scaling.type`, None without one.
      factor: the key `rope.scaling.factor` or `rope.scale_linear`, None without one.
      factors: `rope_freqs.weight`, [H/2].
      theta: the RoPE base.
      where: the file's name.

    Raises:
      UsageError: a kind of scaling that the families do not have (YaRN, LongRoPE), both forms at
        once, or factors that are not Llama 3's.
    """
    kind = ("linear" if factor else "none") if kind is None else kind
    if kind not in ("none", "linear"):
        given = f"{where}: RoPE scaling {kind!r:.40}"
        raise bad("model.path", given, "none, linear, or Llama 3's in rope_freqs.weight")
    factor = 1.0 if kind == "none" or not factor else factor
    if not isinstance(factor, int | float) or not 0 < factor < math.inf:
        raise bad("model.path", f"{where}: RoPE factor {factor!r:.40}", "a number > 0")
    linear = {"rope_type": "linear", "factor": float(factor)} if factor != 1 else None
    found = None if factors is None else fitted(factors, theta, where)
    if linear and found:
        raise bad("model.path", f"{where}: rope_freqs.weight and a factor", "one of them")
    return linear or found


def fitted(factors: np.ndarray, theta: float, where: str) -> dict[str, Any] | None:
    """Settings that give these factors [H/2]; see `scaling`."""
    factors = factors.astype(np.float64)
    factor = float(factors.max()) if np.isfinite(factors).all() else 0.0
    if factor > 0 and np.allclose(factors, factor, rtol=TOLERANCE, atol=0):
        same = abs(factor - 1) <= TOLERANCE
        return None if same else {"rope_type": "linear", "factor": factor}
    waves = 2 * math.pi * theta ** (np.arange(len(factors)) / len(factors))
    if factor > 1 and factors.min() > 0:
        for longest, shortest in _ends(factors, factor, waves):
            made = _factors(waves, factor, longest, shortest)
            if np.allclose(made, factors, rtol=TOLERANCE, atol=0):
                return {
                    "rope_type": "llama3",
                    "factor": factor,
                    "low_freq_factor": LENGTH / longest,
                    "high_freq_factor": LENGTH / shortest,
                    "original_max_position_embeddings": LENGTH,
                }
    raise bad("model.path", f"{where}: rope_freqs.weight", "frequencies scaled as Llama 3's")


def _factors(waves: np.ndarray, factor: float, longest: float, shortest: float) -> np.ndarray:
    """Llama 3's: 1 below the shortest wavelength, `factor` above the longest, smooth between."""
    smooth = (1 / waves - 1 / longest) / (1 / shortest - 1 / longest)
    smooth = np.clip(smooth, 0, 1)
    return 1 / ((1 - smooth) / factor + smooth)


def _ends(factors: np.ndarray, factor: float, waves: np.ndarray) -> Iterator[tuple[float, float]]:
    """(longest, shortest) wavelengths of the smooth part that may be meant, published ones first.

    Only their quotients with the context's length matter, so that of Llama 3 can be kept. Where
    several give the same factors, the models are the same too.
    """
    yield LENGTH / LOW, LENGTH / HIGH
    smooth = (1 / factors - 1 / factor) / (1 - 1 / factor)
    inside = (smooth > TOLERANCE) & (smooth < 1 - TOLERANCE)
    whole, none = waves[smooth >= 1 - TOLERANCE], waves[smooth <= TOLERANCE]
    if inside.sum() >= 2:  # smooth = slope / wave + offset
        slope, offset = np.polyfit(1 / waves[inside], smooth[inside], 1)
        if slope > 0 > offset and offset + slope > 0:
            yield float(-slope / offset), float(slope / (1 - offset))
    elif inside.sum() == 1:  # as flat as one of its neighbours allows
        wave, at = float(waves[inside][0]), float(smooth[inside][0])
        for longest in none[:1]:
            yield float(longest), 1 / (1 / longest + (1 / wave - 1 / longest) / at)
        for shortest in whole[-1:]:
            yield (1 - at) / (1 / wave - at / shortest), float(shortest)
    elif len(none) and len(whole):
        yield float(none.min()), float(whole.max())
