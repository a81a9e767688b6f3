"""The words that the loops of ``workers.kernels.fused`` are written in, as numba compiles them.

Numba ships no types and reads functions by the names of their arguments, hence no annotations here.
"""

import numba
from numba import types
from numba.extending import intrinsic, overload
from numpy import empty, float32, uint16, uint32

from workers.kernels.noise import BLOCK, LAST_SHIFT, MULTIPLIERS, RANGE, SHIFTS

__all__ = [
    "BLOCK",
    "LEAST",
    "SIGN",
    "UNIT",
    "bits",
    "empty",
    "float32",
    "fma",
    "higher",
    "load",
    "one",
    "own",
    "real",
    "shared",
    "store",
    "uint16",
    "uint32",
    "zero",
]

zero, one = float32(0), float32(1)
LEAST = float32(1e-8)  # smaller divisors count as none
SIGN = uint32(1 << 31)
UNIT = float32(1 / RANGE)

_HALF, _LOW, _ODD = uint32(16), uint32(0x7FFF), uint32(1)
_MAGNITUDE = uint32(0x7FFFFFFF)
_M0, _M1 = (uint32(m) for m in MULTIPLIERS)
_S0, _S1, _S2 = (uint32(s) for s in (*SHIFTS, LAST_SHIFT))


def _cast(to):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(to))

    return generate


@intrinsic
def real(context, x):
    """The float32 with these bits."""
    return types.float32(types.uint32), _cast(types.float32)


@intrinsic
def bits(context, x):
    """The bits of a float32."""
    return types.uint32(types.float32), _cast(types.uint32)


@intrinsic
def fma(context, x, y, z):
    """``x * y + z`` with one rounding, as torch adds a scaled tensor."""

    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), generate


def load(x):
    """A float32 from an element of an array; bfloat16 is there as its bits."""
    raise NotImplementedError("only in compiled loops")


@overload(load, inline="always")
def _load(x):
    if isinstance(x, types.Float):
        return lambda x: x
    return lambda x: real(uint32(x) << _HALF)


def store(out, i, x):
    """Write a finite float32 into an array, rounded to even where that holds bfloat16."""
    raise NotImplementedError("only in compiled loops")


@overload(store, inline="always")
def _store(out, i, x):
    if isinstance(out.dtype, types.Float):

        def put(out, i, x):
            out[i] = x
    else:

        def put(out, i, x):
            u = bits(x)
            out[i] = uint16((u + _LOW + ((u >> _HALF) & _ODD)) >> _HALF)

    return put


@numba.njit(inline="always")
def higher(top, x):
    """The larger of some bits and of those of a magnitude: NaN and infinity are above the rest."""
    u = uint32(bits(x) & _MAGNITUDE)
    return u if u > top else top


# Numba computes whole numbers with 64 bits: each product is cut back, to wrap and to stay narrow.
@numba.njit(inline="always")
def shared(place, key):
    """32 random bits of a place: the rounds of ``workers.kernels.noise`` that all parents share."""
    x = uint32((uint32(place) ^ key[0]) * _M0)
    x = uint32(x ^ (x >> _S0))
    x = uint32((x ^ key[1]) * _M1)
    return uint32(x ^ (x >> _S1))


@numba.njit(inline="always")
def own(x, key):
    """32 random bits of a parent from those of a place."""
    x = uint32((x ^ key[0]) * key[1])
    return uint32(x ^ (x >> _S2))
