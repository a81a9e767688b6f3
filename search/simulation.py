"""What racing gains where the truth is known: candidates are numbers, examples are coins.

As many candidates as a search has differ truly by a normal spread. Each is right or wrong on an
example with a probability that depends on its quality and, where examples are hard or easy for all,
on the example (probit: `correlation` is that of the latent normals of two equal candidates). What
is measured is regret, how far the chosen one is truly below the best one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from search.finalists import (
    Round,
    finalists,
    first_round,
    most_finalists,
    next_round,
    shortlist,
)
from search.intervals import interval
from search.optimizer import Options, RacesOn
from search.outcome import Candidate, Origin, Outcome, Score, Scored
from search.racing import Race, Racing, rungs, scored
from search.ranking import Ranking
from search.recipe import mixture
from search.run import SearchRun
from search.spec import RACING, Objective

_OBJECTIVE = Objective(task="coins", metric="acc")
_RECIPE = mixture(("base",), (1.0,))
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Setting:
    """What is simulated.

    Flat scoring takes ``flat`` examples for each candidate and chooses the best mean. Racing has
    ``search`` examples to search on and ``select`` to choose among finalists; so many that both
    together are never more than flat scoring takes. What is chosen is scored on ``report`` more,
    which nobody counts, ``reports`` times.
    """

    correlation: float
    spread: float = 0.02
    candidates: int = 200
    flat: int = 100
    search: int = 32
    select: int = 1900
    report: int = 1000
    reports: int = 8
    parallel: int = 8
    error: float = RACING


@dataclass(frozen=True, slots=True)
class Result:
    """One search, flat and raced, among the same candidates.

    Args:
        flat, raced: regrets.
        examples: that racing took, those of the finalists included.
        left: how many candidates left early.
        wrongly: how many of them were truly as good as the incumbent that they left for.
        as_good: how many of all that raced were truly as good as an incumbent.
        told: of how many of those that left the 95 % interval that the optimizer is told holds the
            score that all search examples could be expected to give.
        errors: reported minus true scores of the winner.
        covered: the share of the 95 % intervals of its reported scores that hold the true one.
    """

    flat: float
    raced: float
    examples: int
    left: int
    wrongly: int
    as_good: int
    told: int
    errors: tuple[float, ...]
    covered: float


class World:
    """Candidates with known qualities."""

    def __init__(self, setting: Setting, rng: np.random.Generator) -> None:
        self.quality = 0.5 + setting.spread * rng.standard_normal(setting.candidates)
        self._shared = math.sqrt(setting.correlation / (1 - setting.correlation))
        self._threshold = np.hypot(1, self._shared) * ndtri(self.quality)
        self._rng = rng

    def coins(
        self, count: int, among: Sequence[int] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """(candidates, count) right or wrong on fresh examples; the chances by candidate."""
        ease = self._shared * self._rng.standard_normal(count)
        chosen = self._threshold if among is None else self._threshold[list(among)]
        latent = chosen[:, None] + ease
        right = self._rng.standard_normal(latent.shape) < latent
        return right.astype(np.float32), np.asarray(ndtr(latent).mean(axis=1))


def simulate(setting: Setting, rng: np.random.Generator) -> Result:
    """One search."""
    world = World(setting, rng)
    best = world.quality.max()
    flat, _ = world.coins(setting.flat)
    search = _Search(setting, world)
    search.run()
    winner, examples = _select(setting, world, search.outcomes)
    reports = [_score(world.coins(setting.report, [winner])[0][0]) for _ in range(setting.reports)]
    truth = float(world.quality[winner])
    return Result(
        flat=float(best - world.quality[flat.mean(axis=1).argmax()]),
        raced=float(best - truth),
        examples=search.examples + examples,
        left=search.left,
        wrongly=search.wrongly,
        as_good=search.as_good,
        told=search.told,
        errors=tuple(report.value - truth for report in reports),
        covered=float(np.mean([low <= truth <= high for low, high in map(interval, reports)])),
    )


class _Search:
    """The run of a search, with a worker that looks examples up."""

    def __init__(self, setting: Setting, world: World) -> None:
        self._setting = setting
        self._world = world
        self._coins, self._chances = world.coins(setting.search)
        self._racing = Racing({_OBJECTIVE.key: 1.0}, error=setting.error)
        self.outcomes: list[Scored] = []
        self.examples = self.left = self.wrongly = self.as_good = self.told = 0

    def run(self) -> None:
        run = SearchRun((), _InTurn(), parallel=self._setting.parallel, seed=0, racing=self._racing)
        for ordinal in range(self._setting.candidates):
            while run.absorbed < run.needed(ordinal):
                run.absorb(self.outcomes[run.absorbed])
            pending = [outcome.candidate for outcome in self.outcomes[run.absorbed :]]
            candidate = run.propose(ordinal, pending)
            self.outcomes.append(self._scored(candidate, run.race(ordinal)))

    def _scored(self, candidate: Candidate, race: Race | None) -> Scored:
        coins = self._coins[candidate.ordinal]
        scores, left_early = scored(
            race, rungs(len(coins)), lambda count: {_OBJECTIVE.key: _score(coins[:count])}
        )
        if race is not None:
            self._note(candidate.ordinal, race, scores[_OBJECTIVE.key], left_early=left_early)
        self.examples += scores[_OBJECTIVE.key].count
        return Scored(candidate, scores, left_early)

    def _note(self, ordinal: int, race: Race, told: Score, *, left_early: bool) -> None:
        quality = self._world.quality
        as_good = quality[ordinal] >= min(quality[one.ordinal] for one in race.incumbents)
        self.as_good += int(as_good)
        if left_early:
            self.left += 1
            self.wrongly += int(as_good)
            self.told += int(abs(told.value - self._chances[ordinal]) <= _Z * told.stderr)


def _select(setting: Setting, world: World, outcomes: Sequence[Scored]) -> tuple[int, int]:
    """The winner, and how many fresh examples it took: as the service does it."""
    ranking = Ranking((_OBJECTIVE,), {}, parents=0, baselines=())
    found = {one.candidate.ordinal: one.scores for one in outcomes}
    points = {n: np.array([scores[_OBJECTIVE.key].value]) for n, scores in found.items()}
    complete = [one.candidate.ordinal for one in outcomes if not one.left_early]
    most = most_finalists(setting.candidates, setting.select)
    asked = {n: found[n] for n in shortlist(ranking, points, complete, most)}
    named = finalists(ranking, points, asked, most=most, seed=0)
    coins = dict(zip(named, world.coins(setting.select, named)[0], strict=True))
    selected: dict[int, NDArray[np.float64]] = {}
    spent = seen = 0
    following: Round | None = first_round(named, setting.select)
    while following is not None:
        now, before, seen = following, seen, following.rungs[-1]
        spent += len(now.contenders) * (seen - before)
        selected |= {n: np.array([coins[n][:seen].mean()]) for n in now.contenders}
        following = next_round(now, ranking, selected, setting.select)
    return ranking.order(selected, now.contenders)[0], spent


def _score(coins: NDArray[np.float32]) -> Score:
    mean = float(coins.mean(dtype=np.float64))
    stderr = math.sqrt(mean * (1 - mean) / (len(coins) - 1))
    return Score(mean, stderr, len(coins), coins)


class _InTurn:
    """Candidates that are numbered and nothing else; nothing is learned from their outcomes."""

    name: ClassVar[str] = "in_turn"
    summary: ClassVar[str] = "Numbers."
    source: ClassVar[str] = "none"
    options: ClassVar[type[Options]] = Options
    needs_geometry: ClassVar[bool] = False
    races_on: ClassVar[RacesOn] = "front"

    def ask(
        self,
        ordinal: int,
        rng: np.random.Generator,  # noqa: ARG002  # the protocol's
        pending: Sequence[Candidate] = (),  # noqa: ARG002  # likewise
        /,
    ) -> Candidate:
        return Candidate(ordinal, _RECIPE, Origin("sample"))

    def tell(self, outcome: Outcome) -> None:
        pass

    def status(self) -> str:
        return "Counts."


@dataclass(frozen=True, slots=True)
class Summary:
    """Many searches; ``*_error`` is the standard error of what stands before it.

    Args:
        ratio: regret of racing, by that of flat scoring.
        flat, raced: mean regrets.
        examples, most: that racing took, in the mean and at most.
        left: share of candidates that left early.
        wrongly: of those, the share that was as good as the incumbent.
        lost: of those that were as good as an incumbent, the share that left.
        told: of those that left, the share of right 95 % intervals of what the optimizer is told.
        bias: mean of reported minus true scores of the winners.
        coverage: share of right 95 % intervals of the reported scores.
    """

    ratio: float
    ratio_error: float
    flat: float
    raced: float
    examples: float
    most: int
    left: float
    wrongly: float
    wrongly_error: float
    lost: float
    told: float
    bias: float
    bias_error: float
    coverage: float
    coverage_error: float


def summarize(setting: Setting, results: Sequence[Result]) -> Summary:
    """What many searches say together."""
    flat, raced, left, wrongly, covered = (
        np.array([getattr(r, name) for r in results], dtype=np.float64)
        for name in ("flat", "raced", "left", "wrongly", "covered")
    )
    errors = np.array([np.mean(result.errors) for result in results])
    root = math.sqrt(len(results))
    ratio = float(raced.mean() / flat.mean())
    leaving = max(float(left.mean()), 1 / len(results))
    share = float(wrongly.mean()) / leaving
    return Summary(
        ratio=ratio,
        ratio_error=float((raced - ratio * flat).std() / flat.mean() / root),
        flat=float(flat.mean()),
        raced=float(raced.mean()),
        examples=float(np.mean([result.examples for result in results])),
        most=max(result.examples for result in results),
        left=float(left.mean()) / setting.candidates,
        wrongly=share,
        # Candidates of one search share their incumbents: searches are what is independent.
        wrongly_error=float((wrongly - share * left).std()) / leaving / root,
        lost=float(wrongly.sum()) / max(1, sum(result.as_good for result in results)),
        told=sum(result.told for result in results) / max(1.0, float(left.sum())),
        bias=float(errors.mean()),
        bias_error=float(errors.std() / root),
        coverage=float(covered.mean()),
        coverage_error=float(covered.std() / root),
    )
