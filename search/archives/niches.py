"""M2N2's archive: members compete for examples, and those that solve what few solve are fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Member = TypeVar("Member")


class NicheArchive(Generic[Member]):
    """A bounded population in which every example is a resource that its solvers share.

    Abrantes et al. 2025 (arXiv:2508.16204), section 3. Follows the authors' code where paper and
    code differ: a load of zero counts as one, loads of the replacement include the child, the
    first of several worst members leaves (so a child that ties with an older member replaces it).
    Differs from both in that the attraction falls back to fitness where nobody is better at
    anything, and in constraints: whoever violates them most leaves first, and the first parent
    holds them where anyone does. Mates may violate them, for they can have what is missing.

    Args:
        capacity: greatest number of members; until it is reached everyone is admitted.
        alpha: how strongly members compete, 0 for not at all (a plain genetic algorithm).
        weights: of the objectives; None where there is one.
        violation: by how much a member violates constraints, not negative.
    """

    def __init__(
        self,
        capacity: int,
        *,
        alpha: float = 1.0,
        weights: Sequence[float] | None = None,
        violation: Callable[[Member], float] = lambda _: 0.0,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"an archive holds at least one member, not {capacity}")
        self.capacity = capacity
        self.members: list[Member] = []
        self._scores: list[tuple[NDArray[np.float64], ...]] = []
        self._alpha = alpha
        self._violation = violation
        self._weights = np.array(weights or (1.0,), dtype=np.float64)

    def __len__(self) -> int:
        return len(self.members)

    def add(self, member: Member, scores: Sequence[ArrayLike]) -> bool:
        """Offer a member with finite (examples,) scores for each objective; whether it stayed."""
        self.members.append(member)
        self._scores.append(tuple(np.array(s, dtype=np.float64) for s in scores))
        if len(self.members) <= self.capacity:
            return True
        leaves = int(np.lexsort((self.fitness(), -self._violations()))[0])
        del self.members[leaves], self._scores[leaves]
        return leaves != self.capacity

    def shares(self) -> NDArray[np.float64]:
        """(members, examples) what everyone gets of every example, c_j * s_ij / z_j^alpha."""
        objectives = [np.stack(column) for column in zip(*self._scores, strict=True)]
        examples = np.array([scores.shape[1] for scores in objectives])
        # A unit per example on average; objectives hold what their weights say, large or small.
        units = self._weights / self._weights.sum() * examples.sum() / np.maximum(examples, 1)
        return np.concatenate(
            [unit * self._shares(scores) for unit, scores in zip(units, objectives, strict=True)],
            axis=1,
        )

    def _shares(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        gain, capacity = _resources(scores)
        load = gain.sum(axis=0)
        shares: NDArray[np.float64] = capacity * gain / np.where(load > 0, load, 1.0) ** self._alpha
        return shares

    def fitness(self) -> NDArray[np.float64]:
        """(members,) sum of a member's shares (eq. 5)."""
        total: NDArray[np.float64] = self.shares().sum(axis=1)
        return total

    def mates(self, first: int) -> NDArray[np.float64]:
        """(members,) probabilities of the mate of one parent, by attraction (eq. 4).

        That is what the mate gets of the examples of which it gets more. Nobody is its own mate,
        but for a single member.
        """
        shares = self.shares()
        others = np.arange(len(shares)) != first
        if not others.any():
            return np.ones(1)
        pull = np.maximum(shares - shares[first], 0.0).sum(axis=1)
        if pull.sum() > 0:
            return _proportions(pull)
        return _proportions(np.where(others, shares.sum(axis=1), 0.0), others)

    def _violations(self) -> NDArray[np.float64]:
        return np.array([self._violation(member) for member in self.members])

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Indices of two parents, the first in proportion to its fitness."""
        everyone, missed = np.arange(len(self.members)), self._violations()
        least = missed == missed.min()
        first = int(rng.choice(everyone, p=_proportions(self.fitness() * least, least)))
        return first, int(rng.choice(everyone, p=self.mates(first)))


def _resources(scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What members get out of examples (members, examples), and what examples hold (examples,).

    Right-or-wrong scores are taken as they are, and every example holds one unit. Of others the
    worst of the population is subtracted per example, and an example holds the best that anyone
    then gets (a half-solved example does not hand out a full unit). Gaps above 1, which scores in
    [0, 1] cannot have, are divided by the largest, so that no unit of measurement outweighs
    another objective.
    """
    if ((scores == 0.0) | (scores == 1.0)).all():
        return scores, np.ones(scores.shape[1])
    gain = scores - scores.min(axis=0)
    gain = gain / max(1.0, float(gain.max()))
    return gain, gain.max(axis=0)


def _proportions(
    amounts: NDArray[np.float64], among: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Amounts as probabilities; where all are zero, equal ones ``among`` some (default: all)."""
    if not amounts.sum() > 0:
        amounts = np.ones(len(amounts)) if among is None else among.astype(np.float64)
    shares: NDArray[np.float64] = amounts / amounts.sum()
    return shares
