"""Which rule an ATen operation follows. One without a rule is never guessed at: the tracer pins all its tensors."""

from __future__ import annotations

import torch

from modeconn_core.symmetry import arithmetic, shapes
from modeconn_core.symmetry.call import RULES, Rule

__all__ = ["arithmetic", "rule_for", "shapes"]


def rule_for(func: torch._ops.OpOverload) -> Rule | None:
    """The rule of an operator, in-place and functional forms alike; None if there is none."""
    name = func._schema.name
    if not name.startswith("aten::"):
        return None
    base = name.removeprefix("aten::")
    for candidate in (base, base.removesuffix("_")):
        if candidate in RULES:
            return RULES[candidate]
    return arithmetic.pointwise if torch.Tag.pointwise in func.tags else None
