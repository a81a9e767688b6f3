"""A diagnosis in words: why a parent is refused, and what to know of one that is not."""

from __future__ import annotations

import math
from collections.abc import Iterator

from workers.checkpoints.folder import some
from workers.doctor.diagnosis import Diagnosis
from workers.doctor.summary import Finding, Kind

# Share of the parameters that may have turned away for a reason that is not known, and how far:
# below this cosine to the base's an average keeps little of either.
_TOO_MUCH, _LOST = 0.1, 0.7

_LOCKED = (
    "were transformed together, so that it computes what it did and cannot be merged (as MergeLock "
    "does)"
)
_ASK = "ask its publisher for a copy that may be merged"
_ALIGN = "'nichemerge doctor SPEC --realign NAME --out DIR' writes a copy that merges"
# What was done, and what to do about it.
_WORDS: dict[Kind, tuple[str, str]] = {
    "unrelated": (
        "has nothing in common with the base (cosine below 0.3 in nearly all weights, embeddings "
        "included), so it comes from another pre-training, or its weights are disguised",
        "name a model that was fine-tuned from this base",
    ),
    "permuted_mlp": ("has the neurons of its MLPs in another order than the base's", _ALIGN),
    "permuted_heads": ("has its attention heads in another order than the base's", _ALIGN),
    "scaled": ("has rows of up_proj scaled, and columns of down_proj by the inverse", _ALIGN),
    "folded": ("has factors moved between a norm and the projections behind it", _ALIGN),
    "locked_vo": (f"is locked: v_proj and o_proj {_LOCKED}", _ASK),
    "locked_qk": (f"is locked: q_proj and k_proj {_LOCKED}", _ASK),
}


def refusals(diagnosis: Diagnosis) -> Iterator[str]:
    """Why a parent cannot be merged as it is; a sentence for each reason."""
    if broken := [n for n, f in diagnosis.tensors.items() if not math.isfinite(f.model)]:
        yield f"holds NaN or infinite values in {some(broken)}; export it again from training"
    for kind, (what, remedy) in _WORDS.items():
        found = [finding for finding in diagnosis.findings if finding.kind == kind]
        if found:
            yield f"{what}, {_where(found)}; {remedy}"
    turned = _turned(diagnosis)
    if turned > _TOO_MUCH:
        yield (
            f"has turned away from the base in {turned:.0%} of its parameters (cosine below "
            f"{_LOST}: {_far(diagnosis)}), and nothing that is known explains it: it was trained "
            "for very long, from another base, or is disguised. A merge with it would lose both"
        )


def remarks(diagnosis: Diagnosis) -> Iterator[str]:
    """What to know of a parent before merging; none of it stops anything."""
    if diagnosis.whole.equal == diagnosis.whole.size:
        yield "is the base itself, to the last bit; it adds nothing to a merge"
    elif diagnosis.is_no_op:
        yield "is nearly the base itself: no tensor moved by more than 0.0001 of its norm"
    for twin in diagnosis.duplicates:
        yield f"has the same weights as '{twin}', to the last bit; one of them is enough"
    if 0 < _turned(diagnosis) <= _TOO_MUCH or (_far(diagnosis) and not _turned(diagnosis)):
        yield (
            f"is unusually far from the base in {_far(diagnosis)}; long training, or a tensor that "
            "was replaced"
        )


def _where(findings: list[Finding]) -> str:
    names = [name for finding in findings for name in finding.tensors]
    return f"in {some(names)}"


def _far(diagnosis: Diagnosis) -> str:
    """Names of the tensors that are far away without a known reason; empty when there are none."""
    return some(n for f in diagnosis.findings if f.kind == "far" for n in f.tensors)


def _turned(diagnosis: Diagnosis) -> float:
    """Share of the parameters that point elsewhere without a known reason."""
    names = [name for f in diagnosis.findings if f.kind == "far" for name in f.tensors]
    lost = [diagnosis.tensors[name] for name in names if diagnosis.tensors[name].cosine < _LOST]
    return sum(figures.size for figures in lost) / max(1, diagnosis.whole.size)
