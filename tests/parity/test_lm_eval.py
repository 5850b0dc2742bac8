"""Multiple choice and GSM8K item by item as lm-eval 0.4.13 scores them, by its own task files.

Each set is written in its published columns; lm-eval reads that file by the task file it ships, and
we by our `PublicSet`. Small rows of our own on a small model; on a real one and the public files
beside the repository with LM_EVAL_MODEL=DIR (and LM_EVAL_ITEMS, 20 unless told, of each set).

    LM_EVAL_MODEL=DIR LM_EVAL_ITEMS=200 python -m pytest tests/parity/test_lm_eval.py -m parity
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxsafety
from jaxsafety import registry
from jaxsafety.evaluation import choices, filters
from jaxsafety.sampling.many import generate

lm_eval = pytest.importorskip("lm_eval")
pytestmark = [pytest.mark.parity, pytest.mark.slow]
TASKS = Path(lm_eval.__file__).parent / "tasks"
ITEMS = int(os.environ.get("LM_EVAL_ITEMS", "20"))
TOLERANCE = 2e-3  # of a sum of float32 log-probabilities of some ten tokens

# set -> lm-eval's task file, the name of ours for the file
FILES = {
    "arc_easy": ("arc/arc_easy.yaml", "arc-easy-test.jsonl"),
    "arc_challenge": ("arc/arc_challenge.yaml", "arc-challenge-test.jsonl"),
    "openbookqa": ("openbookqa/openbookqa.yaml", "openbookqa/test.jsonl"),
    "piqa": ("piqa/piqa.yaml", "piqa.jsonl"),
    "commonsense_qa": ("commonsense_qa/default.yaml", "commonsense_qa.jsonl"),
    "boolq": ("super_glue/boolq/default.yaml", "boolq.jsonl"),
    "hellaswag": ("hellaswag/hellaswag.yaml", "hellaswag_val.jsonl"),
    "winogrande": ("winogrande/default.yaml", "winogrande_dev.jsonl"),
    "truthfulqa_mc1": ("truthfulqa/truthfulqa_mc1.yaml", "truthfulqa_mc.jsonl"),
    "truthfulqa_mc2": ("truthfulqa/truthfulqa_mc2.yaml", "truthfulqa_mc.jsonl"),
    "mmlu": ("mmlu/default/mmlu_astronomy.yaml", "mmlu_test.jsonl"),
}


def lettered(question, texts, right, column="question"):
    shown = {"text": list(texts), "label": list("ABCDEFGH"[: len(texts)])}
    return {column: question, "choices": shown, "answerKey": "ABCDEFGH"[right]}


def true(question, texts, labels):
    both = {"choices": list(texts), "labels": list(labels)}
    first = {"choices": both["choices"], "labels": [1] + [0] * (len(texts) - 1)}
    return {"question": question, "mc1_targets": first, "mc2_targets": both}


OWN = {
    "arc_easy": [
        lettered("Where did the little dog sleep?", ["in a bed ", " a box", "the sun"], 0),
        lettered("What can a bird do? ", ["fly", "fly away", "fly away home"], 1),
    ],
    "openbookqa": [
        lettered("The girl was happy because", ["she had a ball", "it rained"], 0, "question_stem"),
        lettered("At night it is ", ["dark", "light"], 0, "question_stem"),
    ],
    "piqa": [
        {
            "goal": "To keep a toy dry,",
            "sol1": "put it in a box",
            "sol2": "put it in water",
            "label": 0,
        },
        {"goal": "Eat soup", "sol1": "with a fork", "sol2": "with a big spoon", "label": 1},
    ],
    "commonsense_qa": [
        lettered(" Where is the cat?", ["a tree", "a hat", "a cup", "a car", "the sea"], 1),
        lettered("What is red?", ["an apple", "a leaf", "milk", "snow", "the sky"], 0),
    ],
    "boolq": [
        {"passage": "Lily had a cat. The cat was big.", "question": "was the cat big", "label": 1},
        {"passage": "Tom ran home.\nIt was late.", "question": "did tom walk", "label": 0},
    ],
    "hellaswag": [
        {
            "activity_label": "Playing ball",
            "ctx_a": "A boy runs [header] to the park.",
            "ctx_b": "the Boy",
            "ctx": "A boy runs [header] to the park. the Boy",
            "endings": ["kicks a ball.", "eats  a [title] house.", "sleeps", "is sad."],
            "label": "0",
        },
        {
            "activity_label": "Baking",
            "ctx_a": "Mom [title] Get the flour.",
            "ctx_b": "",
            "ctx": "Mom [title] Get the flour.",
            "endings": [" [step] Mix it well.", "Run.", "Go to bed now.", "Sing a song."],
            "label": "3",
        },
    ],
    "winogrande": [
        {
            "sentence": "The ball did not fit in the box because _ was too small.",
            "option1": "the ball",
            "option2": "the box",
            "answer": "2",
        },
        {
            "sentence": "Ann gave Sue a cake as _ was kind.",
            "option1": "Ann",
            "option2": "Sue",
            "answer": "1",
        },
    ],
    "truthfulqa_mc1": [
        true("Is the moon made of cheese?", ["No, it is not.", "Yes", "Only at night."], [1, 0, 0]),
        true("Can dogs talk?", ["No", "They bark.", "Yes, they can."], [1, 1, 0]),
    ],
    "mmlu": [
        {"question": " What is hot?", "choices": ["the sun", "ice", "snow", "rain"], "answer": 0},
        {"question": "What shines?", "choices": ["mud", "a star", "fog", "wood"], "answer": 1},
    ],
}
OWN["arc_challenge"], OWN["truthfulqa_mc2"] = OWN["arc_easy"], OWN["truthfulqa_mc1"]
OWN["mmlu"] = [{**row, "subject": "astronomy"} for row in OWN["mmlu"]]


def task(name, rows, folder, **more):
    """lm-eval's own task on our rows."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "rows.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    yaml, _ = FILES.get(name) or ("gsm8k/gsm8k.yaml", "")
    said = {
        "include": str(TASKS / yaml),
        "task": f"ours_{name}",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "training_split": None,
        "validation_split": None,
        "fewshot_split": None,
        "test_split": "test",
        "num_fewshot": 0,
        "tag": None,
        **more,
    }
    (folder / f"{name}.yaml").write_text(json.dumps(said))  # JSON is YAML
    return f"ours_{name}"


class Theirs:
    """lm-eval's `hf` model of a directory."""

    def __init__(self, directory):
        from lm_eval.models.huggingface import HFLM

        self.model = HFLM(pretrained=str(directory), device="cpu", dtype="float32", batch_size=8)

    def samples(self, name, folder, chat):
        from lm_eval.tasks import TaskManager

        tasks = TaskManager(include_path=str(folder), include_defaults=False)
        said = lm_eval.simple_evaluate(
            model=self.model,
            tasks=[name],
            task_manager=tasks,
            apply_chat_template=chat,
            log_samples=True,
            bootstrap_iters=0,
            verbosity="ERROR",
        )
        return said["samples"][name]


def compare(name, rows, directory, theirs, ours, tmp_path, chat):
    """Both sides on the same rows; returns the largest difference of a log-probability."""
    label = task(name, rows, tmp_path / "theirs")
    samples = sorted(theirs.samples(label, tmp_path / "theirs", chat), key=lambda s: s["doc_id"])
    path = tmp_path / "data" / FILES[name][1]
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bench = registry.resolve(registry.SETS, name).open(path).benchmark
    choices.measure_choices(*ours, [bench], tmp_path / "out", "base", chat=chat, log=str)
    lines = (tmp_path / f"out/generations/base/{name}.logp.jsonl").read_text().splitlines()
    worst = 0.0
    assert len(lines) == len(samples) == len(rows)
    for line, sample in zip(map(json.loads, lines), samples, strict=True):
        assert not line["cause"]
        want = [float(answer[0]) for answer in sample["filtered_resps"]]
        gap = np.abs(np.subtract(line["logps"], want)).max()
        worst = max(worst, float(gap))
        assert gap < TOLERANCE, (name, line["id"], line["logps"], want)
        close = min(abs(a - b) for i, a in enumerate(want) for b in want[:i]) < 2 * TOLERANCE
        if "mc2" in line["scores"]:
            assert line["scores"]["mc2"] == pytest.approx(sample["acc"], abs=TOLERANCE)
            continue
        for metric in ("acc", "acc_norm"):
            if metric in sample and not close:
                assert line["scores"][metric] == sample[metric], (name, line["id"], metric)
    return worst


@pytest.fixture(scope="module")
def small(root):
    path = root.parent / "shared" / "models" / "stories260K"
    if not path.is_dir():
        pytest.skip("the stories260K model is not beside the repository")
    return path, Theirs(path), jaxsafety.load(path)


@pytest.mark.parametrize("name", FILES)
def test_own_rows_on_a_small_model(small, tmp_path, name):
    directory, theirs, ours = small
    compare(name, OWN[name], directory, theirs, ours, tmp_path, chat=False)


@pytest.fixture(scope="module")
def real():
    directory = os.environ.get("LM_EVAL_MODEL")
    if not directory:
        pytest.skip("LM_EVAL_MODEL names no directory of a model")
    model, params, tokenizer = jaxsafety.load(directory)
    params = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    return directory, Theirs(directory), (model, params, tokenizer)


def visible(root, name, count):
    """Rows of the public files beside the repository in published columns."""
    folder = root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no public files beside the repository")
    found = registry.resolve(registry.SETS, name)
    path = found.find(folder)[0]
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = [json.loads(row) for row in raw.decode().splitlines() if row.strip()]
    if name == "mmlu":
        rows = [row for row in rows if row["subject"] == "astronomy"] + [
            {**row, "subject": "astronomy"} for row in rows if row["subject"] != "astronomy"
        ]
        return [{**row, "answer": "ABCD".index(row["answer"])} for row in rows[:count]]
    if name == "gsm8k":
        return rows[:count]
    made = []
    for item, row in zip(found.open(path).benchmark.items, rows[:count], strict=False):
        meta = item.meta
        if name == "boolq":
            passage, question = meta["context"].removesuffix("?\nAnswer:").split("\nQuestion: ")
            made.append({"passage": passage, "question": question, "label": meta["target"]})
            continue
        question = meta["context"].removeprefix("Question: ").removesuffix("\nAnswer:")
        if name == "piqa":
            first, second = meta["continuations"]
            made.append({"goal": question, "sol1": first, "sol2": second, "label": meta["target"]})
        else:
            made.append(lettered(question, row["choices"], row["gold"]))
    return made


@pytest.mark.timeout(3600)  # 200 items of a real model take lm-eval minutes on two cores
@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
@pytest.mark.parametrize("name", ["arc_easy", "arc_challenge", "boolq", "piqa", "mmlu"])
def test_public_rows_on_a_real_model(real, root, tmp_path, name, chat):
    directory, theirs, ours = real
    rows = visible(root, name, ITEMS)
    worst = compare(name, rows, directory, theirs, ours, tmp_path, chat)
    print(f"{name} {'chat' if chat else 'plain'}: {len(rows)} items, largest gap {worst:.1e}")


def compare_written(rows, theirs, ours, tmp_path, chat, tokens):
    """Strict and flexible of the very answers; returns the share of answers equal by letter."""
    model, params, tokenizer = ours
    stops = {"until": list(filters.UNTIL), "do_sample": False, "max_gen_toks": tokens}
    label = task("gsm8k", rows, tmp_path / "theirs", generation_kwargs=stops)
    samples = theirs.samples(label, tmp_path / "theirs", chat)
    kinds = {"strict-match": filters.strict, "flexible-extract": filters.flexible}
    asked = [f"Question: {row['question']}\nAnswer:" for row in rows]
    if chat:
        prompts = [
            jaxsafety.encode_prompt(tokenizer, [jaxsafety.Message("user", text)]) for text in asked
        ]
    else:
        prompts = [tokenizer.encode(text, add_special=True) for text in asked]
    config = jaxsafety.SampleConfig(
        max_tokens=tokens, temperature=0.0, stop=tuple(tokenizer.eos_ids)
    )
    said = generate(model, params, tokenizer, prompts, config, seed=0, batch_size=8)
    texts = [tokenizer.decode(answer[0].ids, skip_special=True) for answer in said]
    same = 0
    assert len(samples) == len(kinds) * len(rows)
    for sample in samples:
        read = kinds[sample["filter"]]
        theirs_said, gold = sample["resps"][0][0], sample["doc"]["answer"]
        assert read(theirs_said) == sample["filtered_resps"][0]
        assert float(filters.equal(read(theirs_said), gold)) == sample["exact_match"]
        ours_said = filters.ended(texts[sample["doc_id"]])
        same += ours_said == theirs_said
        if ours_said == theirs_said:
            assert float(filters.equal(read(ours_said), gold)) == sample["exact_match"]
    return same / len(samples)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
def test_gsm8k_on_a_real_model(real, root, tmp_path, chat):
    _, theirs, ours = real
    tokens = int(os.environ.get("LM_EVAL_TOKENS", "96"))
    same = compare_written(visible(root, "gsm8k", ITEMS), theirs, ours, tmp_path, chat, tokens)
    print(f"gsm8k {'chat' if chat else 'plain'}: {same:.0%} answers equal")
    assert same >= 0.9  # greedy: a near tie of two tokens may go either way
