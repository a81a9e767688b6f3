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

from search.optimizer import Options, RacesOn
from search.outcome import Candidate, Origin, Outcome, Score, Scored
from search.racing import (
    Belief,
    Course,
    Race,
    Racing,
    better_half,
    confirmed,
    halving,
    rungs,
    scored,
)
from search.recipe import mixture
from search.run import SearchRun

_KEY = "coins/acc"
_RECIPE = mixture(("base",), (1.0,))
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Setting:
    """What is simulated.

    Flat scoring takes ``flat`` examples for each candidate and chooses the best mean. Racing has
    ``pool`` examples to search on, then shares what is left of as many examples in all among
    ``finalists``, and scores the one that is chosen on ``report`` more (which nobody counts).
    """

    correlation: float
    spread: float = 0.02
    candidates: int = 200
    flat: int = 100
    pool: int = 64
    finalists: int = 64
    report: int = 1000
    parallel: int = 8
    error: float = 1 / 3


@dataclass(frozen=True, slots=True)
class Result:
    """One search, flat and raced, among the same candidates.

    Args:
        flat, raced: regrets.
        examples: that racing took, those of the finalists included.
        left: how many candidates left early.
        wrongly: how many of them were truly as good as the incumbent that they left for.
        told: of how many of them the 95 % interval that the optimizer is told holds the score that
            all search examples could be expected to give.
        error: reported minus true score of the winner.
        covered: whether the 95 % interval of the reported score holds the true one.
    """

    flat: float
    raced: float
    examples: int
    left: int
    wrongly: int
    told: int
    error: float
    covered: bool


class World:
    """Candidates with known qualities."""

    def __init__(self, setting: Setting, rng: np.random.Generator) -> None:
        self.quality = 0.5 + setting.spread * rng.standard_normal(setting.candidates)
        self._shared = math.sqrt(setting.correlation / (1 - setting.correlation))
        self._threshold = np.hypot(1, self._shared) * ndtri(self.quality)
        self._rng = rng

    def coins(self, count: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """(candidates, count) right or wrong on fresh examples; the chances by candidate."""
        ease = self._shared * self._rng.standard_normal(count)
        latent = self._threshold[:, None] + ease
        right = self._rng.standard_normal(latent.shape) < latent
        return right.astype(np.float32), np.asarray(ndtr(latent).mean(axis=1))


def simulate(setting: Setting, rng: np.random.Generator) -> Result:
    """One search."""
    world = World(setting, rng)
    best = world.quality.max()
    flat, _ = world.coins(setting.flat)
    search = _Search(setting, world)
    search.run()
    winner, examples = _select(setting, world, search)
    report, _ = world.coins(setting.report)
    value = float(report[winner].mean())
    error = value - float(world.quality[winner])
    stderr = math.sqrt(value * (1 - value) / (setting.report - 1))
    return Result(
        flat=float(best - world.quality[flat.mean(axis=1).argmax()]),
        raced=float(best - world.quality[winner]),
        examples=search.examples + examples,
        left=search.left,
        wrongly=search.wrongly,
        told=search.told,
        error=error,
        covered=abs(error) <= _Z * stderr,
    )


class _Search:
    """The run of a search, with a worker that looks examples up."""

    def __init__(self, setting: Setting, world: World) -> None:
        self._setting = setting
        self._world = world
        self._coins, self._chances = world.coins(setting.pool)
        self._racing = Racing({_KEY: 1.0}, error=setting.error)
        self._outcomes: list[Scored] = []
        self.examples = self.left = self.wrongly = self.told = 0

    def run(self) -> None:
        run = SearchRun((), _InTurn(), parallel=self._setting.parallel, seed=0, racing=self._racing)
        for ordinal in range(self._setting.candidates):
            while run.absorbed < run.needed(ordinal):
                run.absorb(self._outcomes[run.absorbed])
            pending = [outcome.candidate for outcome in self._outcomes[run.absorbed :]]
            candidate = run.propose(ordinal, pending)
            self._outcomes.append(self._scored(candidate, run.race(ordinal)))
        for outcome in self._outcomes[run.absorbed :]:
            run.absorb(outcome)

    def finalists(self) -> list[tuple[int, Belief]]:
        """The most promising and what is known of them, the best first."""
        course = self.course()
        seen = [outcome.scores[_KEY] for outcome in self._outcomes]
        beliefs = [course.posterior(float(s.examples.mean()), s.count) for s in seen]
        order = sorted(range(len(beliefs)), key=lambda n: -beliefs[n].mean)
        return [(n, beliefs[n]) for n in order[: self._setting.finalists]]

    def course(self) -> Course:
        courses = self._racing.courses()
        if courses is None:
            raise ValueError("too few candidates to choose among")
        return courses[_KEY]

    def _scored(self, candidate: Candidate, race: Race | None) -> Scored:
        coins = self._coins[candidate.ordinal]
        scores, left_early = scored(
            race, rungs(len(coins)), lambda count: {_KEY: _score(coins[:count])}
        )
        if race is not None and left_early:
            self._note(candidate.ordinal, race, scores[_KEY])
        self.examples += scores[_KEY].count
        return Scored(candidate, scores, left_early)

    def _note(self, ordinal: int, race: Race, told: Score) -> None:
        quality = self._world.quality
        lowest = min(quality[one.ordinal] for one in race.incumbents)
        self.left += 1
        self.wrongly += int(quality[ordinal] >= lowest)
        self.told += int(abs(told.value - self._chances[ordinal]) <= _Z * told.stderr)


def _select(setting: Setting, world: World, search: _Search) -> tuple[int, int]:
    """The winner among the finalists, and how many fresh examples it took."""
    left = setting.candidates * setting.flat - search.examples
    rounds = halving(setting.finalists, left)
    coins, _ = world.coins(rounds[-1][1])
    playing, course, spent, before = search.finalists(), search.course(), 0, 0
    for count, seen in rounds:
        spent += count * (seen - before)
        before = seen
        means = [float(coins[n, :seen].mean()) for n, _ in playing]
        beliefs = confirmed([belief for _, belief in playing], means, seen, course)
        playing = [playing[n] for n in better_half(beliefs)]
    return playing[0][0], spent


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
        told: of those, the share of right 95 % intervals of what the optimizer is told.
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
    told: float
    bias: float
    bias_error: float
    coverage: float
    coverage_error: float


def summarize(setting: Setting, results: Sequence[Result]) -> Summary:
    """What many searches say together."""
    flat, raced = (np.array([getattr(r, name) for r in results]) for name in ("flat", "raced"))
    errors = np.array([result.error for result in results])
    root = math.sqrt(len(results))
    left = max(1, sum(result.left for result in results))
    ratio = float(raced.mean() / flat.mean())
    coverage = float(np.mean([result.covered for result in results]))
    return Summary(
        ratio=ratio,
        ratio_error=float((raced - ratio * flat).std() / flat.mean() / root),
        flat=float(flat.mean()),
        raced=float(raced.mean()),
        examples=float(np.mean([result.examples for result in results])),
        most=max(result.examples for result in results),
        left=left / len(results) / setting.candidates,
        wrongly=sum(result.wrongly for result in results) / left,
        told=sum(result.told for result in results) / left,
        bias=float(errors.mean()),
        bias_error=float(errors.std() / root),
        coverage=coverage,
        coverage_error=math.sqrt(coverage * (1 - coverage) / len(results)),
    )
