"""Greedy soup: parents join an average one after the other, as long as it gets no worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from search.merit import Merit, Merits
from search.optimizer import Options, RacesOn, Task, optimizers
from search.outcome import Candidate, Origin, Outcome
from search.parent_weights import needs_weights, weighted
from search.spec import SearchSpec

# How often each parent is in a soup.
_Soup = tuple[int, ...]


class GreedySoupOptions(Options):
    """Greedy soup has no options."""


@optimizers.register
class GreedySoup:
    """Starts at the best parent and tries to add the others, in the order of their scores.

    Wortsman et al. 2022, recipe 1: one pass, every parent once, kept where the soup gets no worse.
    The paper ends there; then a parent more or less of the best soup is tried, also one that is in
    it already (ensemble selection with replacement: Caruana et al. 2004). With several candidates
    in flight a parent is added to the soup that is known to be best by then.
    """

    name: ClassVar[str] = "greedy_soup"
    summary: ClassVar[str] = "Adds parents to an average, the best first, while it gets no worse."
    source: ClassVar[str] = "Wortsman et al. 2022, arXiv:2203.05482; Caruana et al. 2004"
    options: ClassVar[type[Options]] = GreedySoupOptions
    needs_geometry: ClassVar[bool] = False
    races_on: ClassVar[RacesOn] = "preference"

    def __init__(self, task: Task, _options: GreedySoupOptions) -> None:
        self._task = task
        self._parents = task.space.parents
        self._merits = Merits(task)
        self._values: dict[_Soup, NDArray[np.float64] | None] = {}
        self._greedy: _Soup | None = None  # as far as the pass has come

    def ask(
        self, ordinal: int, rng: np.random.Generator, pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        order, place = self._order(), ordinal - self._task.opening + 1
        if place < len(order):
            soup, move = _more(self._greedy or order[0], order[place]), "add"
        else:
            flying = {found for one in pending if (found := self._soup(one)) is not None}
            soup, move = self._neighbour(flying, rng), "exchange"
        genome = weighted(self._task.space, np.array(soup) / sum(soup))
        copies = " ".join(map(str, soup))
        return self._task.candidate(ordinal, genome, Origin(move, detail={"copies": copies}))

    def tell(self, outcome: Outcome) -> None:
        values, soup = self._merits.learn(outcome), self._soup(outcome.candidate)
        if soup is None:
            return
        self._values[soup] = values
        if outcome.candidate.origin.move == "add" and values is not None:
            before = self._merit(self._greedy or self._order()[0])
            self._greedy = soup if self._merits(values) >= before else self._greedy

    @staticmethod
    def problems(
        spec: SearchSpec,
        dim: int,
        options: GreedySoupOptions,  # noqa: ARG004  # there are none
    ) -> Mapping[str, str]:
        return needs_weights(spec, dim, "greedy_soup averages parents")

    def status(self) -> str:
        """What it is at, in a sentence."""
        best = self._best()
        named = zip(self._parents, best, strict=True)
        content = ", ".join(f"{name} x {n}" if n > 1 else name for name, n in named if n)
        return f"The best of {len(self._values)} soups so far is of {content}."

    def _merit(self, soup: _Soup) -> Merit:
        return self._merits(self._values.get(soup))

    def _order(self) -> list[_Soup]:
        """Each parent alone, the best first; those not scored (yet) last, as the spec has them."""
        alone = [tuple(row) for row in np.eye(len(self._parents), dtype=int).tolist()]
        return sorted(alone, key=self._merit, reverse=True)

    def _best(self) -> _Soup:
        """The best that is known; the first parent while nothing is."""
        return max(self._values, key=self._merit, default=self._order()[0])

    def _neighbour(self, flying: set[_Soup], rng: np.random.Generator) -> _Soup:
        """A new soup with a parent more or less than the best that has any such."""
        count = len(self._parents)
        steps = np.concatenate((np.eye(count), -np.eye(count))).astype(np.int64)
        for best in sorted([*self._values, *flying, self._best()], key=self._merit, reverse=True):
            near = [np.array(best) + step for step in steps]
            soups = [_reduced(soup) for soup in near if soup.min() >= 0 and soup.sum() > 0]
            new = [s for s in soups if s not in self._values and s not in flying]
            if new:
                return new[int(rng.integers(len(new)))]
        raise AssertionError("the largest soup of any has a larger neighbour")

    def _soup(self, candidate: Candidate) -> _Soup | None:
        """What a candidate is of: a soup of ours, a parent, or the average of all."""
        detail, count = candidate.origin.detail, len(self._parents)
        match candidate.origin.move:
            case "add" | "exchange":
                return tuple(map(int, str(detail["copies"]).split()))
            case "parent":
                return tuple(int(name == detail["name"]) for name in self._parents)
            case "average":
                return (1,) * count
        return None


def _more(soup: _Soup, other: _Soup) -> _Soup:
    return tuple(a + b for a, b in zip(soup, other, strict=True))


def _reduced(soup: NDArray[np.int64]) -> _Soup:
    """The same shares in the smallest numbers."""
    return tuple((soup // max(1, np.gcd.reduce(soup))).tolist())
