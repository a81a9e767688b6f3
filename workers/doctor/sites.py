"""Which tensors of a model belong together: the attention and the MLP of a layer, from names.

A symmetry of the architecture (the order of neurons or heads, a change of basis inside a head)
changes several tensors at once and the function not at all; a site holds the tensors that it
couples. Architectures with other names, or with fused projections, have no sites.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard

Group = Literal["embed", "qk", "vo", "mlp", "norm", "head", "other"]
GROUPS: tuple[Group, ...] = ("embed", "qk", "vo", "mlp", "norm", "head", "other")

_PART = re.compile(
    r"^(?P<layer>(?:.+\.)?\d+)\.(?P<module>self_attn|attn|attention|mlp|feed_forward)\."
    r"(?P<part>q|k|v|o|gate|up|down)_proj\.(?P<kind>weight|bias)$"
)
_ATTENTION, _MLP = frozenset("qkvo"), frozenset(("gate", "up", "down"))
# What is normalized right before the attention and before the MLP; the first that exists.
_BEFORE_ATTENTION = ("input_layernorm",)
_BEFORE_MLP = ("pre_feedforward_layernorm", "post_attention_layernorm")

_NORM = re.compile(r"norm|\bln_?\w*\.", re.I)
_GROUPS: tuple[tuple[Group, re.Pattern[str]], ...] = (
    ("norm", _NORM),
    ("qk", re.compile(r"\b[qk]_proj\b")),
    ("vo", re.compile(r"\b[vo]_proj\b")),
    ("mlp", re.compile(r"mlp|feed_?forward|ffn|expert|moe|\bfc\d", re.I)),
    ("head", re.compile(r"lm_head|embed_out|^output\b|^score\b", re.I)),
    ("embed", re.compile(r"embed|\bwte\b|\bwpe\b|\bshared\b", re.I)),
)


@dataclass(frozen=True, slots=True)
class Heads:
    """How the rows of q, k and v are divided: ``count`` query heads, ``groups`` of k and v."""

    count: int
    groups: int
    size: int

    @property
    def repeats(self) -> int:
        """Query heads that share a key and a value."""
        return self.count // self.groups

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Heads | None:
        """As config.json says; None where it does not say, or says what cannot be."""
        count = config.get("num_attention_heads")
        groups = config.get("num_key_value_heads") or count
        size, hidden = config.get("head_dim"), config.get("hidden_size")
        if not _is_count(count) or not _is_count(groups) or count % groups:
            return None
        if _is_count(size):
            return cls(count, groups, size)
        if not _is_count(hidden) or hidden % count:
            return None
        return cls(count, groups, hidden // count)


@dataclass(frozen=True, slots=True)
class Site:
    """The attention or the MLP of one layer.

    Args:
        layer: what its names begin with (``model.layers.3``).
        weights: part (q, k, v, o, or gate, up, down) to the name of its matrix; all of them.
        biases: part to the name of its bias, where it has one.
        norm: name of the norm before it, where there is one.
    """

    layer: str
    weights: Mapping[str, str]
    biases: Mapping[str, str] = field(default_factory=dict)
    norm: str | None = None

    @property
    def is_attention(self) -> bool:
        """Or else it is an MLP."""
        return "q" in self.weights

    @property
    def after_norm(self) -> tuple[str, ...]:
        """Parts that read what the norm wrote."""
        return ("q", "k", "v") if self.is_attention else ("gate", "up")

    def of_part(self, part: str) -> list[str]:
        """Names of the matrix and, where there is one, the bias."""
        return [self.weights[part], *([self.biases[part]] if part in self.biases else [])]

    @property
    def names(self) -> tuple[str, ...]:
        """Of every tensor, the norm included."""
        return (*self.weights.values(), *self.biases.values(), *([self.norm] if self.norm else []))


def sites(names: Iterable[str]) -> list[Site]:
    """The sites of a model, in the order of their names; those that lack a matrix are left out."""
    known = set(names)
    found: dict[tuple[str, bool], dict[str, dict[str, str]]] = {}
    for name in sorted(known):
        if (match := _PART.match(name)) is not None:
            key = (match["layer"], match["part"] in _ATTENTION)
            parts = found.setdefault(key, {"weight": {}, "bias": {}})
            parts[match["kind"]][match["part"]] = name
    complete = []
    for (layer, attention), parts in found.items():
        if parts["weight"].keys() == (_ATTENTION if attention else _MLP):
            before = _BEFORE_ATTENTION if attention else _BEFORE_MLP
            spelled = (f"{layer}.{norm}.weight" for norm in before)
            norm = next((name for name in spelled if name in known), None)
            complete.append(Site(layer, parts["weight"], parts["bias"], norm))
    return complete


def group_of(name: str) -> Group:
    """The kind of module that a tensor is part of."""
    return next((group for group, pattern in _GROUPS if pattern.search(name)), "other")


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
