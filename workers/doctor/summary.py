"""What a diagnosis comes to, in a few plain lines: for the log, for programs and on screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "unrelated",
    "permuted_mlp",
    "permuted_heads",
    "scaled",
    "folded",
    "locked_vo",
    "locked_qk",
    "far",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was done to these tensors besides fine-tuning."""

    kind: Kind
    tensors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Distance:
    """How far tensors are from the base's; None where the base's are zero.

    Args:
        delta_ratio: norm of the difference by that of the base.
        cosine: between the two.
        norm_ratio: norm of the model by that of the base.
        frozen: share of the elements in tensors that are the base's to the last bit.
    """

    delta_ratio: float | None
    cosine: float | None
    norm_ratio: float | None
    frozen: float


@dataclass(frozen=True, slots=True)
class DiagnosisSummary:
    """What the weights of a parent say.

    Args:
        name: of the parent.
        whole: of the whole model.
        groups: by kind of module: embed, qk, vo, mlp, norm, head, other.
        findings: what was done to its weights besides fine-tuning; empty for an honest one.
        duplicates: parents named before it that have the same weights.
    """

    name: str
    whole: Distance
    groups: dict[str, Distance]
    findings: tuple[Finding, ...] = ()
    duplicates: tuple[str, ...] = ()
