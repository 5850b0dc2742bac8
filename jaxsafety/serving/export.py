"""From a model directory (and an adapter) to one that transformers loads: `jaxsafety export`."""

from __future__ import annotations

from pathlib import Path

from jaxsafety.adapters import lora
from jaxsafety.core import disk
from jaxsafety.core.errors import bad
from jaxsafety.experiment.workdir import model_fingerprint
from jaxsafety.models.formats import files, hf, hub, load, peft


def convert(
    model_dir: Path,
    out: Path,
    *,
    adapter: Path | None = None,
    dtype: str = "",
    unsafe: bool = False,
) -> str:
    """Writes a model again: another dtype, one file, an adapter merged.

    An adapter of any dtype is added in float32, and the sum is rounded once.

    Args:
      model_dir: a Hugging Face directory, a GGUF file, or a hub id.
      out: the directory to make.
      adapter: a PEFT LoRA directory for this model.
      dtype: float32, bfloat16 or float16, how the weights are stored; "" is the dtype of
        `model_dir`, the narrowest that holds all of its weights exactly.
      unsafe: allows an adapter that is tagged as trained on unsafe answers.

    Returns:
      What was done about dtypes, in words.

    Raises:
      UsageError: anything wrong with the model or the adapter, or one tagged unsafe.
    """
    model_dir = hub.directory(model_dir, "--model")
    if adapter is not None:
        peft.read_config(adapter, quiet=True)  # `load_adapter` says what is ignored
        weights = adapter / peft.WEIGHTS
        tag = files.metadata(weights).get("unsafe") if weights.is_file() else ""
        if tag == "true" and not unsafe:
            allowed = "an adapter that is not tagged unsafe, or --unsafe"
            raise bad("--adapter", f"{adapter}, trained on unsafe answers", allowed)
    hf.read_config(model_dir)
    kept = hf.stored_dtype(model_dir)
    model, params, tokenizer = load.load(model_dir, param_dtype="float32")
    words = dtype or f"{kept}, as {model_dir}"
    if adapter is not None:
        tree = peft.load_adapter(adapter, model, fingerprint=model_fingerprint(model_dir))
        params = lora.merge(params, tree, model.projections)
        words += f"; the {hf.stored_dtype(adapter, peft.WEIGHTS)} adapter was added in float32"
    world = model_dir / "world.json"
    if world.is_file():  # the organism's world goes with the model
        disk.write(out / "world.json", world.read_text())
    hf.save(out, model, params, dtype=dtype or kept, tokenizer=tokenizer)
    return words
