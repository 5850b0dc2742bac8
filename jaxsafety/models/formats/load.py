"""Models from directories or hub ids, and back: `load` and `export`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jax.sharding import Mesh

from jaxsafety.core.errors import bad
from jaxsafety.data.tokens import raw, tokenizer_files
from jaxsafety.data.tokens.tokenizer import Tokenizer, assemble
from jaxsafety.models.api import Model
from jaxsafety.models.formats import hf, hub
from jaxsafety.models.formats.gguf.store import GGUF
from jaxsafety.models.formats.source import SHIPPED
from jaxsafety.models.formats.store import open_store


def load(
    path: str | Path | None = None,
    *,
    dtype: str = "float32",
    remat: str = "none",
    mesh: Mesh | None = None,
    param_dtype: str = "float32",
    variables: Mapping[str, Any] | None = None,
    ready: Callable[[Tokenizer], None] | None = None,
    template: str = "",
) -> tuple[Model, Any, Tokenizer]:
    """Reads a model in the Hugging Face layout, or of a GGUF file.

    Args:
      path: directory with config.json, safetensors, tokenizer.json and usually a chat template;
        a GGUF file, or a directory with nothing but one (docs/gguf.md); or a hub id, "owner/name"
        or "owner/name@revision"; None is the shipped organism.
      dtype: compute dtype: float32, bfloat16 or float16.
      remat: what the backward pass recomputes: none, full, dots.
      mesh: where the parameters go, shard by shard; None is the default device.
      param_dtype: float32, bfloat16, or int8 for a frozen model in a quarter of the memory, whose
        products round their inputs too (`models/int8.py`).
      variables: of the chat template, such as `{"enable_thinking": False}`.
      ready: called with the tokenizer before any weight is read, for what it can refuse.
      template: "raw" is texts without a template, for base models (`data/tokens/raw.py`); "" is
        the model's own.

    Returns:
      (model, params, tokenizer): functions, a nested dict of arrays, text to ids and back.

    Raises:
      UsageError: the directory is missing, incomplete or of an unsupported kind, or the chat
        template reads no such variable.

    Example:
      >>> import jaxsafety
      >>> model, params, tokenizer = jaxsafety.load()
      >>> model.config.family, model.config.num_layers, model.head(params).shape
      ('qwen3', 6, (128, 1077))
    """
    path = SHIPPED if path is None else hub.directory(path)
    config = hf.read_config(path)
    tokenizer = read_tokenizer(path, variables, template)
    # Added tokens may lie beyond it (Gemma 3's image token), what every text needs may not.
    plain = tokenizer.backend.get_vocab_size(with_added_tokens=False)
    needed = max(plain - 1, *tokenizer.eos_ids, tokenizer.pad_id, tokenizer.bos_id or 0)
    if needed >= config.vocab_size:
        allowed = f"at most config.json's vocab_size {config.vocab_size}"
        raise bad("tokenizer.vocab_size", needed + 1, allowed)
    tokenizer.limit = config.vocab_size
    if ready is not None:
        ready(tokenizer)
    model, params = hf.load(path, dtype=dtype, remat=remat, mesh=mesh, param_dtype=param_dtype)
    return model, params, tokenizer


def read_tokenizer(
    path: Path, variables: Mapping[str, Any] | None = None, template: str = ""
) -> Tokenizer:
    """The tokenizer of a model's directory or GGUF file; `template` as in `load`.

    Raises:
      UsageError: see `load_tokenizer`, `gguf_vocabulary.read` and `raw.applied`.
    """
    store = open_store(path)
    if isinstance(store, GGUF):
        from jaxsafety.data.tokens import gguf_vocabulary

        files = gguf_vocabulary.read(store.header.metadata)
    else:
        files = tokenizer_files.read(path)
    return assemble(raw.applied(files, template), variables=variables)


def export(
    path: str | Path,
    model: Model,
    params: Any,
    tokenizer: Tokenizer | None = None,
    dtype: str = "bfloat16",
) -> None:
    """Writes a Hugging Face directory that `load` and transformers read.

    Args:
      path: directory to create or overwrite.
      model: the model.
      params: its parameters.
      tokenizer: written too when given.
      dtype: float32 or bfloat16, how the weights are stored.

    Example:
      >>> import tempfile
      >>> import jaxsafety
      >>> with tempfile.TemporaryDirectory() as path:
      ...     jaxsafety.export(path, *jaxsafety.load(), dtype="float32")
      ...     model, params, tokenizer = jaxsafety.load(path)
      >>> tokenizer.decode(tokenizer.encode("you can not ."))
      'you can not .'
    """
    hf.save(path, model, params, dtype=dtype, tokenizer=tokenizer)
