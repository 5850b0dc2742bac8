"""One world of the default sizes, its judge and its tokenizer, shared by these tests."""

from __future__ import annotations

import pytest

from jaxsafety.data.tokens.tokenizer import load_tokenizer
from jaxsafety.organism import gold, lexicon
from jaxsafety.organism.mixture import MixtureConfig, example
from jaxsafety.organism.world import WorldConfig, make_world

EXAMPLES = 3000


@pytest.fixture(scope="session")
def world():
    return make_world(WorldConfig(seed=3))


@pytest.fixture(scope="session")
def judge(world):
    return gold.Judge(world)


@pytest.fixture(scope="session")
def tokenizer(world, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tokenizer")
    lexicon.write_tokenizer(world, directory)
    return load_tokenizer(directory)


@pytest.fixture(scope="session")
def examples(world):
    """The first 3000 examples of a training stream."""
    return [example(world, MixtureConfig(), 0, index) for index in range(EXAMPLES)]
