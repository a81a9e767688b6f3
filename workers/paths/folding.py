"""Scales of hidden states as ordinary weights.

A block that adds to the hidden state what it makes of the normalized hidden state, adds the same
whatever the state was multiplied with before. So instead of multiplying the state that enters layer
t by w_t, what layer t adds can be divided by the product of w_1 to w_t: every state is then smaller
by that product, and the final norm takes it out again. Exact but for the epsilon of the norms. The
scales are those of Akiba et al. 2024 (arXiv:2403.13187), one for each step of a path and not for
each pair of layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# Architectures whose layers normalize what they read and add what they find, by what they write
# with: the last projections of attention and MLP ...
_BY_PROJECTIONS = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "phi", "gpt2", "opt"}
)
_PROJECTIONS = re.compile(r"(^|\.)(o_proj|out_proj|down_proj|c_proj|dense|fc2)\.(weight|bias)$")
# ... or the norms behind them, whose weights are what is above 1.
_BY_NORMS = frozenset({"gemma2", "gemma3_text"})
_NORMS = re.compile(r"^(post_attention|post_feedforward)_layernorm\.weight$")


@dataclass(frozen=True, slots=True)
class Change:
    """A tensor times ``factor``, plus ``shift``."""

    factor: float
    shift: float = 0.0


def obstacle(config: Mapping[str, Any]) -> str | None:
    """Why scales cannot be weights of an architecture; None where they can."""
    kind = config.get("model_type")
    if kind == "opt" and not config.get("do_layer_norm_before", True):
        return "this 'opt' normalizes behind each block: a scale of its input is lost there"
    if kind in _BY_PROJECTIONS | _BY_NORMS:
        return None
    known = ", ".join(sorted(_BY_PROJECTIONS | _BY_NORMS))
    return (
        f"scales of hidden states cannot be folded into weights of '{kind}', as far as is known; "
        f"leave scales out, or take one of {known}"
    )


def folded(parts: Iterable[str], product: float) -> dict[str, Change]:
    """What becomes of a layer's tensors when all that it adds is divided by ``product``."""
    found = tuple(parts)
    factor = 1.0 / product
    if "post_feedforward_layernorm.weight" in found:
        return {part: Change(factor, factor - 1.0) for part in found if _NORMS.search(part)}
    return {part: Change(factor) for part in found if _PROJECTIONS.search(part)}
