"""M2N2's archive: members compete for examples, and those that solve what few solve are fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Member = TypeVar("Member")
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


class NicheArchive(Generic[Member]):
    """A bounded population in which every example is a resource that its solvers share.

    Abrantes et al. 2025 (arXiv:2508.16204), section 3. Follows the authors' code where paper and
    code differ: a load of zero counts as one, loads of the replacement include the child, and the
    attraction knows alpha. Differs from both in that it falls back to fitness where nobody is
    better at anything, in that nobody is its own mate, and in constraints: whoever violates them
    most leaves first, and the first parent holds them where anyone does. Mates may violate them,
    for they can have what is missing.

    An alpha above 1 is meant for right-or-wrong scores: of a graded example that everyone is bad
    at, a little is then worth much.

    Replacement: of the members and the child the least fit leaves, which may be the child. Of
    several that are least fit the oldest leaves, so a child that ties with the worst member
    replaces it.

    Args:
        capacity: greatest number of members; until it is reached everyone is admitted.
        alpha: how strongly members compete, 0 for not at all (a plain genetic algorithm).
        matchmaker: whether mates are drawn by attraction; if not, by fitness as first parents are.
        weights: of the objectives; None where there is one.
        violation: by how much a member violates constraints, not negative.
    """

    def __init__(
        self,
        capacity: int,
        *,
        alpha: float = 1.0,
        matchmaker: bool = True,
        weights: Sequence[float] | None = None,
        violation: Callable[[Member], float] = lambda _: 0.0,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"an archive holds at least one member, not {capacity}")
        self.capacity = capacity
        self.members: list[Member] = []
        self._resources = [_Resource(alpha, weight) for weight in weights or (1.0,)]
        self._matchmaker = matchmaker
        self._violation = violation

    def __len__(self) -> int:
        return len(self.members)

    def add(self, member: Member, scores: Sequence[ArrayLike]) -> bool:
        """Offer a member with finite (examples,) scores for each objective; whether it stayed."""
        self.members.append(member)
        for resource, row in zip(self._resources, scores, strict=True):
            resource.append(np.asarray(row, dtype=np.float64), capacity=self.capacity)
        if len(self.members) <= self.capacity:
            return True
        leaves = int(np.lexsort((self.fitness(), -self._violations()))[0])
        del self.members[leaves]
        for resource in self._resources:
            resource.remove(leaves)
        return leaves != self.capacity

    def fitness(self) -> Vector:
        """(members,) what everyone gets of all examples (eq. 5), c_j * s_ij / z_j^alpha summed."""
        return self._sum(lambda resource: resource.taken())

    def mates(self, first: int) -> Vector:
        """(members,) probabilities of the mate of one parent.

        By attraction (eq. 4): what the mate gets more of each example, summed where that is more.
        """
        others = np.arange(len(self.members)) != first
        if not others.any():
            return np.ones(1)
        if self._matchmaker:
            pull = self._sum(lambda resource: resource.beyond(first))
            if pull.sum() > 0:
                return _proportions(pull)
        return _proportions(self.fitness() * others, others)

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        """Indices of two parents, the first in proportion to its fitness."""
        missed = self._violations()
        least = missed == missed.min()
        first = _drawn(_proportions(self.fitness() * least, least), rng)
        return first, _drawn(self.mates(first), rng)

    def _sum(self, part: Callable[[_Resource], Vector]) -> Vector:
        """(members,) over the objectives, which hold what their weights say, large or small.

        An example holds one unit on average.
        """
        examples = sum(resource.examples for resource in self._resources)
        weights = sum(resource.weight for resource in self._resources)
        total = np.zeros(len(self.members))
        for resource in self._resources:
            unit = resource.weight / weights * examples / max(resource.examples, 1)
            total += unit * part(resource)
        return total

    def _violations(self) -> Vector:
        return np.array([self._violation(member) for member in self.members])


class _Resource:
    """The examples of one objective: what members score on them, and what a point is worth.

    Right-or-wrong scores are taken as they are, and every example holds one unit. Of others the
    worst of the population is subtracted per example, and an example holds the best that anyone
    then gets (a half-solved example does not hand out a full unit). Gaps above 1, which scores in
    [0, 1] cannot have, are divided by the largest, so that no unit of measurement outweighs
    another objective.
    """

    def __init__(self, alpha: float, weight: float) -> None:
        self.weight = weight
        self._alpha = alpha
        self._rows: Matrix = np.empty((0, 0))
        self._graded: list[bool] = []
        self._known: tuple[Matrix, Vector] | None = None

    @property
    def examples(self) -> int:
        """Number of them."""
        return int(self._rows.shape[1])

    def append(self, row: Vector, *, capacity: int) -> None:
        """Scores of the next member; there is room for one more than ``capacity``."""
        if not self._graded:
            self._rows = np.empty((capacity + 1, len(row)))
        self._rows[len(self._graded)] = row
        self._graded.append(not ((row == 0.0) | (row == 1.0)).all())
        self._known = None

    def remove(self, member: int) -> None:
        """Forget a member; those after it move up."""
        last = len(self._graded) - 1
        self._rows[member:last] = self._rows[member + 1 : last + 1]
        del self._graded[member]
        self._known = None

    def taken(self) -> Vector:
        """(members,) what everyone gets of all examples together."""
        gains, worth = self._gains_and_worth()
        total: Vector = gains @ worth
        return total

    def beyond(self, first: int) -> Vector:
        """(members,) what everyone gets of the examples of which it gets more than one member."""
        gains, worth = self._gains_and_worth()
        if any(self._graded):
            more: Vector = np.maximum(gains - gains[first], 0.0) @ worth
        else:
            more = gains @ (worth * (1.0 - gains[first]))
        return more

    def _gains_and_worth(self) -> tuple[Matrix, Vector]:
        """(members, examples) of points and (examples,) c_j / z_j^alpha, what a point gets."""
        if self._known is None:
            gains, held = self._rows[: len(self._graded)], np.ones(self.examples)
            if any(self._graded):
                gains = gains - gains.min(axis=0)
                gains /= max(1.0, float(gains.max(initial=0.0)))
                held = gains.max(axis=0)
            load = gains.sum(axis=0)
            load[load == 0] = 1.0
            self._known = gains, held / (load if self._alpha == 1 else load**self._alpha)
        return self._known


def _proportions(amounts: Vector, among: NDArray[np.bool_] | None = None) -> Vector:
    """Amounts as probabilities; where all are zero, equal ones ``among`` some (default: all)."""
    if not amounts.sum() > 0:
        amounts = np.ones(len(amounts)) if among is None else among.astype(np.float64)
    shares: Vector = amounts / amounts.sum()
    return shares


def _drawn(probabilities: Vector, rng: np.random.Generator) -> int:
    """An index; one without probability is never drawn."""
    steps = probabilities.cumsum()
    return int(np.searchsorted(steps, rng.random() * steps[-1], side="right"))
