"""A counter-based random generator: what is drawn depends on keys and a place, on nothing else.

Rounds of multiplication and xorshift on 32 bits, with a word of a key mixed in before each: two for
the place in a tensor, shared by all parents, and one for each parent. Such a hash passes the tests
that matter for masks (equidistribution, independence of neighbours, parents, tensors and seeds) and
costs a few instructions, so that masks need not be stored: they are the same on every device, in
any order, over any cut of a tensor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Odd, with good avalanche; found by exhaustive search: C. Wellons, "Prospecting for hash
# functions", 2018.
MULTIPLIERS = (0x21F0AAAD, 0x735A2D97)
SHIFTS = (16, 15)
LAST_SHIFT = 16
# A word serves two neighbouring elements, 16 bits each.
RANGE = 1 << 16

_WORD = 0xFFFFFFFF

Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Noise:
    """The keys of one tensor's draws, two words of 32 bits each.

    Args:
        place: of the rounds that all parents share.
        parents: of the last round; the second word is odd, because it multiplies.
    """

    place: Key
    parents: tuple[Key, ...]

    @classmethod
    def of(cls, seed: int, tensor: str, labels: Sequence[str]) -> Noise:
        """Keys from names: a parent has the same draws wherever it stands in the list."""
        shared = _digest(f"{seed}\n{tensor}")
        own = (_digest(f"{seed}\n{tensor}\n{label}") for label in labels)
        return cls(shared, tuple((mix, multiplier | 1) for mix, multiplier in own))

    def draws(self, parent: int, start: int, count: int, device: torch.device) -> Tensor:
        """Whole numbers below ``RANGE``, uniform and independent.

        Args:
            parent: for which.
            start: place of the first element in its tensor.
            count: how many.
            device: where they are wanted.

        Returns:
            (count,) int64.
        """
        first, last = start // 2, (start + count - 1) // 2
        word = torch.arange(first, last + 1, dtype=torch.int64, device=device) & _WORD
        for mix, multiplier, shift in zip(self.place, MULTIPLIERS, SHIFTS, strict=True):
            word = _times(word ^ mix, multiplier)
            word ^= word >> shift
        mix, multiplier = self.parents[parent]
        word = _times(word ^ mix, multiplier)
        word ^= word >> LAST_SHIFT
        pair = torch.stack((word & (RANGE - 1), word >> 16), dim=1).view(-1)
        skipped = start - first * 2
        return pair[skipped : skipped + count]


def _digest(text: str) -> Key:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def _times(word: Tensor, multiplier: int) -> Tensor:
    """Product modulo 2**32; the halves keep it within 63 bits."""
    low, high = multiplier & 0xFFFF, multiplier >> 16
    return (word * low + (((word * high) & 0xFFFF) << 16)) & _WORD
