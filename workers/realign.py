"""Write a copy of a parent in the base's order, and prove that it is the same model."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from search.problems import Invalid
from search.spec import BASE
from workers.diagnosis import Examination, Read
from workers.matching import Order, orders
from workers.messages import Zoo
from workers.parents import Parents
from workers.sites import Heads, sites
from workers.verdicts import refusals
from workers.writing import Files, write_checkpoint

# Of the spread of the logits. Sums in another order differ by about 1e-6 of it in float32; another
# model by about 1.
_TOLERANCE = 1e-3
_PROBES, _LENGTH = 2, 16
_STRIDE = 7919  # a prime: the probes run through the whole vocabulary


class NotAligned(ValueError):
    """A model that cannot be put into the base's order; the message says why."""


@torch.no_grad()
def write_aligned(base: Path, parent: Path, out: Path) -> Files:
    """Write a checkpoint folder with the neurons and heads of ``parent`` in the order of ``base``.

    It gets its name only when it computes the same logits as the parent, and nothing that stops a
    merge is left.

    Returns:
        name to (sha256, size in bytes) of every file.

    Raises:
        NotAligned: there is nothing to put in order, or more was done to the parent than that.
        Invalid: a folder cannot be read.
    """
    with closing(_opened(base)) as ours, closing(_opened(parent)) as theirs:
        heads, names = Heads.of(theirs.base.config), _shared_names(ours, theirs)
        before: Read = partial(theirs.tensor, BASE)
        found = _orders(names, partial(ours.tensor, BASE), before, heads)

        def aligned(name: str) -> Tensor:
            return found[name].apply(before(name)) if name in found else before(name)

        models = {BASE: partial(ours.tensor, BASE), "parent": aligned}
        (after,) = Examination(models, heads).walk(names)
        if left := "; it ".join(refusals(after)):
            raise NotAligned(f"cannot be put in the base's order: even then it {left}")
        stored = ((name, aligned(name)) for name in theirs.base.tensors)
        return write_checkpoint(out, stored, parent, check=lambda written: _same(parent, written))


def _orders(names: list[str], base: Read, parent: Read, heads: Heads | None) -> dict[str, Order]:
    """The order of every tensor that the diagnosis finds permuted.

    Raises:
        NotAligned: there are none.
    """
    (found,) = Examination({BASE: base, "parent": parent}, heads).walk(names)
    permuted = {n for f in found.findings if f.kind.startswith("permuted") for n in f.tensors}
    if not permuted:
        reasons = "; it ".join(refusals(found))
        raise NotAligned(reasons or "has its neurons and heads in the base's order already")
    changed = [site for site in sites(names) if not permuted.isdisjoint(site.names)]
    return orders(changed, base, parent, heads)


def _opened(folder: Path) -> Parents:
    """A folder by itself, as the base of no parents: every tensor as it is stored."""
    try:
        return Parents(Zoo(str(folder), (), "float32"))
    except Invalid as error:
        raise Invalid(
            [p.model_copy(update={"field": str(folder)}) for p in error.problems]
        ) from None


def _shared_names(ours: Parents, theirs: Parents) -> list[str]:
    """Tensors that both have in one shape."""
    shapes = {tensor.name: tensor.shape for tensor in theirs.layout.tensors}
    return [t.name for t in ours.layout.tensors if shapes.get(t.name) == t.shape]


def _same(parent: Path, written: Path) -> None:
    """Compare the logits of two folders.

    Raises:
        NotAligned: they differ.
    """
    before, after = _logits(parent), _logits(written)
    gap = float((before - after).abs().max() / before.std())
    if not gap <= _TOLERANCE:
        raise NotAligned(
            f"computes something else in the base's order (logits differ by {gap:.2g} of their "
            "spread): its architecture couples other tensors than those that were permuted"
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
