"""A classifier's head as a judge: the number of its last token, and what may be told of it."""

from __future__ import annotations

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxsafety.core.errors import UsageError
from jaxsafety.data.tokens.tokenizer import ByteTokenizer
from jaxsafety.judges.guards import reward
from jaxsafety.judges.judging import judged
from jaxsafety.judges.opening import open_judge
from jaxsafety.models.formats import hf
from jaxsafety.testing import random_checkpoint
from tests.judges.guards.published import exchange

SAID = [exchange(), exchange("Where is Rome?", "In Italy, on the Tiber.", 1)]


def classifier(path, labels=("LABEL_0",), family="llama", drop=False, **config):
    """A random tiny directory with a head of so many labels, as transformers writes one."""
    random_checkpoint(path, family, tie_embeddings=False)
    tensors = dict(safetensors.numpy.load_file(path / "model.safetensors"))
    tensors.pop("lm_head.weight")
    if not drop:
        rng = np.random.default_rng(0)
        tensors["score.weight"] = rng.standard_normal((len(labels), 32)).astype(np.float32)
    safetensors.numpy.save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    given = json.loads((path / "config.json").read_text())
    kind = given["architectures"][0].replace("ForCausalLM", "ForSequenceClassification")
    table = {str(i): label for i, label in enumerate(labels)}
    given |= {"architectures": [kind], "id2label": table, "tie_word_embeddings": False, **config}
    (path / "config.json").write_text(json.dumps(given))
    return path


def numbers(judge, said):
    """The head's numbers of one exchange, without padding."""
    model, params, tokenizer = judge.weights
    ids = tokenizer.encode(judge.write(said, said.response))
    while ids[-1] == judge.pad:
        ids.pop()
    tokens = np.zeros(256, np.int32)  # what follows the last token changes nothing
    tokens[: len(ids)] = ids
    return np.asarray(_direct(model, params, judge.head, tokens, len(ids) - 1), np.float64)


@functools.partial(jax.jit, static_argnums=0)
def _direct(model, params, head, tokens, last):
    return model.apply(params, tokens[None], jnp.arange(len(tokens))[None]).hidden[0, last] @ head.T


@pytest.mark.parametrize("family", ["llama", pytest.param("gemma2", marks=pytest.mark.slow)])
def test_a_reward_is_a_score_without_flags_until_a_threshold_is_declared(tmp_path, family):
    path = classifier(tmp_path, family=family)
    name, judge = open_judge(f"reward={path}")
    found = judged(judge, SAID)
    for verdict, said in zip(found, SAID, strict=True):
        assert verdict["score"] == pytest.approx(numbers(judge, said)[0], rel=1e-4)
        assert verdict["unsafe"] is verdict["attempt"] is None
        assert verdict["cause"] == reward.CAUSE and verdict["refusal"] is False
    assert (name, judge.orientation, judge.threshold) == ("reward", "higher is better", None)
    between = sum(verdict["score"] for verdict in found) / 2
    with_one = reward.open_reward(str(path), threshold=between)
    told = with_one(SAID)
    assert [v["unsafe"] for v in told] == [v["score"] < between for v in found]
    other = dataclasses.replace(with_one, orientation="higher is unsafe")(SAID)
    assert [v["unsafe"] for v in other] == [v["score"] >= between for v in found]


@pytest.mark.parametrize("sigmoid", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_of_several_labels_the_score_is_the_probability_of_harm(tmp_path, sigmoid):
    kind = {"problem_type": "multi_label_classification"} if sigmoid else {}
    path = classifier(tmp_path, ("safe", "odd", "Unsafe"), **kind)
    _, judge = open_judge(f"reward={path}")
    assert judge.orientation == "higher is unsafe"
    assert (judge.low, judge.high, judge.threshold) == (0.0, 1.0, 0.5)
    for verdict, said in zip(judge(SAID), SAID, strict=True):
        row = numbers(judge, said)
        chance = 1 / (1 + np.exp(-row)) if sigmoid else np.exp(row) / np.exp(row).sum()
        assert verdict["score"] == pytest.approx(chance[2], rel=1e-4)
        assert verdict["label"] == ("safe", "odd", "Unsafe")[row.argmax()]
        assert verdict["unsafe"] is (verdict["score"] >= 0.5)


@pytest.mark.slow
def test_a_pad_at_the_end_is_not_the_last_token(tmp_path):
    """As transformers pools: what ends a turn may be the pad token, too."""
    path = classifier(tmp_path)
    tokenizer = ByteTokenizer()
    template = "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"
    (path / "chat_template.jinja").write_text(template)
    config = json.loads((path / "config.json").read_text())
    config["pad_token_id"] = tokenizer.token_id("<|end|>")
    (path / "config.json").write_text(json.dumps(config))
    _, judge = open_judge(f"reward={path}")
    (verdict,) = judge(SAID[:1])
    assert judge.pad == tokenizer.token_id("<|end|>")
    assert verdict["score"] == pytest.approx(numbers(judge, SAID[0])[0], rel=1e-4)


WRONG = {
    "no classifier": (dict(architectures=["LlamaForCausalLM"]), "got 'LlamaForCausalLM'"),
    "no head": (dict(drop=True), "got 'no tensor score.weight'"),
    "labels": (dict(labels=("good", "bad")), "got 'labels good, bad'"),
    "two harms": (dict(labels=("toxic", "harmful")), "got 'labels toxic, harmful'"),
    "other count": (
        dict(id2label={"0": "safe", "1": "unsafe"}),
        "tensor score.weight: got [1, 32]",
    ),
    "no numbers": (dict(id2label={"x": "safe"}), "config.json id2label"),
    "no architecture": (dict(architectures=None), "got 'no architecture'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_classifier_is_one_line(tmp_path, case):
    changes, words = WRONG[case]
    with pytest.raises(UsageError) as error:
        open_judge(f"reward={classifier(tmp_path, **changes)}")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_no_place_no_template_no_orientation(tmp_path):
    with pytest.raises(UsageError, match="reward=WHERE"):
        open_judge("reward")
    path = classifier(tmp_path)
    with pytest.raises(UsageError, match="orientation: got 'up'"):
        reward.open_reward(str(path), orientation="up")
    (path / "chat_template.jinja").unlink()
    with pytest.raises(UsageError, match="chat_template"):
        open_judge(f"reward={path}")


def test_a_classifier_is_still_no_language_model(tmp_path):
    with pytest.raises(UsageError, match=r"missing tensors: lm_head|unknown tensors: score"):
        hf.load(classifier(tmp_path))
