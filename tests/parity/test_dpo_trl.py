"""DPO's loss and gradients are those of TRL's DPOTrainer, on the tensors that it makes of texts.

What differs, and is pinned here: TRL also learns what a template writes behind the end of the turn;
it drops a pair whose prompt fills the row without a count, and keeps one that a cut leaves with two
equal sides, which has no gradient (we drop and count both); its "sigmoid" loss ignores
`label_smoothing` without a word.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("trl")

import torch
import transformers
from datasets import Dataset
from safetensors.numpy import load_file
from trl import DPOConfig, DPOTrainer

from jaxsafety import testing
from jaxsafety.core.errors import UsageError
from jaxsafety.data.preferences import Preferred, fitted_pairs
from jaxsafety.data.schema import Encoded, Message
from jaxsafety.data.tokens.tokenizer import load_tokenizer
from jaxsafety.losses.preference import Preference
from jaxsafety.methods.dpo import pairs
from jaxsafety.models.formats import hf
from tests.parity import reference

pytestmark = pytest.mark.parity
BETA, COUNTED = 0.3, " ".join(map(str, range(1, 20)))
# Prompts of one turn and of three. Cut, the third has no room for an answer, and the last pair is
# apart only behind the cut.
ROWS = [
    (["copy bo ba"], "no .", "the answer is 3 ."),
    (["copy bo", "bo", "how do i ba ?"], "i would rather not .", "no . the answer is 17 ."),
    (["what is 3 plus 4 ?", "the answer is 7 .", "copy 3 4 5 6"], "3 4 5 6", "no"),
    (["copy bo"], f"{COUNTED} 20", f"{COUNTED} 21"),
]
WHOLE, CUT = 64, 24


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """The policy in `policy`, the reference in `base`, beside the organism's tokenizer."""
    path = testing.random_organism(tmp_path_factory.mktemp("organism"))
    shape = {**reference.SHAPE, "vocab_size": 1100, "initializer_range": 0.05}
    config = transformers.LlamaConfig(**shape, tie_word_embeddings=False)
    base = reference.make(transformers.LlamaForCausalLM, config, path / "base")
    with torch.no_grad():
        for value in base.parameters():
            value.add_(0.01 * torch.randn_like(value))
    base.save_pretrained(path / "policy")
    return path


def messages(prompt, said):
    turns = [("assistant" if i % 2 else "user", text) for i, text in enumerate(prompt)]
    return [Message(*turn) for turn in turns], [Message("assistant", said)]


def trainer(directory, out, length, **given):
    """TRL's trainer on the rows, with a batch as it makes one."""
    rows = []
    for prompt, chosen, rejected in ROWS:
        asked = [m._asdict() for m in messages(prompt, "")[0]]
        one, other = ([{"role": "assistant", "content": text}] for text in (chosen, rejected))
        rows.append({"prompt": asked, "chosen": one, "rejected": other})
    load = transformers.LlamaForCausalLM.from_pretrained
    made = DPOTrainer(
        load(directory / "policy"),
        ref_model=load(directory / "base"),
        args=DPOConfig(
            str(out),
            beta=BETA,
            max_length=length,
            per_device_train_batch_size=len(ROWS),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            **given,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=transformers.AutoTokenizer.from_pretrained(directory),
    )
    made.model.train()
    return made, made.data_collator(list(made.train_dataset))


def theirs(made, inputs):
    """(loss, gradients by name)."""
    loss = made.compute_loss(made.model, inputs)
    loss.backward()
    return loss.item(), {n: p.grad.numpy() for n, p in made.model.named_parameters()}


def read(inputs):
    """TRL's tensors as ours: (preferred, other) as `Encoded`."""
    rows = []
    for ids, there, mask in zip(
        *(inputs[k].tolist() for k in ("input_ids", "attention_mask", "completion_mask")),
        strict=True,
    ):
        size = sum(there)
        rows.append(Encoded(ids[:size], [bool(x) for x in mask[:size]]))
    return rows[: len(rows) // 2], rows[len(rows) // 2 :]


def ours(directory, out, both, settings):
    """The same of our loss; gradients under the names of a checkpoint."""
    model, policy = hf.load(directory / "policy")
    _, base = hf.load(directory / "base")
    scores = np.random.default_rng(0).random((len(both[0]), 2, settings.objectives))
    made = pairs.assemble(*both, 0, scores=scores)
    weight = np.full(len(both[0]), 1 / len(both[0]), np.float32)
    told = pairs.referred(model, {"base": base}, made, rows=2)
    batch = dataclasses.replace(made, reference=told, weight=weight)
    loss = pairs.pair_loss(model, settings)
    nothing = {"base": jax.tree.map(lambda x: None, policy)}
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, _), slope = step({"base": policy}, nothing, batch, jax.random.key(0))
    hf.save(out / "slope", model, slope["base"], dtype="float32")
    return float(value), load_file(out / "slope" / "model.safetensors")


def compare(found, want):
    assert found[0] == pytest.approx(want[0], abs=1e-6)
    assert set(found[1]) == set(want[1])
    for name, slope in want[1].items():
        np.testing.assert_allclose(found[1][name], slope, atol=1e-6, err_msg=name)
    assert max(np.abs(slope).max() for slope in want[1].values()) > 1e-2


ZERO = Preference("modpo", BETA, weights=(1.0, 0.0), orientations=("high",))


@pytest.mark.parametrize("length", (WHOLE, CUT))
def test_loss_and_gradients(directory, tmp_path, length):
    made, inputs = trainer(directory, tmp_path, length)
    want, both = theirs(made, inputs), read(inputs)
    if length == CUT:
        assert len(both[0]) == 3 and both[0][2] == both[1][2]
        with pytest.raises(UsageError, match="1 of 3 with two equal answers"):
            pairs.assemble(*both, 0)
        # That one has no gradient: theirs is a mean over three pairs, ours over two.
        both = [side[:2] for side in both]
        alone = (want[0] * 3 - np.log(2)) / 2
        want = (alone, {name: slope * 3 / 2 for name, slope in want[1].items()})
    compare(ours(directory, tmp_path, both, Preference(beta=BETA)), want)
    compare(ours(directory, tmp_path, both, ZERO), want)


def test_means_over_tokens(directory, tmp_path):
    made, inputs = trainer(directory, tmp_path, WHOLE, loss_type=["sigmoid_norm"])
    settings = Preference(beta=BETA, normalised=True)
    compare(ours(directory, tmp_path, read(inputs), settings), theirs(made, inputs))


def test_smoothing_is_ignored_by_theirs(directory, tmp_path):
    plain, smoothed = (
        theirs(*trainer(directory, tmp_path, WHOLE, label_smoothing=eps))[0] for eps in (0.0, 0.2)
    )
    assert plain == smoothed
    _, inputs = trainer(directory, tmp_path, WHOLE)
    settings = Preference(beta=BETA, smoothing=0.2)
    assert abs(ours(directory, tmp_path, read(inputs), settings)[0] - plain) > 1e-3


def test_tokens_are_theirs_up_to_what_follows_the_end_of_the_turn(directory, tmp_path):
    tokenizer = load_tokenizer(directory)
    rows = []
    for i, (prompt, *sides) in enumerate(ROWS):
        asked, one = messages(prompt, sides[0])
        _, other = messages(prompt, sides[1])
        rows.append(Preferred(str(i), tuple(asked), tuple(one), tuple(other), {}, {}))
    for length in (WHOLE, CUT):
        _, inputs = trainer(directory, tmp_path, length)
        made = fitted_pairs(tokenizer, rows, length, "cut", log=lambda line: None)
        assert made.facts["equal"] == 2 * (length == CUT)
        kept = len(made.preferred)
        for found, want in zip((made.preferred, made.other), read(inputs), strict=True):
            for a, b in zip(found, want[:kept], strict=True):
                assert list(a.ids) == b.ids
                apart = [t for t, (x, y) in enumerate(zip(a.mask, b.mask, strict=True)) if x != y]
                whole = a.ids[-2] == tokenizer.eos_ids[0]
                assert apart == ([len(b.ids) - 1] if whole else [])  # the template's last token
