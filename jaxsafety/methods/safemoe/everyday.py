"""Answers of daily use, which experts and router learn beside their own data, so that they stay.

The paper (arXiv 2606.00686) has none. With files, `data.domains` and `data.mix` bring such answers.
"""

from __future__ import annotations

from jaxsafety.data.schema import Example
from jaxsafety.protocols import Setting


def answers(setting: Setting, total: int) -> list[Example]:
    """`total` of the organism's, less those whose prompt is measured; none of other settings."""
    if setting.domains is None or not total:
        return []
    measured = {item.messages for b in setting.benchmarks for item in b.items}
    made = setting.domains.everyday(total, setting.seed)
    return [e for e in made if tuple(e.messages[:-1]) not in measured]
