"""The words that the loops of ``workers.kernels.fused`` are written in, as numba compiles them.

Numba ships no types and reads functions by the names of their arguments, hence no annotations here.
"""

import numba
from llvmlite.ir import IntType
from numba import types
from numba.extending import intrinsic, overload
from numpy import float32, uint16, uint32

from workers.kernels.noise import LAST_SHIFT, MULTIPLIERS, SHIFTS

__all__ = [
    "LEAST",
    "SIGN",
    "at",
    "bits",
    "fma",
    "half",
    "higher",
    "load",
    "low_draw",
    "one",
    "own",
    "put",
    "real",
    "shared",
    "shifted",
    "store",
    "two",
    "uint32",
    "zero",
]

zero, half, one = float32(0), float32(0.5), float32(1)
LEAST = float32(1e-8)  # smaller divisors count as none
SIGN = uint32(1 << 31)

_HALF, _LOW, _ODD = uint32(16), uint32(0x7FFF), uint32(1)
_UPPER, _TWO, _NONE = uint32(0xFFFF0000), uint32(2), uint32(0)
_MAGNITUDE = uint32(0x7FFFFFFF)
_M0, _M1 = (uint32(m) for m in MULTIPLIERS)
_S0, _S1 = (uint32(s) for s in SHIFTS)
assert LAST_SHIFT == _HALF  # noqa: S101 - what low_draw makes use of


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


@intrinsic
def _word(context, x, j):
    """Elements ``2 * j`` and the next of an array of 16 bits, as 32 that need not be aligned."""

    def generate(context, builder, signature, arguments):
        return builder.load(_place(context, builder, signature, arguments), align=2)

    return types.uint32(x, j), generate


@intrinsic
def _put_word(context, x, j, word):
    """Write elements ``2 * j`` and the next."""

    def generate(context, builder, signature, arguments):
        builder.store(arguments[2], _place(context, builder, signature, arguments), align=2)

    return types.void(x, j, types.uint32), generate


def _place(context, builder, signature, arguments):
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    words = builder.bitcast(array.data, IntType(32).as_pointer())
    return builder.gep(words, [arguments[1]], inbounds=True)


def load(x):
    """A float32 from an element of an array; bfloat16 is there as its bits."""
    raise NotImplementedError("only in compiled loops")


@overload(load)
def _load(x):
    if isinstance(x, types.Float):
        return lambda x: x
    return lambda x: real(uint32(x) << _HALF)


def two(x, j):
    """Elements ``2 * j`` and the next of an array, as float32."""
    raise NotImplementedError("only in compiled loops")


@overload(two)
def _two(x, j):
    if isinstance(x.dtype, types.Float):
        return lambda x, j: (x[2 * j], x[2 * j + 1])

    def take(x, j):
        word = _word(x, j)
        return real(uint32(word << _HALF)), real(uint32(word & _UPPER))

    return take


def store(out, i, x):
    """Write a finite float32 into an array, rounded to even where that holds bfloat16."""
    raise NotImplementedError("only in compiled loops")


@overload(store)
def _store(out, i, x):
    def put_float(out, i, x):
        out[i] = x

    def put_bits(out, i, x):
        out[i] = uint16(_rounded(x) >> _HALF)

    return put_float if isinstance(out.dtype, types.Float) else put_bits


def put(out, j, even, odd):
    """As ``store``, elements ``2 * j`` and the next."""
    raise NotImplementedError("only in compiled loops")


@overload(put)
def _put(out, j, even, odd):
    def put_floats(out, j, even, odd):
        out[2 * j] = even
        out[2 * j + 1] = odd

    def put_word(out, j, even, odd):
        _put_word(out, j, uint32((_rounded(even) >> _HALF) | (_rounded(odd) & _UPPER)))

    return put_floats if isinstance(out.dtype, types.Float) else put_word


@numba.njit
def _rounded(x):
    """Bits of a float32 whose upper half is the nearest bfloat16, of two the even one."""
    u = bits(x)
    return uint32(u + _LOW + ((u >> _HALF) & _ODD))


@numba.njit
def higher(top, x):
    """The larger of some bits and of those of a magnitude: NaN and infinity are above the rest."""
    u = uint32(bits(x) & _MAGNITUDE)
    return u if u > top else top


# Numba computes whole numbers with 64 bits: each product is cut back, to wrap and to stay narrow.
@numba.njit
def shared(place, key):
    """32 random bits of a place: the rounds of ``workers.kernels.noise`` that all parents share."""
    x = uint32((uint32(place) ^ key[0]) * _M0)
    x = uint32(x ^ (x >> _S0))
    x = uint32((x ^ key[1]) * _M1)
    return uint32(x ^ (x >> _S1))


@numba.njit
def own(x, key):
    """32 random bits of a parent from those of a place: the upper half is the odd element's draw.

    What follows in ``workers.kernels.noise`` does not change the upper half.
    """
    return uint32((x ^ key[0]) * key[1])


@numba.njit
def low_draw(x):
    """32 random bits whose upper half is the even element's draw."""
    return uint32(x ^ uint32(x << _HALF))


@numba.njit
def shifted(x, count):
    """Bits without the lowest ones."""
    return uint32(x >> uint32(count))


@numba.njit
def at(table, level):
    """One of four numbers; of ``level`` only the lowest two bits count."""
    odd, upper = uint32(level & _ODD) != _NONE, uint32(level & _TWO) != _NONE
    low = table[1] if odd else table[0]
    high = table[3] if odd else table[2]
    return high if upper else low
