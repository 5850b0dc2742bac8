"""From a model directory (and an adapter) to one that transformers loads: `jaxsafety export`."""

from __future__ import annotations

from pathlib import Path

from jaxsafety.adapters import lora
from jaxsafety.errors import bad
from jaxsafety.models import files, hf, peft
from jaxsafety.workdir import model_fingerprint


def convert(
    model_dir: Path,
    out: Path,
    *,
    adapter: Path | None = None,
    dtype: str = "bfloat16",
    unsafe: bool = False,
) -> None:
    """Writes a model again: another dtype, one file, an adapter merged.

    Args:
      model_dir: a Hugging Face directory.
      out: the directory to make.
      adapter: a PEFT LoRA directory for this model.
      dtype: float32 or bfloat16, how the weights are stored.
      unsafe: allows an adapter that is tagged as trained on unsafe answers.

    Raises:
      UsageError: anything wrong with the model or the adapter, or one tagged unsafe.
    """
    import jaxsafety

    if not model_dir.is_dir():
        raise bad("--model", str(model_dir), "an existing directory")
    if adapter is not None:
        peft.read_config(adapter)
        weights = adapter / peft.WEIGHTS
        tag = files.metadata(weights).get("unsafe") if weights.is_file() else ""
        if tag == "true" and not unsafe:
            allowed = "an adapter that is not tagged unsafe, or --unsafe"
            raise bad("--adapter", f"{adapter}, trained on unsafe answers", allowed)
    model, params, tokenizer = jaxsafety.load(model_dir, param_dtype="float32")
    if adapter is not None:
        tree = peft.load_adapter(adapter, model, fingerprint=model_fingerprint(model_dir))
        params = lora.merge(params, tree, model.projections)
    hf.save(out, model, params, dtype=dtype, tokenizer=tokenizer)
    world = model_dir / "world.json"
    if world.is_file():  # the organism's world goes with the model
        (out / "world.json").write_text(world.read_text())
