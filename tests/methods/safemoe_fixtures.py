"""What SafeMoE's tests stand on: a random organism whose base is unaligned, and a context on it."""

import pytest

from jaxsafety.organism.world import open_world
from jaxsafety.testing import random_organism
from tests.methods import tiny


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return random_organism(tmp_path_factory.mktemp("organism"), unaligned=True)


@pytest.fixture
def ctx(directory, tmp_path):
    made = tiny.context(directory, tmp_path)
    return tiny.placed(made, world=open_world(directory))
