"""The fold: a search as a deterministic function of its spec and the scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from search.method import LINES, WEIGHT
from search.optimizer import Foresighted, Optimizer
from search.outcome import KEPT, Candidate, Origin, Outcome
from search.racing import Race, Racing
from search.recipe import Recipe, mixture
from search.space import SHARE, SearchSpace
from search.spec import BASE
from search.stagnation import Stagnation


@dataclass(frozen=True, slots=True)
class Kept:
    """A recipe that an earlier search has measured as its candidate ``ordinal``."""

    search: str
    ordinal: int
    recipe: Recipe

    @property
    def origin(self) -> Origin:
        """Of the candidate that it is here."""
        return Origin(KEPT, detail={"search": self.search, "ordinal": self.ordinal})


# In the detail of an origin: what the optimizer was doing when it proposed the candidate, and why.
STATUS = "status"


class SearchRun:
    """Proposes candidates and absorbs outcomes, in one order only.

    Candidate ``n`` is proposed from exactly the outcomes 0 to ``n - parallel`` (not more, although
    more may be known already) and from the candidates in between. So the sequence of candidates
    depends on the spec, the seed and the scores alone, not on the number of workers, the order of
    their answers, or crashes; and a later extension of the budget continues the very sequence that
    a larger budget would have had.

    Args:
        opening: candidates that every search starts with (see `opening`).
        optimizer: asked for all others.
        parallel: candidates in flight.
        seed: of the search.
        racing: what candidates run against; None where all are scored on all examples.
        stagnation: judges whether to go on; None where the whole budget is spent.
    """

    def __init__(
        self,
        opening: tuple[Candidate, ...],
        optimizer: Optimizer,
        *,
        parallel: int,
        seed: int,
        racing: Racing | None = None,
        stagnation: Stagnation | None = None,
    ) -> None:
        self._opening = opening
        self._optimizer = optimizer
        self._parallel = parallel
        self._seed = seed
        self._racing = racing
        self._stagnation = stagnation
        self.absorbed = 0

    def needed(self, ordinal: int) -> int:
        """How many outcomes must be absorbed before this candidate is proposed."""
        return max(0, ordinal - self._parallel + 1)

    def propose(self, ordinal: int, pending: Sequence[Candidate] = ()) -> Candidate:
        """The candidate at an ordinal, with the optimizer's status; changes nothing.

        Args:
            ordinal: of the candidate.
            pending: the candidates before it that are not absorbed yet, in order.
        """
        self._check(ordinal)
        if [candidate.ordinal for candidate in pending] != list(range(self.absorbed, ordinal)):
            raise ValueError(f"candidate {ordinal} follows from all that were proposed before it")
        if ordinal < len(self._opening):
            return self._opening[ordinal]
        rng = np.random.default_rng([self._seed, ordinal])
        candidate = self._optimizer.ask(ordinal, rng, pending)
        detail = {**candidate.origin.detail, STATUS: self._optimizer.status()}
        return replace(candidate, origin=replace(candidate.origin, detail=detail))

    def race(self, ordinal: int) -> Race | None:
        """What the candidate at an ordinal runs against; follows from what is absorbed.

        None where it is to be scored on all examples, as the opening always is.
        """
        self._check(ordinal)
        if self._racing is None or ordinal < len(self._opening):
            return None
        return self._racing.race()

    def stops(self, ordinal: int, *, since: int = 0) -> str | None:
        """Why no candidate is proposed from this ordinal on; None where the search goes on.

        Args:
            ordinal: of the candidate that would be next.
            since: that at which the search stopped before, and was extended.
        """
        self._check(ordinal)
        if self._stagnation is None:
            return None
        optimizer = self._optimizer
        forecast = optimizer.expected_gain if isinstance(optimizer, Foresighted) else None
        return self._stagnation.reason(forecast, since=self.needed(since))

    def _check(self, ordinal: int) -> None:
        if self.absorbed != self.needed(ordinal):
            raise ValueError(
                f"candidate {ordinal} follows from {self.needed(ordinal)} outcomes, "
                f"and {self.absorbed} are absorbed"
            )

    def absorb(self, outcome: Outcome) -> None:
        """Learn from the next outcome; they come in ordinal order."""
        if outcome.candidate.ordinal != self.absorbed:
            raise ValueError(f"expected outcome {self.absorbed}, got {outcome.candidate.ordinal}")
        self._optimizer.tell(outcome)
        if self._racing is not None:
            self._racing.absorb(outcome)
        if self._stagnation is not None:
            self._stagnation.absorb(outcome)
        self.absorbed += 1


def baseline_names(parents: tuple[str, ...]) -> tuple[str, ...]:
    """What the first candidates of every search are called, by ordinal: see `opening`."""
    return (BASE, *parents, *(("average",) if len(parents) > 1 else ()))


def opening(space: SearchSpace, kept: Sequence[Kept] = ()) -> tuple[Candidate, ...]:
    """What every search measures first, whatever its optimizer.

    The baselines: the base, each parent, their uniform average, as they are. Then what it keeps of
    an earlier search. Then, where the method's space does not contain a baseline exactly, the
    nearest point that it has. What the space contains carries its genome, so that optimizers learn
    from it. Last the middle of the space, which for sums of task vectors is often better than all
    of these.

    Args:
        space: that is searched.
        kept: what an earlier search has measured; each recipe counts once.
    """
    count = len(space.parents)
    weights = [tuple(float(i == j) for j in range(count)) for i in range(count)]
    if count > 1:
        weights.append((1.0 / count,) * count)
    moves = ["parent"] * count + ["average"]
    starts = list(zip(moves, baseline_names(space.parents)[1:], weights, strict=False))
    recipes: list[tuple[Recipe, Origin, tuple[float, ...] | None]] = [
        (mixture((BASE,), (1.0,)), Origin("base"), _nothing(space))
    ]
    warm = []
    for move, label, weight in starts:
        genome = _warm_start(space, weight)
        exact = genome is not None and _contains(space, weight, move)
        origin = Origin(move, detail={"name": label})
        recipes.append((mixture(space.parents, weight), origin, genome if exact else None))
        if genome is not None and not exact:
            warm.append((label, genome))
    recipes += _told(space, kept, {recipe.digest for recipe, _, _ in recipes})
    if space.dim:
        warm.append(("middle", (0.5,) * space.dim))
    for label, genome in warm:
        if not any(_same(genome, other) for _, _, other in recipes):
            origin = Origin("warm_start", detail={"name": label})
            recipes.append((space.decode(genome), origin, genome))
    return tuple(
        Candidate(ordinal, recipe, origin, genome)
        for ordinal, (recipe, origin, genome) in enumerate(recipes)
    )


def _told(
    space: SearchSpace, kept: Sequence[Kept], known: set[str]
) -> Iterator[tuple[Recipe, Origin, tuple[float, ...] | None]]:
    """Recipes of an earlier search that are not known yet, with the points where they lie."""
    for one in kept:
        digest = one.recipe.digest
        if digest not in known:
            known.add(digest)
            genome = space.locate(one.recipe)
            yield one.recipe, one.origin, None if genome is None else tuple(genome.tolist())


def _same(genome: tuple[float, ...], other: tuple[float, ...] | None) -> bool:
    """Whether two points are one, to rounding."""
    return other is not None and bool(np.allclose(genome, other, rtol=0.0, atol=1e-9))


def _nothing(space: SearchSpace) -> tuple[float, ...] | None:
    """The point where every weight is zero, where that is the base."""
    values = space.declaration.parent_values
    if values is None or not space.declaration.needs_base:
        return None
    return (
        _warm_start(space, (0.0,) * len(space.parents)) if space.reaches({"weight": 0.0}) else None
    )


def _warm_start(space: SearchSpace, weight: tuple[float, ...]) -> tuple[float, ...] | None:
    """The point of the space nearest to a mixture, or None when no weight is searched."""
    if all(gene.parameter not in (WEIGHT, SHARE) for gene in space.genes):
        return None
    values = {**(space.declaration.parent_values or {}), "weight": weight}
    return tuple(float(u) for u in space.encode(values))


def _contains(space: SearchSpace, weight: tuple[float, ...], move: str) -> bool:
    """Whether the method can express this mixture exactly.

    Averages are only exact for methods that are linear in the weights whatever the other
    parameters; those declare no further values.
    """
    values = space.declaration.parent_values
    if values is None or (move == "average" and values):
        return False
    unscaled = {p.name: p.default for p in LINES if p in space.declaration.parameters}
    return space.reaches({**unscaled, **values, "weight": weight})
