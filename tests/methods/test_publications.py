"""What differs from a publication: computed from the config as it is, told in log and report."""

from __future__ import annotations

import json

import pytest

from jaxsafety.core import config as configs
from jaxsafety.core.errors import UsageError
from jaxsafety.experiment import record
from jaxsafety.methods import published
from jaxsafety.methods.published import MISSING, OneOf, Published
from jaxsafety.methods.safemoe import published as safemoe
from jaxsafety.methods.safesteer import published as safesteer
from jaxsafety.methods.safesteer import recipe
from jaxsafety.report import html
from jaxsafety.report.load import Run

SAFESTEER = ("llama3_2_3b", "llama3_8b", "qwen2_5_7b", "qwen3_4b")
# No setting tells these.
ALWAYS = {"end of turn", "ties of the vote"}
LLAMAS = {"begin of text in rollouts"}


@pytest.fixture
def load(root):
    """A preset's config by its path under configs, with overrides."""

    def of(spec, *overrides):
        return configs.load_config(str(root / "configs" / spec), overrides)

    return of


def config_differences(config):
    return {"safesteer": safesteer, "safemoe": safemoe}[config.program].differences


def differing(find, config):
    return {d.field for d in find(configs.plain(config)) if d.published is not None}


@pytest.mark.parametrize("name", SAFESTEER)
def test_presets_of_published_models_differ_in_no_setting(load, name):
    config = load(f"safesteer/{name}.py")
    record.typed(config)  # and every one is allowed
    want = ALWAYS | (LLAMAS if name.startswith("llama") else set())
    want |= {"date lines in training"} if name == "llama3_2_3b" else set()
    assert differing(safesteer.differences, config) == want


def test_the_presets_are_what_was_published(load):
    """By value, not by the table that they are made from."""
    qwen, llama = load("safesteer/qwen3_4b.py"), load("safesteer/llama3_8b.py")
    direction = qwen.method.direction
    assert direction.opener_ids == (40, 2121, 2753, 2132) and direction.openers == ()
    assert load("safesteer/qwen2_5_7b.py").method.direction.opener_ids[2:] == (7931, 11200)
    assert llama.method.direction.openers == ("I",) and llama.method.direction.opener_ids == ()
    for config, lr, horizon, floor in ((qwen, 1e-5, 7, 1e-8), (llama, 1e-6, 5, 1e-7)):
        votes = config.method.tokens.votes
        assert (config.optim.lr, votes.horizon, votes.floor) == (lr, horizon, floor)
        assert (votes.size, votes.top, votes.samples) == (50, 200, 8)
        assert config.method.tokens.prompts == "kept" and config.method.direction.minimum == 1
        assert config.method.direction.fallback == "error"
        assert config.method.direction.system == "none"
        assert (config.method.max_prompt, config.method.max_tokens) == (512, 512)
        assert (config.optim.warmup, config.optim.warmup_rule) == (0.1, "transformers")
        assert (config.model.dtype, config.train.master) == ("bfloat16", "bfloat16")


def test_nothing_was_published_for_another_family(load):
    with pytest.raises(UsageError, match=r"^model\.shape: got 'gemma3-1b'; allowed: a model of"):
        recipe.set_published(load("safesteer/qwen3_4b.py"), "gemma3-1b")


def test_an_override_is_listed_and_gone_when_it_is_set_back(load):
    spec = "safesteer/qwen3_4b.py"
    for override, field in (
        ("train.master=float32", "train.master"),
        ("method.direction.opener_ids=40,2121", "method.direction.opener_ids"),
        ("method.direction.select.coefficients=1.0,2.0", "method.direction.select.coefficients"),
        ("seed=7", "seed"),
    ):
        assert differing(safesteer.differences, load(spec, override)) == ALWAYS | {field}
    assert differing(safesteer.differences, load(spec, "seed=42")) == ALWAYS
    both = load(spec, "method.tokens.prompts=all")  # what the paper's text says
    assert differing(safesteer.differences, both) == ALWAYS


def test_the_organism_s_paper_preset_says_what_it_is_not(load):
    config = load("safesteer/organism.py:preset=adapted")
    found = differing(safesteer.differences, config)
    assert {"data.wrapped", "method.tokens.votes.size", "optim.lr", "optim.warmup_rule"} <= found
    assert not {"method.variant", "method.direction.select.criterion"} & found
    plain = load("safesteer/organism.py:preset=adapted", "data.wrapped=0.0")
    assert found - differing(safesteer.differences, plain) == {"data.wrapped"}


def test_routers_and_experts_of_published_models(load):
    for name in ("mistral_7b", "qwen2_5_3b"):
        router, expert = load(f"safemoe/{name}_router.py"), load(f"safemoe/{name}.py")
        for config, find in ((router, safemoe.differences), (expert, safemoe.of_expert)):
            record.typed(config)
            assert config.model.template == "raw" and differing(find, config) == set()
    four = load("safemoe/mistral_7b_router.py", "method.experts.paths=a,b,c,d")
    assert differing(safemoe.differences, four) == set()  # SafeMoE-4
    two = load("safemoe/mistral_7b_router.py", "method.experts.paths=a,b", "model.template=")
    rows = {d.field: d for d in safemoe.differences(configs.plain(two)) if d.published is not None}
    assert set(rows) == {"method.experts.count", "model.template"}
    assert rows["method.experts.count"][1:3] == ("4 or 10 or 18", "2")


def test_values_in_print_and_settings_that_are_missing():
    rows = (
        Published("a.b", OneOf((1, 2.5)), "why"),
        Published("a.c", ("x",)),
        Published("words", "one", here="all"),
        Published("a.d", None),
        Published("a.e", 3, read=lambda config: None),
    )
    found = published.differences(rows, {"a": {"b": 3, "c": ["x"], "d": ""}})
    assert found == [
        ("a.b", "1 or 2.5", "3", "why"),
        ("words", "one", "all", ""),
        ("a.d", None, "none", ""),
    ]
    older = published.differences(rows, {"a": {"b": 1}})
    assert ("a.c", "x", MISSING, "") in older and ("a.d", None, MISSING, "") in older


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        ("safesteer/organism.py:preset=adapted", "method.tokens.votes.horizon"),
        ("safemoe/organism.py:preset=adapted", "method.routing.top"),
    ],
)
def test_log_and_report_list_them(load, tmp_path, spec, shown):
    config = load(spec)
    (tmp_path / "config.json").write_text(json.dumps(configs.plain(config)))
    page = html.render(Run(tmp_path)).replace("<wbr>", "")
    assert "Differences from the publication" in page
    lines = record.differences(config)
    listed = [line for line in lines if line.startswith("not as published: ")]
    find = config_differences(config)
    assert len(listed) == len(differing(find, config)) > 5
    assert any(line.startswith(f"not as published: {shown} = ") for line in listed)
    for field in differing(find, config):
        assert f"<code>{field}</code>" in page
    assert lines[-1].startswith("not given by the publication: ")
    assert record.differences(load("sft/organism.py")) == []
