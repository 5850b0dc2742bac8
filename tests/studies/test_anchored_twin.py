"""The study's config on a pair: the base, what it was before alignment, and the arms for both."""

from pathlib import Path

from jaxsafety.core.config import load_config, typed
from jaxsafety.studies.anchored import config
from jaxsafety.studies.anchored.config import AnchoredConfig


def test_a_twin_is_the_base_and_what_it_was(root):
    file = f"{root}/configs/anchored/organism.py"
    plain, given = load_config(file), load_config(f"{file}:twin=runs/pair")
    assert not plain.model.path and not plain.method.unaligned
    assert given.model.path == str(Path("runs/pair/aligned"))
    assert given.method.unaligned == str(Path("runs/pair/unaligned"))
    assert given.method.arms == (*plain.method.arms, "safelora", "resta")
    known = typed(AnchoredConfig, given.method)
    assert not any(config.lacks(known, point) for point in config.arms(known))
