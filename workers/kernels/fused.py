"""Loops over all weights that touch memory once, compiled for the processor at hand.

A candidate is limited by how fast memory can be read; whatever leaves the registers between two
steps of the formula costs as much again. So every step is in one loop, and the loop names each
parent by itself: only then does the compiler vectorize it. Its text is therefore made for a number
of parents, and compiled (LLVM, half a second) when it is first needed.

These loops compute what the tensor expressions of ``weighted_sum`` and ``task_vectors`` compute,
bit by bit; those serve other devices, other dtypes, and tensors too small to pay for a compilation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.kernels.noise import BLOCK

# Below this a compiled loop saves less than a compilation costs in a whole search.
_WORTHWHILE = 1 << 17
# Returns the bits of the largest magnitude that it wrote.
Kernel = Callable[..., int]

# Bits of the smallest magnitudes that are not finite any more once they are stored.
_INFINITE = {torch.float32: 0x7F800000, torch.bfloat16: 0x7F7F8000}


class NotFinite(ArithmeticError):
    """A merged tensor holds an infinity or a NaN."""


def fits(out: Tensor, tensors: Sequence[Tensor]) -> bool:
    """Whether the loops serve these tensors: on the CPU, contiguous, float32 or bfloat16."""
    return out.numel() >= _WORTHWHILE and all(
        tensor.device.type == "cpu"
        and tensor.is_contiguous()
        and tensor.dtype in (torch.float32, torch.bfloat16)
        for tensor in (out, *tensors)
    )


def run(kernel: Kernel, arrays: Sequence[Tensor], scalars: Sequence[object]) -> None:
    """Call ``kernel(first, *arrays, *scalars)``, the arrays cut among torch's threads.

    Args:
        kernel: from below; ``first`` is where its piece of the arrays begins.
        arrays: flat, all of one length.
        scalars: float32 and whole numbers of NumPy, so that the kernel is compiled once.

    Raises:
        NotFinite: something that was written is not finite.
    """
    views = [_view(tensor) for tensor in arrays]
    size, threads = views[0].size, torch.get_num_threads()
    step = -(-size // threads // BLOCK) * BLOCK
    if threads == 1 or size < _WORTHWHILE:
        step = size
    pieces = [
        (low, *(view[low : low + step] for view in views), *scalars) for low in range(0, size, step)
    ]
    jobs = [_pool().submit(kernel, *piece) for piece in pieces[1:]]
    highest = max(kernel(*pieces[0]), *(job.result() for job in jobs), 0)
    if highest >= _INFINITE[arrays[0].dtype]:
        raise NotFinite


@functools.cache
def linear(count: int) -> Kernel:
    """``out = sum of c[k] * x[k]``, in order, with one rounding for each term after the first.

    The kernel takes (first, out, x0.., c0..).
    """
    terms = "".join(f"        t = fma(load(x{k}[i]), c{k}, t)\n" for k in range(1, count))
    return _compile(
        f"""
def kernel(first, out, {_lists("xc", count)}):
    top = uint32(0)
    for i in range(out.size):
        t = load(x0[i]) * c0
{terms}        store(out, i, t)
        top = higher(top, t)
    return top
"""
    )


@functools.cache
def band(count: int, *, vote: bool, normalize: bool) -> Kernel:
    """Entries of task vectors with ``low[k] < magnitude <= high[k]``.

    The kernel takes (first, out, b, x0.., s0.., w0.., limits, cuts, factor): from ``cuts[j]`` to
    ``cuts[j + 1]`` the lows are ``limits[j, :n]``, the highs ``limits[j, n:]``.
    """
    keep = "".join(
        f"        v{k} = d{k} * s{k} if l{k} < abs(d{k}) <= h{k} else zero\n" for k in range(count)
    )
    return _sparse(count, keep, "lh", vote, normalize)


@functools.cache
def top(count: int, *, vote: bool, normalize: bool) -> Kernel:
    """As ``band``, without highs."""
    keep = "".join(
        f"        v{k} = d{k} * s{k} if abs(d{k}) > l{k} else zero\n" for k in range(count)
    )
    return _sparse(count, keep, "l", vote, normalize)


@functools.cache
def chosen(count: int, *, vote: bool, normalize: bool) -> Kernel:
    """Entries of task vectors whose draw is below ``l[k]`` (see ``workers.kernels.noise``).

    The kernel takes (first, out, b, x0.., s0.., w0.., l0.., factor, offset, key, k0..): the keys
    are pairs of words, ``offset`` is the place of the arrays in their tensor, an even number.
    """
    keep = "".join(
        f"        v{k} = d{k} * s{k} if u{k}[i] < l{k} else zero\n" for k in range(count)
    )
    return _drawn(count, keep, "l", vote, normalize)


@functools.cache
def ranked(count: int, *, vote: bool, normalize: bool, unbiased: bool) -> Kernel:
    """As ``chosen``, where the probability of an entry is ``l[k] + r[k][i] * m[k]``.

    The kernel takes (first, out, b, x0.., r0.., s0.., w0.., l0.., m0.., factor, offset, key, k0..);
    ``unbiased`` divides a kept entry by its probability.
    """
    keep = ""
    for k in range(count):
        kept = f"d{k} / p{k} * s{k}" if unbiased else f"d{k} * s{k}"
        keep += f"        p{k} = float32(r{k}[i]) * m{k} + l{k}\n"
        keep += f"        v{k} = {kept} if float32(u{k}[i]) * UNIT < p{k} else zero\n"
    return _drawn(count, keep, "lm", vote, normalize, ranks=True)


def _sparse(count: int, keep: str, limits: str, vote: bool, normalize: bool) -> Kernel:
    """Sparse task vectors, weighted, voted on and summed; ``keep`` makes ``v{k}`` of ``d{k}``."""
    arrays, scalars = _lists("x", count), _lists("sw", count)
    loop = _compile(
        f"def kernel(out, b, {arrays}, {scalars}, {_lists(limits, count)}, factor):\n"
        + _loop(count, keep, vote=vote, normalize=normalize)
    )
    cut = ", ".join(f"x{k}[low:high]" for k in range(count))
    here = ", ".join(f"limits[span, {column}]" for column in range(count * len(limits)))
    return _compile(
        f"""
def kernel(first, out, b, {arrays}, {scalars}, limits, cuts, factor):
    top = uint32(0)
    for span in range(cuts.size - 1):
        low, high = max(cuts[span] - first, 0), min(cuts[span + 1] - first, out.size)
        if low < high:
            part = loop(out[low:high], b[low:high], {cut}, {scalars}, {here}, factor)
            top = part if part > top else top
    return top
""",
        loop=loop,
    )


def _drawn(
    count: int, keep: str, limits: str, vote: bool, normalize: bool, *, ranks: bool = False
) -> Kernel:
    """As ``_sparse``, where ``keep`` reads draws ``u{k}``, made block by block."""
    arrays = "xr" if ranks else "x"
    scalars = _lists("sw" + limits, count)
    loop = _compile(
        f"def kernel(out, b, {_lists(arrays, count)}, {_lists('u', count)}, {scalars}, factor):\n"
        + _loop(count, keep, vote=vote, normalize=normalize)
    )
    buffers = "".join(f"    n{k} = empty(BLOCK // 2, uint32)\n" for k in range(count))
    fill = "".join(f"            n{k}[j] = own(x, k{k})\n" for k in range(count))
    keys = f"key, {_lists('k', count)}"
    cut = ", ".join(f"{name}{k}[low:high]" for name in arrays for k in range(count))
    drawn = ", ".join(f"n{k}.view(uint16)" for k in range(count))
    return _compile(
        f"""
def kernel(first, out, b, {_lists(arrays, count)}, {scalars}, factor, offset, {keys}):
{buffers}    top = uint32(0)
    for low in range(0, out.size, BLOCK):
        high = min(low + BLOCK, out.size)
        place = uint32((first + offset + low) // 2)
        for j in range((high - low + 1) // 2):
            x = shared(place + uint32(j), key)
{fill}        part = loop(out[low:high], b[low:high], {cut}, {drawn}, {scalars}, factor)
        top = part if part > top else top
    return top
""",
        loop=loop,
    )


def _loop(count: int, keep: str, *, vote: bool, normalize: bool) -> str:
    """Lines that elect signs where asked, sum what agrees, and add it to the base."""
    every = range(count)
    lines = ["    top = uint32(0)", "    for i in range(out.size):", "        b_ = load(b[i])"]
    lines += [f"        d{k} = load(x{k}[i]) - b_" for k in every]
    lines += [keep.rstrip(), f"        t = {' + '.join(f'v{k}' for k in every)}"]
    if vote:
        lines += ["        sign = bits(t) & SIGN"]
        lines += [f"        a{k} = real(bits(v{k}) ^ sign)" for k in every]
        agreeing = [f"(a{k} if a{k} > zero else zero)" for k in every]
        lines += [f"        t = {' + '.join(agreeing)}"]
        if normalize:
            weights = [f"(w{k} if a{k} > zero else zero)" for k in every]
            lines += [f"        e = {' + '.join(weights)}"]
            lines += ["        t = t / (e if abs(e) >= LEAST else one)"]
        lines += ["        t = real(bits(t) ^ sign)"]
    lines += ["        t = b_ + factor * t", "        store(out, i, t)"]
    lines += ["        top = higher(top, t)", "    return top"]
    return "\n".join(lines) + "\n"


def _lists(names: str, count: int) -> str:
    """``x0, x1, s0, s1`` of ``xs``."""
    return ", ".join(f"{name}{k}" for name in names for k in range(count))


def _compile(text: str, *, loop: Kernel | None = None, **options: Any) -> Kernel:
    # Late: numba takes half a second, and small models never need it.
    import numba

    from workers.kernels import registers

    scope: dict[str, Any] = {**vars(registers), "loop": loop}
    exec(text, scope)  # noqa: S102 - the text is made above, from whole numbers alone
    kernel: Kernel = numba.njit(nogil=True, error_model="numpy", **options)(scope["kernel"])
    return kernel


def _view(tensor: Tensor) -> NDArray[Any]:
    flat = tensor.detach().view(-1)
    if flat.dtype == torch.bfloat16:
        return flat.view(torch.int16).numpy().view(np.uint16)
    array: NDArray[Any] = flat.numpy()
    return array


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="merge")
