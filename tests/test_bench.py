"""The benchmark scripts run; what they measure is for a quiet machine."""

import json
import subprocess
import sys

import pytest

TINY = {
    "lora": {"rows": 2, "length": 8},
    "head": {"rows": 8},
    "sample": {"rows": 2, "prompt": 4, "new": 3},
}


def test_the_gpu_script_at_toy_sizes(tmp_path, monkeypatch):
    import dataclasses

    from jaxsafety.models.api import ModelConfig, build
    from tests.bench import gpu, sections

    shape = dict(num_layers=1, num_heads=2, num_kv_heads=1, head_dim=4, mlp_dim=8, max_length=16)
    small = ModelConfig("llama", vocab_size=32, embed_dim=8, dtype="bfloat16", **shape)
    made = lambda name, **changes: build(dataclasses.replace(small, **changes))  # noqa: E731
    monkeypatch.setattr(gpu, "preset", made)
    monkeypatch.setattr(sections, "GPU", tmp_path / "gpu.jsonl")
    command = ["gpu.py", "--models=a", f"--out={sections.GPU}", f"--sizes={json.dumps(TINY)}"]
    for more in ([], ["--peak=1", "--bandwidth=1", "--jobs=head"]):
        monkeypatch.setattr(sys, "argv", [*command, *more])
        assert gpu.main() == 0
    rows = [json.loads(line) for line in sections.GPU.read_text().splitlines()]
    assert [r["job"] for r in rows] == [
        *("LoRA step", "reverse KL head", "decode"),
        "reverse KL head",
    ]
    assert all(r["tokens_per_second"] > 0 and r["peak_bytes"] is None for r in rows)
    assert all(r["utilisation"] is None for r in rows[:3])  # a CPU has no data sheet here
    assert 0 < rows[3]["utilisation"] < 1 and rows[3]["rates"] == [1e12, 1e12]
    told = sections.gpu()
    assert len(told) == 4 + 4 and told[4].count("unknown") == 4 and rows[0]["date"] in told[4]
    assert gpu.rates("NVIDIA H200")[0] == gpu.rates("NVIDIA H100 80GB HBM3")[0] == 989e12


def test_presets_of_the_gpu_script_are_published_shapes():
    from tests.bench import gpu

    model = gpu.preset("llama3-8b", remat="full")
    assert (model.config.embed_dim, model.config.remat, model.config.dtype) == (
        4096,
        "full",
        "bfloat16",
    )


def test_turns_make_up_the_runs():
    from tests.bench import speed

    assert [speed.turns(n) for n in (0, 3, 5, 8)] == [[], [3], [5], [5, 3]]


def test_a_busy_machine_is_refused(root):
    code = (
        "import os; os.getloadavg = lambda: (9.0, 9.0, 9.0)\n"
        "import sys; sys.argv = ['speed.py']; sys.path.insert(0, '.')\n"
        "from tests.bench import speed; sys.exit(speed.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and "load 9.00; allowed: at most 0.5" in done.stderr


def test_a_floor_counts_every_product_of_the_model():
    import jax

    from jaxsafety.core import trees
    from jaxsafety.models.api import ModelConfig, build
    from tests.bench import floors, jobs, speed

    model = build(ModelConfig(family="llama", **jobs.MODEL))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    sizes = dict(zip(trees.paths(shapes), jax.tree.leaves(shapes), strict=True))
    kernels = sum(x.size for name, x in sizes.items() if name.endswith("kernel"))
    head = sizes["embed/table"].size
    tokens = jobs.LORA["batch"] * jobs.LORA["length"]
    # Scores and sums of 4 x 256 squares of 8 layers, three times as forward; forward and backward.
    squares = 3 * 4 * jobs.LORA["batch"] * jobs.LORA["length"] ** 2 * 8 * 64 * 8
    rates = [{"flops": 1e9, "bytes": 1e9}, {"flops": 2e9, "bytes": 5e8}]
    expected = (4 * tokens * (kernels + head) + squares) / 2e9
    assert floors.floor("lora", rates) == pytest.approx(expected)
    read = 4 * jobs.DECODE["new"] * (kernels + head) / 1e9
    assert floors.floor("sample_1", rates) > read
    assert floors.floor("sample_8", rates) > floors.floor("sample_1", rates)
    assert set(floors.COSTS) == set(speed.PAIRS)
    assert floors.floor("another", rates) is None


def test_the_sections_of_int8_and_switches(tmp_path, monkeypatch):
    from tests.bench import sections

    kept = {"seconds": [[2.0, 1.0], [3.0, 1.5]], "load": 0.1, "cpu": "one", "jax": "2"}
    pair = {"name": "lora", "what": "a step", "weights": [2**20, 2**22], **kept}
    tasks = {"name": "tasks", "what": "9 of piqa", "right": [0.5, 0.6], "changed": 3}
    tasks |= {"difference": [-0.1, -0.2, 0.0], "load": 0.1, "cpu": "one"}
    rows = [{**pair, "extra_bytes": [2**20, 2**21]}, tasks]
    cells = (("a", "x", "f"), ("a", "y", "f"), ("b", "x", "f"), ("a", "y", "g"))
    switches = [{"flags": f, "job": j, "dtype": d, **kept} for f, j, d in cells]
    for name, lines in (("INT8", rows), ("SWITCHES", switches)):
        file = tmp_path / name
        monkeypatch.setattr(sections, name, file)
        assert "Not measured yet" in getattr(sections, name.lower())()[-1]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = "\n".join(sections.int8())
    assert "| a step | 1000 | 1500 | 1.50x | 1, 4 | 1, 2 | one | 2 (0.1) |" in told
    assert "50.0 %, 60.0 % right" in told and "-10.00 points [-20.00, +0.00]" in told
    told = sections.switches()
    assert "| `a` | 1.50x | 1.50x | f; 2, one | 2 (0.1) |" in told
    assert "| `b` | 1.50x | not measured | f; 2, one | 2 (0.1) |" in told
    assert "| `a` | not measured | 1.50x | g; 2, one | 2 (0.1) |" in told


def test_the_check_of_cudnn_s_attention_tells_right_from_wrong(monkeypatch):
    import jax.numpy as jnp

    from jaxsafety.models import cudnn
    from tests.bench import attention

    own, usual = attention.errors([24, 9, 1], 8, 5, "xla")
    assert 0 < own < 2 * usual < 0.05
    right = cudnn.attend

    def without_window(q, k, v, structure, **options):
        return right(q, k, v, cudnn.Structure(structure.lengths), **options)

    monkeypatch.setattr(cudnn, "attend", without_window)
    assert attention.errors([24, 9, 1], 8, 5, "xla")[0] > 2 * usual
    monkeypatch.setattr(cudnn, "attend", lambda q, *rest, **options: q * jnp.nan)
    assert not attention.errors([24, 9, 1], 8, 5, "xla")[0] <= 2 * usual


def test_int8_s_tasks_count_right_choices_of_kept_lines(tmp_path):
    import jaxsafety
    from jaxsafety.evaluation import choices
    from tests.bench import int8

    model, params, tokenizer = jaxsafety.load()
    meta = {"context": "what is 1 plus 2 ?", "continuations": ["3", "4"]}
    user = (jaxsafety.Message("user", "what is 1 plus 2 ?"),)
    items = tuple(jaxsafety.Item(str(t), user, {**meta, "target": t}) for t in (0, 1))
    bench = jaxsafety.Benchmark("sums", "capability", items, 0, "choices")
    quiet = {"chat": False, "log": lambda line: None}
    rows = choices.measure_choices(model, params, tokenizer, [bench], tmp_path, "base", **quiet)
    lines = (tmp_path / "generations/base/sums.logp.jsonl").read_text().splitlines()
    right = [int8.right_choice(json.loads(line)) for line in lines]
    assert sorted(right) == [0.0, 1.0]  # the same choice both times
    assert sum(right) / 2 == next(r["value"] for r in rows if r["metric"] == "acc.logp")
