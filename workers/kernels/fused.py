"""Loops over all weights that touch memory once, compiled for the processor at hand.

A candidate is limited by how fast memory can be read; whatever leaves the registers between two
steps of the formula costs as much again. So every step is in one loop, and the loop names each
parent by itself: only then does the compiler vectorize it. Its text is therefore made for a number
of parents, and compiled (LLVM, a second) when it is first needed.

A loop takes two neighbours at a time. In bfloat16 they are one word, whose halves become float32 by
a shift and by a mask, and are put back together by one shuffle; element by element, shuffles would
take most of the time. And two neighbours share the word that their random draws come from.

These loops compute what the tensor expressions of ``weighted_sum`` and ``task_vectors`` compute,
bit by bit; those serve other devices, other dtypes, and tensors too small to pay for a compilation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Below this a loop saves less than its compilation costs in a whole search; one that is compiled
# serves tensors of any size.
_WORTHWHILE = 1 << 17
# Above this a tensor is cut among threads; smaller ones are merged side by side (`Materializer`).
_LARGE = 1 << 22
# Threads take turns at cache lines, and two neighbours stay together, where pieces are of these.
_GRAIN = 1 << 12
# Returns the bits of the largest magnitude that it wrote.
Kernel = Callable[..., int]
Parameters = ParamSpec("Parameters")

# Bits of the smallest magnitudes that are not finite any more once they are stored.
_INFINITE = {torch.float32: 0x7F800000, torch.bfloat16: 0x7F7F8000}

# Of levels of a rank that two elements of two parents have in one byte: so many bits for each.
LEVEL_BITS = 2
PARENTS_PER_BYTE = 8 // (2 * LEVEL_BITS)


class NotFinite(ArithmeticError):
    """A merged tensor holds an infinity or a NaN."""


class Loop:
    """A kernel that is compiled when it is first called.

    Args:
        make: writes and compiles it.
    """

    def __init__(self, make: Callable[[], Kernel]) -> None:
        self._make = make
        self._kernel: Kernel | None = None

    @property
    def ready(self) -> bool:
        """Whether a call costs no compilation."""
        return self._kernel is not None

    def __call__(self, *arguments: object) -> int:
        if self._kernel is None:
            self._kernel = self._make()
        return self._kernel(*arguments)


def _when_called(make: Callable[Parameters, Kernel]) -> Callable[Parameters, Loop]:
    """One loop for equal arguments, compiled when it is called."""
    loops: dict[object, Loop] = {}

    @functools.wraps(make)
    def loop(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Loop:
        key = (args, *kwargs.items())
        if key not in loops:
            loops[key] = Loop(functools.partial(make, *args, **kwargs))
        return loops[key]

    return loop


def rounded(coefficients: Iterable[float]) -> list[np.float32]:
    """As loops take them; what is too large becomes an infinity, which `run` then finds."""
    with np.errstate(over="ignore"):
        return [np.float32(coefficient) for coefficient in coefficients]


def fits(loop: Loop, out: Tensor, tensors: Sequence[Tensor]) -> bool:
    """Whether a loop is to serve tensors: on the CPU, contiguous, float32 or bfloat16."""
    least = 1 if loop.ready else _WORTHWHILE
    return out.numel() >= least and all(
        tensor.device.type == "cpu"
        and tensor.is_contiguous()
        and tensor.dtype in (torch.float32, torch.bfloat16)
        for tensor in (out, *tensors)
    )


def run(kernel: Loop, arrays: Sequence[Tensor], scalars: Sequence[object]) -> None:
    """Call ``kernel(first, *arrays, *scalars)``, large arrays cut among torch's threads.

    Args:
        kernel: from below; ``first`` is where its piece of the arrays begins, an even number.
        arrays: flat, all of one length; the first is written.
        scalars: float32 and whole numbers of NumPy, so that the kernel is compiled once; and
            whatever is not to be cut.

    Raises:
        NotFinite: something that was written is not finite.
    """
    views = [view(tensor) for tensor in arrays]
    size, threads = views[0].size, torch.get_num_threads()
    step = -(-size // threads // _GRAIN) * _GRAIN
    if threads == 1 or size < _LARGE:
        step = size
    pieces = [
        (low, *(whole[low : low + step] for whole in views), *scalars)
        for low in range(0, size, step)
    ]
    jobs = [_pool().submit(kernel, *piece) for piece in pieces[1:]]
    highest = max(kernel(*pieces[0]), *(job.result() for job in jobs), 0)
    if highest >= _INFINITE[arrays[0].dtype]:
        raise NotFinite


@_when_called
def linear(count: int) -> Kernel:
    """``out = sum of c[k] * x[k]``, in order, with one rounding for each term after the first.

    The kernel takes (first, out, x0.., c0..).
    """
    lines = ["t = x0 * c0", *(f"t = fma(x{k}, c{k}, t)" for k in range(1, count))]
    return _one_pass(_names("x", count), _names("c", count), lines)


@_when_called
def clamped() -> Kernel:
    """``x``, but no further than ``t`` from ``b``: the kernel takes (first, out, b, x, t)."""
    lines = ["t = min(max(x, b - t), b + t)"]
    return _one_pass(["b", "x"], ["t"], lines)


@_when_called
def band(count: int, *, vote: bool, normalize: bool) -> Kernel:
    """Entries of task vectors with ``low[k] < magnitude <= high[k]``.

    The kernel takes (first, out, b, x0.., s0.., w0.., limits, cuts, factor): from ``cuts[j]`` to
    ``cuts[j + 1]`` the lows are ``limits[j, :n]``, the highs ``limits[j, n:]``.
    """
    keep = [f"(abs(d{k}) > l{k}) & (abs(d{k}) <= h{k})" for k in range(count)]
    return _by_magnitude(keep, "lh", vote, normalize)


@_when_called
def top(count: int, *, vote: bool, normalize: bool) -> Kernel:
    """As ``band``, without highs."""
    keep = [f"abs(d{k}) > l{k}" for k in range(count)]
    return _by_magnitude(keep, "l", vote, normalize)


@_when_called
def chosen(count: int, *, vote: bool, normalize: bool) -> Kernel:
    """Entries of task vectors whose draw is at most ``l[k]`` (see ``workers.kernels.noise``).

    The kernel takes (first, out, b, x0.., s0.., w0.., l0.., factor, offset, key, k0..): draws are
    the upper halves of 32 bits, hence limits of 32; the keys are pairs of words, ``offset`` is the
    place of the arrays in their tensor, an even number.
    """
    keep = [f"u{k} <= l{k}" for k in range(count)]
    return _by_chance(keep, [f"s{k}" for k in range(count)], [], vote, normalize)


@_when_called
def ranked(count: int, *, vote: bool, normalize: bool) -> Kernel:
    """As ``chosen``, with limits and factors that depend on the level of the entry's rank.

    The kernel takes (first, out, b, x0.., s0.., w0.., l0.., factor, offset, key, k0.., r0..): each
    ``s[k]`` and ``l[k]`` is a tuple with a number for each level, each ``r`` an array of bytes, one
    for two elements of two parents (see ``PARENTS_PER_BYTE``).
    """
    keep = [f"u{k} <= at(l{k}, r{k})" for k in range(count)]
    factors = [f"at(s{k}, r{k})" for k in range(count)]
    levels = []
    for k in range(count):
        byte, place = divmod(k, PARENTS_PER_BYTE)
        even, odd = (
            f"shifted(uint32(r{byte}[j]), {place * 2 * LEVEL_BITS + bits})"
            for bits in (0, LEVEL_BITS)
        )
        levels.append(_Pair(f"r{k}", even, odd))
    return _by_chance(keep, factors, levels, vote, normalize)


@dataclass(frozen=True, slots=True)
class _Pair:
    """A value that two neighbouring elements each have one of; the expressions may use ``j``."""

    name: str
    even: str
    odd: str


def _by_magnitude(keep: Sequence[str], limits: str, vote: bool, normalize: bool) -> Kernel:
    count = len(keep)
    arrays, scalars = _names("x", count), _names("sw", count)
    lines = _task_vectors(keep, [f"s{k}" for k in range(count)], vote=vote, normalize=normalize)
    loop = _one_pass(["b", *arrays], [*scalars, *_names(limits, count), "factor"], lines)
    cut = ", ".join(f"{name}[low:high]" for name in ("out", "b", *arrays))
    here = ", ".join(f"limits[span, {column}]" for column in range(count * len(limits)))
    return _compile(
        f"""
def kernel(first, out, b, {_list(arrays)}, {_list(scalars)}, limits, cuts, factor):
    top = uint32(0)
    for span in range(cuts.size - 1):
        low, high = max(cuts[span] - first, 0), min(cuts[span + 1] - first, out.size)
        if low < high:
            part = loop(0, {cut}, {_list(scalars)}, {here}, factor)
            top = part if part > top else top
    return top
""",
        loop=loop,
    )


def _by_chance(
    keep: Sequence[str],
    factors: Sequence[str],
    levels: Sequence[_Pair],
    vote: bool,
    normalize: bool,
) -> Kernel:
    count = len(keep)
    keys, bytes_ = _names("k", count), _names("r", -(-len(levels) // PARENTS_PER_BYTE))
    arrays, scalars = ["b", *_names("x", count)], [*_names("swl", count), "factor"]
    drawn = ["y = shared(uint32(place + uint32(j)), key)"]
    drawn += [f"n{k} = own(y, k{k})" for k in range(count)]
    pairs = [_Pair(f"u{k}", f"low_draw(n{k})", f"n{k}") for k in range(count)]
    loop = _one_pass(
        arrays,
        scalars,
        _task_vectors(keep, factors, vote=vote, normalize=normalize),
        unread=["place", "key", *keys, *bytes_],
        before=drawn,
        pairs=[*pairs, *levels],
    )
    given = _list(["out", *arrays, *scalars])
    here = _list(["place", "key", *keys, *(f"{name}[first // 2 :]" for name in bytes_)])
    # The place has 32 bits from the start: the compiler would count with 64.
    return _compile(
        f"""
def kernel(first, {given}, {_list(["offset", "key", *keys, *bytes_])}):
    place = uint32((first + offset) // 2)
    return loop(0, {given}, {here})
""",
        loop=loop,
    )


def _task_vectors(
    keep: Sequence[str], factors: Sequence[str], *, vote: bool, normalize: bool
) -> list[str]:
    """Lines that sparsify, elect signs where asked, sum what agrees, and add it to the base."""
    every = range(len(keep))
    lines = [f"d{k} = x{k} - b" for k in every]
    lines += [f"v{k} = d{k} * {factors[k]} if {keep[k]} else zero" for k in every]
    lines += [f"t = {' + '.join(f'v{k}' for k in every)}"]
    if vote and normalize:
        lines += ["sign = bits(t) & SIGN", "t, e = zero, zero"]
        for k in every:
            lines += [f"a = real(bits(v{k}) ^ sign) > zero"]
            lines += [f"t = t + v{k} if a else t", f"e = e + w{k} if a else e"]
        lines += ["t = t / (e if abs(e) >= LEAST else one)"]
    elif vote:
        lines += [f"z = {' + '.join(f'abs(v{k})' for k in every)}"]
        lines += ["t, factor = t + real(bits(z) | (bits(t) & SIGN)), half * factor"]
    return [*lines, "t = fma(t, factor, b)"]


def _one_pass(
    arrays: Sequence[str],
    scalars: Sequence[str],
    lines: Iterable[str],
    *,
    unread: Sequence[str] = (),
    before: Iterable[str] = (),
    pairs: Sequence[_Pair] = (),
) -> Kernel:
    """A kernel that takes (first, out, arrays, scalars, unread).

    Args:
        arrays: names of what has the size of ``out``.
        scalars: names of what all elements share.
        lines: make ``t`` of an element from its entry of each array and of each pair, and from the
            scalars.
        unread: names of what only ``before`` and pairs need.
        before: lines that come before two elements, number ``2 * j`` and the next.
        pairs: what these have beside the arrays.
    """
    body = "".join(f"    {line}\n" for line in lines)
    given = _list([*arrays, *(pair.name for pair in pairs), *scalars])
    element = _compile(f"def kernel({given}):\n{body}    return t\n")
    shared = _list(scalars)
    even = _list([*(f"{name}_even" for name in arrays), *(pair.even for pair in pairs), shared])
    odd = _list([*(f"{name}_odd" for name in arrays), *(pair.odd for pair in pairs), shared])
    last = _list([*(f"load({name}[i])" for name in arrays), *(pair.even for pair in pairs), shared])
    loads = "".join(f"        {name}_even, {name}_odd = two({name}, j)\n" for name in arrays)
    first = "".join(f"        {line}\n" for line in before)
    return _compile(
        f"""
def kernel(first, out, {_list([*arrays, *scalars, *unread])}):
    top = uint32(0)
    for j in range(out.size // 2):
{first}{loads}        even, odd = element({even}), element({odd})
        put(out, j, even, odd)
        top = higher(higher(top, even), odd)
    for j in range(out.size // 2, (out.size + 1) // 2):
        i = out.size - 1
{first}        t = element({last})
        store(out, i, t)
        top = higher(top, t)
    return top
""",
        element=element,
    )


def _names(letters: str, count: int) -> list[str]:
    """``[x0, x1, s0, s1]`` of ``xs``."""
    return [f"{letter}{k}" for letter in letters for k in range(count)]


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)


def _compile(text: str, **others: Kernel) -> Kernel:
    # Late: numba takes half a second, and small models never need it.
    import numba

    from workers.kernels import registers

    scope: dict[str, Any] = {**vars(registers), **others}
    exec(text, scope)  # noqa: S102 - the text is made above, from whole numbers alone
    kernel: Kernel = numba.njit(nogil=True, error_model="numpy")(scope["kernel"])
    return kernel


def readable(tensor: Tensor) -> Tensor:
    """What a loop reads it as: on the CPU, contiguous, in bfloat16 or float32."""
    tensor = tensor.cpu().contiguous()
    return tensor if tensor.dtype == torch.bfloat16 else tensor.float()


def view(tensor: Tensor) -> NDArray[Any]:
    """A flat tensor as an array that shares its memory; bfloat16 as its bits."""
    flat = tensor.detach().view(-1)
    if flat.dtype == torch.bfloat16:
        return flat.view(torch.int16).numpy().view(np.uint16)
    array: NDArray[Any] = flat.numpy()
    return array


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="merge")
