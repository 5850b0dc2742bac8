"""The peers' side: `python tests/bench/peers.py JOB MODEL_DIR`; torch, transformers, peft, trl."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import floors, jobs

torch.set_num_threads(2)


def model_of(folder: Path) -> torch.nn.Module:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def lora_config() -> Any:
    """PEFT's settings of the LoRA of `jobs.LORA`."""
    import peft

    return peft.LoraConfig(
        r=int(jobs.LORA["rank"]),
        lora_alpha=jobs.LORA["alpha"],
        lora_dropout=0.0,
        bias="none",
        target_modules=[f"{n}_proj" for n in ("q", "k", "v", "o", "gate", "up", "down")],
    )


def lora(folder: Path) -> None:
    """PEFT, eager, AdamW of torch."""
    import peft

    model = peft.get_peft_model(model_of(folder), lora_config())
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


def dpo(folder: Path) -> None:
    """TRL's DPOTrainer: its loss on a batch of its collator, reference precomputed, AdamW."""
    import tokenizers
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    model = model_of(folder)
    tokens, prompt = jobs.answers(model.config.vocab_size), int(jobs.DPO["prompt"])
    words = {f"w{i}": i for i in range(model.config.vocab_size)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="w0", eos_token="w1"
    )

    def text(ids: np.ndarray) -> str:
        return " ".join(f"w{i}" for i in ids)

    rows = [
        {
            "prompt": text(one[:prompt]),
            # It appends its end to an answer, here in place of a last token.
            "chosen": " " + text(one[prompt:-1]) + " w1",
            "rejected": " " + text(other[prompt:-1]) + " w1",
        }
        for one, other in tokens
    ]
    with tempfile.TemporaryDirectory() as temporary:
        trainer = DPOTrainer(
            model,
            args=DPOConfig(
                temporary,
                beta=jobs.DPO["beta"],
                max_length=int(jobs.DPO["length"]),
                per_device_train_batch_size=int(jobs.DPO["pairs"]),
                precompute_ref_log_probs=True,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                report_to="none",
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=fast,
            peft_config=lora_config(),
        )
        trainer.get_train_dataloader()  # some versions compute the reference here
    batch = trainer.data_collator(list(trainer.train_dataset))
    if tuple(batch["input_ids"].shape) != (2 * len(rows), int(jobs.DPO["length"])):
        raise RuntimeError(f"TRL made rows of shape {tuple(batch['input_ids'].shape)}")
    if "ref_chosen_logps" not in batch:
        raise RuntimeError("TRL did not compute the reference beforehand")
    made = trainer.model.train()
    optimizer = torch.optim.AdamW(
        [p for p in made.parameters() if p.requires_grad], lr=jobs.LORA["lr"], weight_decay=0.0
    )

    def run() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = trainer.compute_loss(made, batch)
        loss.backward()
        optimizer.step()
        return loss.item()

    # Log 2 on both sides, as adapters begin with nothing; after a step their random halves, which
    # differ, tell. That losses and gradients are equal is tests/parity/test_dpo_trl.py.
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


def floor(folder: Path) -> None:
    """The rates of torch on this machine."""
    del folder
    (rows, width, out), (deep, wide) = floors.PRODUCT, floors.READ
    x, w, big = torch.ones(rows, width), torch.ones(width, out), torch.ones(wide, deep)
    row = torch.ones(1, deep)
    with torch.no_grad():
        rates = floors.told(lambda: x @ w, lambda: torch.nn.functional.linear(row, big))
    jobs.serve(lambda: None, rates)


JOBS = {
    "floor": floor,
    "gated": gated,
    "lora": lora,
    "dpo": dpo,
    "head_all": lambda folder: gkd(1.0),
    "head_selected": lambda folder: gkd(jobs.HEAD["share"]),
    "chunked_all": lambda folder: chunked(1.0),
    "sample_1": lambda folder: sample(folder, 1),
    "sample_8": lambda folder: sample(folder, 8),
}

if __name__ == "__main__":
    JOBS[sys.argv[1]](Path(sys.argv[2]))
