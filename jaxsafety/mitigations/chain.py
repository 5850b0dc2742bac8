"""Several mitigations as one: `chain(a, b)` wraps a's hooks in b's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxsafety.core.errors import bad
from jaxsafety.protocols import Mitigation

NONE = Mitigation()


@dataclass(frozen=True)
class Through:
    """Hooks one after the other: what the first returns goes into the second.

    Equal if its parts are, so a chain made anew still finds the compiled step of an equal stage.
    """

    parts: tuple[Callable[..., Any], ...]

    def __call__(self, x: Any, *rest: Any) -> Any:
        """`x` through all parts; each gets the other arguments as they are."""
        for part in self.parts:
            x = part(x, *rest)
        return x


def chain(*mitigations: Mitigation) -> Mitigation:
    """The mitigations as one, from the inside out.

        chain(a, b).loss(f, share) = b.loss(a.loss(f, share), share)

    and so for `grad`, `update`, `begin`, `after` and `serve`; `extra` is the union, budgets add up.
    It is associative and `Mitigation()` is neutral, up to `==`.

    Args:
      mitigations: any number; none is the neutral one.

    Returns:
      A `Mitigation`.

    Raises:
      UsageError: two that carry something under the same name.

    Example:
      >>> import jaxsafety
      >>> first = jaxsafety.Mitigation(serve=lambda text: text + " politely", budget={"copies": 1})
      >>> second = jaxsafety.Mitigation(serve=lambda text: f"({text})", budget={"copies": 1})
      >>> both = jaxsafety.chain(first, second)
      >>> both.serve("answer"), both.budget
      ('(answer politely)', {'copies': 2})
    """
    hooks = {
        name: _joined(NONE._asdict()[name], [getattr(m, name) for m in mitigations])
        for name in ("loss", "grad", "update", "begin", "after", "serve")
    }
    extra: dict[str, Any] = {}
    budget: dict[str, float] = {}
    for each in mitigations:
        for name, carried in each.extra.items():
            if name in extra:
                raise bad("mitigations", f"two that carry {name!r}", "each of them once")
            extra[name] = carried
        for name, cost in each.budget.items():
            budget[name] = budget.get(name, 0) + cost
    return Mitigation(**hooks, extra=extra, budget=budget)


def _joined(neutral: Any, hooks: list[Any]) -> Any:
    parts = [p for h in hooks for p in (h.parts if isinstance(h, Through) else (h,))]
    parts = [part for part in parts if part is not neutral]
    return Through(tuple(parts)) if len(parts) > 1 else parts[0] if parts else neutral
