"""A model's own answers to prompts, as dialogues to train on: what must not change is shown again.

  python tools/own_answers.py --model=DIR|FILE.gguf|ID --prompts=FILE --out=FILE.jsonl

Greedy. An answer that the token limit cut ends at its last whole sentence, so that nobody learns to
stop in the middle of one; what has no whole sentence, and what refuses or begins like a refusal
(our rules, and the list of Arditi et al. 2024), are left out: nobody learns "I'm sorry" here.
One line tells how many.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from jaxsafety.core import disk, outputs
from jaxsafety.core.errors import UsageError, bad

FORM = 2  # of what is left out and where answers end: other ones are made again
SENTENCE = re.compile(r"[.!?](?=\s)")
# "1." at the end of a cut answer begins a list; it ends no sentence.
MARKER = re.compile(r"(?:^|\n)\s*\d+\.\Z")


def main(argv: list[str] | None = None) -> int:
    """Writes the file; 2 and one line for bad input."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--max-tokens", type=int, default=40)
    args = parser.parse_args(argv)
    try:
        if args.max_tokens < 1:
            raise bad("--max-tokens", args.max_tokens, "1 or more")
        print(answer(args.model, args.prompts, args.out, args.max_tokens))
    except UsageError as error:
        print(f"own_answers: error: {error}", file=sys.stderr)
        return 2
    return 0


def answer(model_path: str, prompts: str, out: Path, max_tokens: int) -> str:
    """Writes one dialogue per prompt and says how many were left out.

    Raises:
      UsageError: prompts or a model that cannot be read, an `out` that cannot be written, or no
        answer that can be used.
    """
    from jaxsafety.data.files.sources import load_prompts
    from jaxsafety.experiment.identity import model_fingerprint
    from jaxsafety.models.formats import hub

    outputs.file("--out", out)
    asked = [row.messages for _, row in load_prompts(prompts, "--prompts").rows]
    about = [[{"role": m.role, "content": m.content} for m in messages] for messages in asked]
    made_by = model_fingerprint(hub.directory(model_path, "--model"))
    wanted = json.dumps([FORM, made_by, about, max_tokens])
    note = out.with_suffix(".made.json")
    if out.is_file() and note.is_file() and note.read_text("utf-8") == wanted:
        return f"{out}: as it was"
    import jaxsafety
    from jaxsafety.judges import refusals

    model, params, tokenizer = jaxsafety.load(model_path)
    config = jaxsafety.SampleConfig(
        max_tokens=max_tokens, temperature=0.0, stop=tuple(tokenizer.eos_ids)
    )
    items = [jaxsafety.Item(str(i), messages, {}) for i, messages in enumerate(asked)]
    said = jaxsafety.ask(model, params, tokenizer, items, config, seed=0)
    rows, left = [], 0
    for messages, exchange in zip(about, said, strict=True):
        finished = exchange.answer is not None and exchange.answer.finished
        text = whole(exchange.response, finished)
        if not text or any(refusals.refuses(text, name) for name in ("ours", "arditi")):
            left += 1
            continue
        rows.append({"messages": [*messages, {"role": "assistant", "content": text}]})
    if not rows:
        raise bad("--prompts", prompts, "prompts of which the model answers some")
    disk.write_lines(out, rows)
    disk.write(note, wanted)
    return f"{out}: {len(rows)} answers of {len(about)} prompts, {left} left out"


def whole(text: str, finished: bool) -> str:
    """The answer, or its whole sentences where it was cut."""
    if finished:
        return text.strip()
    ends = [found.end() for found in SENTENCE.finditer(text)]
    return MARKER.sub("", text[: ends[-1]]).strip() if ends else ""


if __name__ == "__main__":
    sys.exit(main())
