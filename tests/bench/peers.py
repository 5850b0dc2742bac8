"""The peers' side: `python tests/bench/peers.py JOB MODEL_DIR`; torch, transformers, peft, trl."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import jobs

torch.set_num_threads(2)


def model_of(folder: Path) -> torch.nn.Module:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def lora(folder: Path) -> None:
    """PEFT, eager, AdamW of torch."""
    import peft

    config = peft.LoraConfig(
        r=int(jobs.LORA["rank"]),
        lora_alpha=jobs.LORA["alpha"],
        lora_dropout=0.0,
        bias="none",
        target_modules=[f"{n}_proj" for n in ("q", "k", "v", "o", "gate", "up", "down")],
    )
    model = peft.get_peft_model(model_of(folder), config)
    model.train()
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=jobs.LORA["lr"], weight_decay=0.0
    )
    size = (int(jobs.LORA["batch"]), int(jobs.LORA["length"]))
    vocab = model.config.vocab_size
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, vocab, size))

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    jobs.serve(run, run())


def inputs(share: float) -> tuple[torch.Tensor, ...]:
    n, d, v = (int(jobs.HEAD[k]) for k in ("rows", "width", "vocab"))
    rng = np.random.default_rng(0)
    student, teacher, table = (
        torch.from_numpy(rng.normal(size=s).astype(np.float32)) for s in ((n, d), (n, d), (d, v))
    )
    weight = (table * 0.05).T.contiguous()  # as a linear layer keeps it
    return student.requires_grad_(), teacher, weight, torch.arange(n) < n * share


def gkd(share: float) -> None:
    """TRL's GKD loss on full logits; rows that are not chosen are masked by labels."""
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    student, teacher, weight, chosen = inputs(share)
    labels = torch.where(chosen, 0, -100)[None]

    def run() -> float:
        student.grad = None
        ours = student @ weight.T
        with torch.no_grad():
            theirs = teacher @ weight.T
        loss = GKDTrainer.generalized_jsd_loss(ours[None], theirs[None], labels, beta=1.0)
        loss.backward()
        return loss.item()

    jobs.serve(run, run())


def chunked(share: float) -> None:
    """TRL's chunked divergence; on a CPU it takes every row and weighs it afterwards."""
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    student, teacher, weight, chosen = inputs(share)
    weigh = chosen.float() / chosen.sum()

    def run() -> float:
        student.grad = None
        value, _ = ChunkedDivergenceFunction.apply(
            student, weight, None, teacher, weight, None, 1.0
        )
        loss = (value * weigh).sum()
        loss.backward()
        return loss.item()

    jobs.serve(run, run())


def sample(folder: Path, rows: int) -> None:
    """transformers' generate, greedy, with its cache."""
    model = model_of(folder).eval()
    rng = np.random.default_rng(0)
    size = (rows, jobs.DECODE["prompt"])
    tokens = torch.from_numpy(rng.integers(0, model.config.vocab_size, size))
    new = jobs.DECODE["new"]

    def run() -> list:
        with torch.no_grad():
            said = model.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                do_sample=False,
                min_new_tokens=new,
                max_new_tokens=new,
                pad_token_id=0,
            )
        return said[:, size[1] :].tolist()

    jobs.serve(run, run())


def gated(folder: Path) -> None:
    """PEFT's X-LoRA: generate, which runs every step over the whole sequence, twice."""
    import peft

    count, rank = int(jobs.EXPERTS["count"]), int(jobs.EXPERTS["rank"])
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=jobs.EXPERTS["alpha"],
        init_lora_weights=False,
        target_modules=["gate_proj", "up_proj", "down_proj"],
        task_type="CAUSAL_LM",
    )
    with tempfile.TemporaryDirectory() as temporary:
        paths = {}
        for expert in range(count):
            torch.manual_seed(expert)
            paths[str(expert)] = str(Path(temporary) / str(expert))
            peft.get_peft_model(model_of(folder), config).save_pretrained(paths[str(expert)])
        base = model_of(folder)
        base.config.use_cache = False  # X-LoRA refuses a cache
        gate = peft.XLoraConfig(
            task_type="CAUSAL_LM",
            hidden_size=base.config.hidden_size,
            adapters=paths,
            layerwise_scalings=True,
            xlora_depth=1,
        )
        model = peft.get_peft_model(base, gate).eval()
    rng = np.random.default_rng(0)
    size, new = (int(jobs.EXPERTS["rows"]), int(jobs.EXPERTS["prompt"])), int(jobs.EXPERTS["new"])
    tokens = torch.from_numpy(rng.integers(0, model.config.vocab_size, size))

    def run() -> float:
        with torch.no_grad():
            said = model.generate(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                do_sample=False,
                min_new_tokens=new,
                max_new_tokens=new,
                pad_token_id=0,
                use_cache=False,
            )
        return float(said.shape[1])

    jobs.serve(run, run())


JOBS = {
    "gated": gated,
    "lora": lora,
    "head_all": lambda folder: gkd(1.0),
    "head_selected": lambda folder: gkd(jobs.HEAD["share"]),
    "chunked_all": lambda folder: chunked(1.0),
    "sample_1": lambda folder: sample(folder, 1),
    "sample_8": lambda folder: sample(folder, 8),
}

if __name__ == "__main__":
    JOBS[sys.argv[1]](Path(sys.argv[2]))
