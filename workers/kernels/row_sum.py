"""A weighted sum in which every row, or every column, of a matrix has coefficients of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from workers.kernels.weighted_sum import sum_dtype, write

# The axis along which vectors lie.
Axis = Literal["first", "last"]

# Work buffers of this many elements stay in the second-level cache of a CPU core.
_BLOCK = 1 << 16


def as_rows(tensor: Tensor, axis: Axis) -> Tensor:
    """A tensor of any shape as a matrix.

    Vectors along its last axis are rows, along its first axis columns; a tensor of less than two
    axes is a single vector.
    """
    shape = tensor.shape
    if len(shape) < 2:
        return tensor.reshape((1, -1) if axis == "last" else (-1, 1))
    if axis == "last":
        return tensor.reshape(math.prod(shape[:-1]), shape[-1])
    return tensor.reshape(shape[0], math.prod(shape[1:]))


def weighted_vectors(
    out: Tensor, tensors: Sequence[Tensor], coefficients: Sequence[Tensor], axis: Axis
) -> None:
    """Write the sum of ``coefficients[i] * tensors[i]`` into ``out``, vector by vector.

    Args:
        out: any shape, contiguous; sums are rounded once, to its dtype.
        tensors: as ``out`` in shape, any floating dtype.
        coefficients: for each tensor (v,), one for each vector.
        axis: along which the vectors lie.

    Raises:
        NotFinite: the sum holds an infinity or a NaN.
    """
    dtype = sum_dtype(out)
    target, *terms = (as_rows(tensor, axis) for tensor in (out.detach(), *tensors))
    factors = [c.to(dtype).unsqueeze(1 if axis == "last" else 0) for c in coefficients]
    rows, columns = target.shape
    step = max(1, _BLOCK // max(1, columns)) if out.device.type == "cpu" else max(1, rows)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        here = part if axis == "last" else slice(None)
        total = terms[0][part].to(dtype) * factors[0][here]
        for term, factor in zip(terms[1:], factors[1:], strict=True):
            total.addcmul_(term[part].to(dtype), factor[here])
        write(target[part], total)
