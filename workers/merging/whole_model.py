"""Facts about all task vectors of a model together, found by reading it and keeping scalars."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from search.layout import Kind
from workers.merging.merge_method import NotMergeable, Sources, is_finite

# Elements of a tensor that are looked at together: the work buffers of all parents stay small.
_BLOCK = 1 << 20
_DIGIT = 16
_BINS = 1 << _DIGIT


def finite_deltas(sources: Sources) -> Tensor:
    """(parents, *shape) task vectors of a tensor.

    Raises:
        NotMergeable: an element is not finite. Comparisons would take it for something small.
    """
    deltas = sources.deltas()
    if not is_finite(deltas):
        pairs = zip(sources.labels, deltas, strict=True)
        wrong = next(label for label, delta in pairs if not delta.isfinite().all())
        raise NotMergeable(f"'{sources.name}' of parent '{wrong}' or of the base is not finite")
    return deltas


def blocks(tensors: Iterable[Sources]) -> Iterator[Sources]:
    """The same tensors, flattened and cut into parts of bounded size."""
    for sources in tensors:
        base, *parents = (t.reshape(-1) for t in (sources.base, *sources.parents))
        for start in range(0, base.numel(), _BLOCK):
            part = slice(start, start + _BLOCK)
            yield replace(
                sources,
                base=base[part],
                parents=[parent[part] for parent in parents],
                start=sources.start + start,
            )


# (parents, *shape) of what is merged of a tensor, or of a part of one: its task vectors, or what is
# left of them.
Deltas = Callable[[Sources], Tensor]


def by_element(
    sources: Sources,
    rows: int,
    function: Callable[[Tensor], Tensor],
    deltas: Deltas = finite_deltas,
) -> tuple[Tensor, ...]:
    """Tensors whose elements follow from those of the task vectors at the same place.

    Args:
        sources: a tensor of the model.
        rows: how many tensors the function gives.
        function: from (parents, elements) task vectors to (rows, elements).
        deltas: what is left of them.
    """
    made = torch.empty(
        (rows, sources.base.numel()), dtype=sources.dtype, device=sources.base.device
    )
    first = sources.start
    for part in blocks([sources]):
        start = part.start - first
        made[:, start : start + part.base.numel()] = function(deltas(part))
    return tuple(row.view(sources.base.shape) for row in made)


def order_statistics(
    values: Callable[[], Iterable[Tensor]], ranks: Sequence[Sequence[int]], *, dtype: torch.dtype
) -> list[list[float]]:
    """Exact order statistics of more values than fit in memory.

    A radix selection: bit patterns that are ordered like the numbers are counted by their leading
    16 bits, then, among those that share the leading bits of the one that is looked for, by the
    next 16. Float32 takes two passes over the values, float64 four.

    Args:
        values: gives the same (rows, elements) parts at every call.
        ranks: for each row the places that are asked for, counted from 0 at the smallest.
        dtype: float32, or float64 if any part has that.

    Returns:
        for each row its values at those places; without values, numbers of no meaning.
    """
    bits = 64 if dtype == torch.float64 else 32
    prefixes = [[0] * len(places) for places in ranks]
    remaining = [list(places) for places in ranks]
    for shift in range(bits - _DIGIT, -1, -_DIGIT):
        counts = _counted(values, prefixes, shift, bits)
        for row, places in enumerate(remaining):
            for i, place in enumerate(places):
                digit, below = _bin_of(counts[row][prefixes[row][i]], place)
                prefixes[row][i] = (prefixes[row][i] << _DIGIT) | digit
                places[i] = place - below
    return [[_number(prefix, bits) for prefix in row] for row in prefixes]


def thresholds(
    sources: Sources,
    density: float | Sequence[float],
    kinds: tuple[Kind, ...] = get_args(Kind),
    deltas: Deltas = finite_deltas,
) -> tuple[float, ...]:
    """For each parent the magnitude from which on entries are among its largest in the model.

    As the program of the TIES paper has it, the k-th smallest of d with k = d - floor(d * density):
    floor(d * density) + 1 entries reach it, and more where some equal it.

    Args:
        sources: any tensor of the model.
        density: fraction of all entries, in (0, 1], of every parent or of each; every entry reaches
            the threshold at 1.
        kinds: of the tensors that count.
        deltas: what is left of the task vectors.
    """
    tensors = [tensor for tensor in sources.model() if tensor.kind in kinds]
    size = sum(tensor.base.numel() for tensor in tensors)
    fractions = density if isinstance(density, Sequence) else [density] * len(sources.parents)
    places = [size - int(size * fraction) - 1 for fraction in fractions]
    if max(places) < 0:
        return (0.0,) * len(places)
    rows = order_statistics(
        lambda: (deltas(part).abs_() for part in blocks(tensors)),
        [[max(place, 0)] for place in places],
        dtype=common_dtype(tensors),
    )
    return tuple(
        threshold if place >= 0 else 0.0 for place, (threshold,) in zip(places, rows, strict=True)
    )


def common_dtype(tensors: Iterable[Sources]) -> torch.dtype:
    """Float64 where any tensor's sums are taken in it, else float32."""
    wide = any(tensor.dtype == torch.float64 for tensor in tensors)
    return torch.float64 if wide else torch.float32


def largest_mask(values: Tensor, count: int) -> Tensor:
    """Where the ``count`` largest values are; of equal ones those of lowest flat index win.

    Args:
        values: any shape, at least one element.
        count: at least 1.
    """
    flat = values.reshape(1, -1)
    if count >= flat.shape[1]:
        return torch.ones_like(values, dtype=torch.bool)
    ((threshold,),) = order_statistics(lambda: [flat], [[flat.shape[1] - count]], dtype=flat.dtype)
    above, tied = flat > threshold, flat == threshold
    places = count - int(above.count_nonzero())
    return (above | (tied & (tied.cumsum(1) <= places))).view(values.shape)


def _counted(
    values: Callable[[], Iterable[Tensor]], prefixes: list[list[int]], shift: int, bits: int
) -> list[dict[int, Tensor]]:
    """For each row and each prefix: how many values go on with which digit."""
    counts = [{prefix: torch.zeros(_BINS, dtype=torch.int64) for prefix in row} for row in prefixes]
    for part in values():
        keys = _keys(part, bits)
        for row, wanted in enumerate(counts):
            for prefix in wanted:
                inside = keys[row]
                if shift + _DIGIT < bits:
                    inside = inside[(inside >> (shift + _DIGIT)) == _signed(prefix, shift, bits)]
                digits = (inside >> shift) & (_BINS - 1)
                wanted[prefix] += torch.bincount(digits, minlength=_BINS).cpu()
    return counts


def _keys(values: Tensor, bits: int) -> Tensor:
    """Integers whose bit patterns, read without a sign, are ordered like the numbers."""
    if bits == 64:
        pattern, lowest = values.double().view(torch.int64), -(2**63)
    else:
        pattern, lowest = values.view(torch.int32), -(2**31)
    return pattern ^ ((pattern >> (bits - 1)) | lowest)


def _signed(prefix: int, shift: int, bits: int) -> int:
    """The prefix as an arithmetic shift leaves it."""
    width = bits - shift - _DIGIT
    return prefix - (1 << width) if prefix >> (width - 1) else prefix


def _bin_of(counts: Tensor, place: int) -> tuple[int, int]:
    """The bin in which a place lies, and how many values lie in the bins below."""
    upto = counts.cumsum(0)
    digit = min(int(torch.searchsorted(upto, place, right=True)), _BINS - 1)
    return digit, int(upto[digit - 1]) if digit else 0


def _number(key: int, bits: int) -> float:
    top = 1 << (bits - 1)
    pattern = key ^ top if key & top else ~key & (2 * top - 1)
    if bits == 64:
        return float(torch.tensor([pattern - (pattern & top) * 2]).view(torch.float64))
    signed = pattern - (pattern & top) * 2
    return float(torch.tensor([signed], dtype=torch.int32).view(torch.float32))
