#!/usr/bin/env bash
# transformers 5.24.0, tokenizers 0.23.3: the class that tokenizer_config.json names replaces the
# normalizer and the pre-tokenizer of the tokenizer.json beside it.
#
# Guess, written down before: tokenizer.json holds a whole tokenizer, so AutoTokenizer gives its ids
# whatever the name of the class is.
# Seen: with `tokenizer_class` LlamaTokenizer, GPT2Tokenizer, Qwen2Tokenizer or GemmaTokenizer only
# vocabulary and merges of the file are used; the same text gets other ids, without a warning. With
# PreTrainedTokenizerFast the file decides. A library that reads tokenizer.json alone and one that
# reads it through AutoTokenizer therefore disagree about directories whose file and class differ.
#
# Exits non-zero if that changes. Needs a package index; installs into a temporary folder.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q transformers==5.24.0 tokenizers==0.23.3
cat > "$work/look.py" <<'PY'
import json
import pathlib
import sys

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer

words = ["<unk>", "<s>", "</s>", "▁a", "▁b", "a", "b", "▁"]
tokenizer = Tokenizer(models.BPE(
    vocab={word: number for number, word in enumerate(words)},
    merges=[("▁", "a"), ("▁", "b")], unk_token="<unk>",
))
tokenizer.normalizer = normalizers.Lowercase()
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
tokenizer.save(str(folder / "tokenizer.json"))
own = tokenizer.encode("A b", add_special_tokens=False).ids
found = {}
for name in ("PreTrainedTokenizerFast", "LlamaTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer"):
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    settings = {"tokenizer_class": name, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    loaded = AutoTokenizer.from_pretrained(folder)
    ids = loaded("A b", add_special_tokens=False)["input_ids"]
    kind = type(loaded.backend_tokenizer.normalizer).__name__
    print(f"{name}: {ids}, normalizer {kind}; tokenizer.json alone: {own}")
    found[name] = ids == own
expected = {name: name == "PreTrainedTokenizerFast" for name in found}
sys.exit(0 if found == expected else 1)
PY
"$work/venv/bin/python" "$work/look.py" "$work/model"
# PreTrainedTokenizerFast: [5, 6], normalizer Lowercase; tokenizer.json alone: [5, 6]
# LlamaTokenizer: [7, 4], normalizer NoneType; tokenizer.json alone: [5, 6]
# GPT2Tokenizer: [6], normalizer NoneType; tokenizer.json alone: [5, 6]
# Qwen2Tokenizer: [6], normalizer NFC; tokenizer.json alone: [5, 6]
