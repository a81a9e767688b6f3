"""Loops that find out once what candidates need to know of the order of magnitudes.

As in ``registers``, numba compiles them and reads no types.
"""

import numba
from numpy import float32, float64, int64, uint8, uint32, uint64

from workers.kernels.registers import bits, load, low_draw, own, shared

# Magnitudes that share the bits above these count as one: they differ by less than one in 8,192.
SHIFT = 10
BINS = 1 << (31 - SHIFT)

_SHIFT, _HALF = uint32(SHIFT), uint32(16)


@numba.njit(nogil=True)
def count(b, x, counts, sums):
    """Add how many magnitudes of ``x - b`` are in each bin, and what they sum up to."""
    for i in range(b.size):
        magnitude = abs(load(x[i]) - load(b[i]))
        place = uint32(bits(magnitude) >> _SHIFT)
        counts[place] += 1
        sums[place] += float64(magnitude)


@numba.njit(nogil=True)
def find(b, x, slots, seen, wanted, starts, found):
    """Flat indices of the elements that are next in their bin at wanted places.

    Args:
        b: base.
        x: parent.
        slots: for each bin a number, or -1 where nothing is wanted.
        seen: for each slot 0; counts.
        wanted: places in the bin, counted from 1, ascending, of all slots one after the other.
        starts: for each slot where its places begin in ``wanted``, and one more.
        found: receives an index for each place.
    """
    for i in range(b.size):
        slot = slots[uint32(bits(abs(load(x[i]) - load(b[i]))) >> _SHIFT)]
        if slot >= 0:
            seen[slot] += 1
            following = starts[slot]
            if following < starts[slot + 1] and wanted[following] == seen[slot]:
                found[following] = i
                starts[slot] = following + 1


@numba.njit(nogil=True)
def magnitude_keys(b, x, keys):
    """Numbers that order elements of a row by magnitude, equal ones by place.

    Args:
        b: (rows * columns,) of the base.
        x: of the parent.
        keys: (rows, columns) uint64; receives the bits of a magnitude above those of the column.
    """
    rows, columns = keys.shape
    for row in range(rows):
        for column in range(columns):
            i = row * columns + column
            magnitude = bits(abs(load(x[i]) - load(b[i])))
            keys[row, column] = (uint64(magnitude) << uint64(32)) | uint64(column)


@numba.njit(nogil=True)
def write_levels(keys, first, steps, place, own_key, packed, shift):
    """Round the ranks of sorted rows by chance to ``steps + 1`` levels.

    Args:
        keys: from ``magnitude_keys``, every row sorted.
        first: flat index of the first row in its tensor.
        steps: between the levels of the smallest and the largest.
        place: key of the draws that all parents share, see ``workers.kernels.noise``.
        own_key: key of the parent.
        packed: a byte for two neighbouring elements; levels are added to it.
        shift: of the even element's level in its byte; the odd one's is two bits above.
    """
    rows, columns = keys.shape
    for row in range(rows):
        for rank in range(columns):
            column = int64(keys[row, rank] & uint64(0xFFFFFFFF))
            i = first + row * columns + column
            word = own(shared(uint32(i // 2), place), own_key)
            draw = word if i % 2 else low_draw(word)
            exact = float32(rank) * float32(steps) / float32(max(columns - 1, 1))
            level = int64(exact + float32(uint32(draw >> _HALF)) * float32(1 / 65536))
            level = min(level, steps)
            packed[i // 2] |= uint8(level << (shift + 2 * (i % 2)))
