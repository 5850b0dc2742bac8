#!/usr/bin/env bash
# transformers 5.24.0, gguf 0.19.0: of the pre-tokenizers that a GGUF names, some are followed and
# others are read as GPT-2's, without a warning.
#
# Guess, written down before: AutoTokenizer(gguf_file=...) either follows `tokenizer.ggml.pre` or
# ignores it, so files that differ in that field alone are cut in different ways for every value, or
# for none.
# Seen: "qwen2" cuts digits one by one and "llama-bpe" up to three at a time, as these families do;
# "smollm", whose own tokenizer cuts digits one by one, is cut as "gpt-2": a merge of two digits and
# one of a space and a digit apply that the model never saw. Numbers get other ids than in training.
#
# Exits non-zero if that changes. Needs a package index; installs into a temporary folder.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q transformers==5.24.0 tokenizers==0.23.3 gguf==0.19.0 torch==2.13.0
cat > "$work/look.py" <<'PY'
import pathlib
import sys

from gguf import GGUFWriter
from transformers import AutoTokenizer

folder = pathlib.Path(sys.argv[1])
folder.mkdir()
tokens = ["<|endoftext|>", *(chr(c) for c in range(33, 127)), "Ġ", "12", "Ġ1"]
expected = {
    "gpt-2": ["x", "Ġ1", "2"],
    "smollm": ["x", "Ġ1", "2"],
    "qwen2": ["x", "Ġ", "1", "2"],
    "llama-bpe": ["x", "Ġ", "12"],
}
found = {}
for pre in expected:
    writer = GGUFWriter(str(folder / f"{pre}.gguf"), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_block_count(1)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] + [1] * (len(tokens) - 1))
    writer.add_token_merges(["Ġ 1", "1 2"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    loaded = AutoTokenizer.from_pretrained(folder, gguf_file=f"{pre}.gguf")
    ids = loaded("x 12", add_special_tokens=False)["input_ids"]
    found[pre] = [loaded.convert_ids_to_tokens(i) for i in ids]
    print(f"{pre}: {found[pre]}")
sys.exit(0 if found == expected else 1)
PY
"$work/venv/bin/python" "$work/look.py" "$work/model"
# gpt-2: ['x', 'Ġ1', '2']
# smollm: ['x', 'Ġ1', '2']
# qwen2: ['x', 'Ġ', '1', '2']
# llama-bpe: ['x', 'Ġ', '12']
