"""Write a copy of a parent in the base's order and scales, and prove that it is the same model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from search.problems import Invalid
from search.spec import BASE
from workers.checkpoints.parents import Parents
from workers.checkpoints.writing import Files, write_checkpoint
from workers.doctor.diagnosis import Diagnosis, Examination, Read
from workers.doctor.matching import Order, orders
from workers.doctor.rescaling import Scale, unfolded, unscaled
from workers.doctor.sites import Heads, Site, sites
from workers.doctor.verdicts import refusals
from workers.messages import Zoo

# Of the spread of the logits, by the dtype that weights are stored in. Another model differs by
# about 1; a scaled one by as much as its weights are rounded.
_TOLERANCES = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 5e-2}
# Three kinds of changes are undone one after the other, and then nothing may be left.
_ROUNDS = 4
_PROBES, _LENGTH = 2, 16
_STRIDE = 7919  # a prime: the probes run through the whole vocabulary

Change = Order | Scale


class NotAligned(ValueError):
    """A model that cannot be brought near to the base; the message says why."""


@torch.no_grad()
def write_aligned(base: Path, parent: Path, out: Path) -> Files:
    """Write a checkpoint folder of ``parent`` with the order and the scales of ``base``.

    It gets its name only when it computes the same logits as the parent, and nothing that stops a
    merge is left.

    Returns:
        name to (sha256, size in bytes) of every file.

    Raises:
        NotAligned: there is nothing to align, or more was done to the parent than can be undone.
        Invalid: a folder cannot be read.
    """
    with closing(_opened(base)) as ours, closing(_opened(parent)) as theirs:
        shapes = {tensor.name: tensor.shape for tensor in theirs.layout.tensors}
        names = [t.name for t in ours.layout.tensors if shapes.get(t.name) == t.shape]
        heads = Heads.of(theirs.base.config)
        aligned = align(names, partial(ours.tensor, BASE), partial(theirs.tensor, BASE), heads)
        stored = ((name, aligned(name)) for name in theirs.base.tensors)
        tolerance = _TOLERANCES[theirs.base.dtype]
        check = partial(_require_same, parent, tolerance=tolerance)
        return write_checkpoint(out, stored, parent, check=check)


def align(names: Sequence[str], base: Read, parent: Read, heads: Heads | None) -> Read:
    """Read a parent in the base's order and scales.

    In the order in which changes hide each other: norms first, then permutations, then scales.

    Args:
        names: tensors that both have in one shape.
        base: reads the base.
        parent: reads the parent.
        heads: of the attention.

    Raises:
        NotAligned: there is nothing to align, or something that is not undone is left (locks).
    """
    read, start = parent, "it "
    for _ in range(_ROUNDS):
        (found,) = Examination({BASE: base, "parent": read}, heads).walk(names)
        changes = _undone(found, sites(names), base, read, heads)
        if not changes:
            break
        read, start = partial(_changed, changes, read), "even when aligned it "
    if left := "; it ".join(refusals(found)):
        raise NotAligned(f"cannot be aligned: {start}{left}")
    if read is parent:
        raise NotAligned("is in the base's order and scales already")
    return read


def _undone(
    found: Diagnosis, sites: Iterable[Site], base: Read, parent: Read, heads: Heads | None
) -> dict[str, Change]:
    """One step back at every site, where one is possible."""
    changes: dict[str, Change] = {}
    for site in sites:
        kinds = {f.kind for f in found.findings if not set(f.tensors).isdisjoint(site.names)}
        if "folded" in kinds:
            changes |= unfolded(site, base, parent)
        elif kinds & {"permuted_mlp", "permuted_heads"}:
            changes |= orders([site], base, parent, heads)
        elif "scaled" in kinds:
            changes |= unscaled(site, base, parent)
    return changes


def _changed(changes: Mapping[str, Change], read: Read, name: str) -> Tensor:
    return changes[name].apply(read(name)) if name in changes else read(name)


def _opened(folder: Path) -> Parents:
    """A folder by itself, as the base of no parents: every tensor as it is stored."""
    try:
        return Parents(Zoo(str(folder), (), "float32"))
    except Invalid as error:
        raise Invalid(
            [p.model_copy(update={"field": str(folder)}) for p in error.problems]
        ) from None


def _require_same(parent: Path, written: Path, *, tolerance: float) -> None:
    """Compare the logits of two folders.

    Raises:
        NotAligned: they differ.
    """
    before, after = _logits(parent), _logits(written)
    gap = float((before - after).abs().max() / before.std())
    if not gap <= tolerance:
        raise NotAligned(
            f"computes something else once it is aligned (logits differ by {gap:.2g} of their "
            "spread): its architecture couples other tensors than those that were changed"
        )


def _logits(folder: Path) -> Tensor:
    """(probes, length, vocabulary) in float32, of tokens from all over the vocabulary."""
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=False, local_files_only=True
    )
    vocabulary: int = model.config.vocab_size
    tokens = torch.arange(_PROBES * _LENGTH).mul(_STRIDE).remainder(vocabulary)
    logits: Tensor = model.eval()(tokens.view(_PROBES, _LENGTH)).logits
    return logits
