"""Racing: a candidate that is shown to be behind is not scored to the end.

Examples of a task stand in a fixed order and are scored in rungs, each about as long as all before
it. After a rung a candidate leaves when the posterior probability that it is as good as an
incumbent has fallen below an error rate. That is what is stated: **of the candidates that leave,
at most this share was as good as the incumbent that they left for, however much or little
candidates differ.** How many of the good ones leave is not stated: where candidates differ much few
are as good as an incumbent, and an optimizer is told an expectation of those that leave, so that
one of them does not hide from it where it was.

A posterior probability may be looked at after every rung without correction (Berger 1985, section
7.7: optional stopping does not change a posterior), unlike the p-values of F-Race (Birattari et al.
2002). But it is right on the average over its prior only, and incumbents are the luckiest of many:
where candidates in truth differ less than the prior says, their lead is mostly luck, and too many
leave. So the probability is the largest under any prior that the outcomes do not exclude (robust
Bayes, section 4.7 there), and nobody leaves before it is shown that candidates differ at all. Rungs
that double are those of successive halving (Jamieson & Talwalkar 2016, arXiv:1502.07943); a prior
that comes from the candidates themselves is empirical Bayes (Efron & Morris 1975).

The model, for each objective, of candidate i on example e:

    y_ie = quality_i + difficulty_e + rest_ie,
    quality ~ N(mean, spread^2),  difficulty ~ N(0, hard^2),  rest ~ N(0, noise^2)

What others scored on an example tells how hard it is; a candidate's scores minus those difficulties
are the paired comparison, made with all others at once. Where examples say nothing about each other
(hard = 0) the difficulties are 0, and nothing is lost by having asked.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from search.constraints import Constraints
from search.outcome import Outcome, Score, Scored, Scores
from search.pareto import first_front, span

Vector = NDArray[np.float64]

_FIRST_RUNG = 16
_MOST_INCUMBENTS = 8
# Quality moves while a search learns: its spread is that of so many of the newest outcomes.
_RECENT = 200
_FEWEST = 2
# Where few outcomes are known, candidates are taken to differ by a 25th of what examples do (two
# points of accuracy), give or take a factor of e.
_USUAL_SPREAD = 0.04
_SPREADS = np.geomspace(0.1, 10.0, 13)
_NEGLIGIBLE = 1e-3
# A spread is excluded that is so many nats less likely than another (2.326^2 / 2: 1 % on one side).
# With less, those that leave would mostly be of the searches in which it was excluded wrongly.
_EXCLUDED = 2.706
_ROUNDS = 2


def rungs(count: int) -> tuple[int, ...]:
    """How many of ``count`` examples are scored before each decision; the last is all of them.

    16, 32, 64 ...: a rest of less than half a rung is scored with the rung before it.
    """
    ends = []
    end = _FIRST_RUNG
    while 1.5 * end < count:
        ends.append(end)
        end *= 2
    return (*ends, count)


@dataclass(frozen=True, slots=True)
class Belief:
    """A normal distribution of a quality, in the units of its metric."""

    mean: float
    variance: float


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """What is known of one objective before a candidate starts.

    Args:
        priors: of the quality of candidates, with the weight of each: one for every spread that
            the outcomes so far allow.
        allowed: those whose spread the outcomes do not exclude, the narrowest first.
        hard: variance of difficulties.
        noise: variance of one example's score, given quality and difficulty.
        difficulty: (examples,) by how much each is easier than the average example.
        doubt: (examples,) variance of those differences.
    """

    priors: tuple[tuple[float, Belief], ...]
    allowed: tuple[Belief, ...]
    hard: float
    noise: float
    difficulty: Vector
    doubt: Vector

    def measured(self, mean: float, count: int) -> Belief:
        """Quality by the mean of the first ``count`` examples alone."""
        shift = float(self.difficulty[:count].mean())
        return Belief(mean - shift, (self.noise + float(self.doubt[:count].mean())) / count)

    def posterior(self, mean: float, count: int) -> Belief:
        """Quality by the mean of the first ``count`` examples and the priors."""
        return self.updated(self.measured(mean, count))

    def updated(self, measured: Belief) -> Belief:
        """Quality by what was measured and the priors."""
        return mixed([(weight, combined(prior, measured)) for weight, prior in self.priors])

    def at_level(self, level: int, measured: Belief) -> Belief:
        """Quality by what was measured, if candidates differ by one of the allowed spreads.

        Args:
            level: of the spread, 0 for the narrowest; beyond the widest it stays there.
            measured: by examples alone.
        """
        return combined(self.allowed[min(level, len(self.allowed) - 1)], measured)

    def full(self, quality: Belief) -> Belief:
        """The mean of all examples that a quality makes expect."""
        return Belief(quality.mean + float(self.difficulty.mean()), quality.variance)


def combined(a: Belief, b: Belief) -> Belief:
    """The product of two normal densities."""
    variance = 1 / (1 / a.variance + 1 / b.variance)
    return Belief(variance * (a.mean / a.variance + b.mean / b.variance), variance)


def mixed(parts: Sequence[tuple[float, Belief]]) -> Belief:
    """Mean and variance of a mixture, as weight and component."""
    mean = sum(weight * part.mean for weight, part in parts)
    square = sum(weight * (part.variance + (part.mean - mean) ** 2) for weight, part in parts)
    return Belief(mean, square)


def as_good(a: Belief, b: Belief) -> float:
    """Probability that the first is at least as good as the second, the two being independent."""
    distance = (a.mean - b.mean) / math.sqrt(a.variance + b.variance)
    return 0.5 * math.erfc(-distance / math.sqrt(2))


@dataclass(frozen=True, slots=True)
class Incumbent:
    """A candidate of the front of what is known, and what its examples say, by objective."""

    ordinal: int
    measured: Mapping[str, Belief]


@dataclass(frozen=True, slots=True, eq=False)
class Race:
    """What one candidate runs against; follows from the outcomes that its proposal follows from.

    Args:
        courses: by objective.
        incumbents: whom it must keep up with.
        error: of the candidates that leave, at most this share was as good as the incumbent.
        weights: of the objectives, by what they are measured in, where their mean alone counts;
            None where whoever is ahead in any objective stays.
    """

    courses: Mapping[str, Course]
    incumbents: tuple[Incumbent, ...]
    error: float
    weights: Mapping[str, float] | None = None

    def leaves(self, scores: Scores) -> bool:
        """Whether some incumbent is better in all that counts, but for the error rate.

        Args:
            scores: by objective, of the first examples.
        """
        mine = {
            key: course.measured(_mean(scores[key]), scores[key].count)
            for key, course in self.courses.items()
        }
        return any(self._behind(mine, one.measured) for one in self.incumbents)

    def _behind(self, mine: Mapping[str, Belief], theirs: Mapping[str, Belief]) -> bool:
        """Whichever of the allowed spreads is the true one; of several objectives at once.

        If candidates hardly differ an incumbent's lead is luck, that of the best of many; if they
        differ much a candidate's few good examples are none.
        """
        if self.weights is not None:
            levels = max(len(course.allowed) for course in self.courses.values())
            return all(
                as_good(self._overall(mine, level), self._overall(theirs, level)) < self.error
                for level in range(levels)
            )
        return all(
            as_good(course.at_level(level, mine[key]), course.at_level(level, theirs[key]))
            < self.error
            for key, course in self.courses.items()
            for level in range(len(course.allowed))
        )

    def _overall(self, measured: Mapping[str, Belief], level: int) -> Belief:
        """The weighted sum of qualities; tasks have no examples in common."""
        weights = self.weights or {}
        beliefs = {key: self.courses[key].at_level(level, seen) for key, seen in measured.items()}
        return Belief(
            sum(weights[key] * belief.mean for key, belief in beliefs.items()),
            sum(weights[key] ** 2 * belief.variance for key, belief in beliefs.items()),
        )

    def estimates(self, scores: Scores) -> Scores:
        """The values, with standard errors, that all examples can be expected to give.

        Posterior means, and not the means of what was seen: among many candidates that left after
        few examples the luckiest would look better than any that was scored to the end. Examples
        and count stay those that were seen. A metric that is a weighted mean of its examples keeps
        its distance to the plain one.
        """
        return {key: self._estimate(key, score) for key, score in scores.items()}

    def _estimate(self, key: str, score: Score) -> Score:
        course = self.courses[key]
        full = course.full(course.posterior(_mean(score), score.count))
        value = score.value + full.mean - _mean(score)
        return replace(score, value=value, stderr=math.sqrt(full.variance))


def scored(
    race: Race | None, ends: Sequence[int], first: Callable[[int], Scores]
) -> tuple[Scores, bool]:
    """The scores of a candidate, and whether it left early.

    Args:
        race: None where there is none.
        ends: of the rungs (see `rungs`).
        first: a number of examples -> the scores of the first so many; called with growing numbers.
    """
    if race is not None:
        for end in ends[:-1]:
            scores = first(end)
            if race.leaves(scores):
                return race.estimates(scores), True
    return first(ends[-1]), False


class Racing:
    """Learns from outcomes, in ordinal order, what the next candidate runs against.

    Base, parents and average are incumbents and show how hard examples are, but say nothing about
    what to expect of candidates. Whoever violates the constraints of the objectives is nobody's
    incumbent, for one who holds them comes first however little it scores.

    Args:
        weights: by objective.
        error: see `Race`.
        on_preference: whether only the mean by these weights counts, each objective measured in
            spans of the baselines.
        constraints: of the objectives, in the order of the weights; None where there are none.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        *,
        error: float,
        on_preference: bool = False,
        constraints: Constraints | None = None,
    ) -> None:
        self._fields = {key: _Field() for key in weights}
        self._weights = weights
        self._error = error
        self._on_preference = on_preference
        self._constraints = constraints
        self._baselines: list[list[float]] = []
        self._leaders: list[_Leader] = []
        self._courses: dict[str, Course] | None = None

    def absorb(self, outcome: Outcome) -> None:
        """Learn from the next outcome."""
        ordinal = outcome.candidate.ordinal
        if not isinstance(outcome, Scored):
            self._learn(ordinal, None)
            return
        scores = {key: outcome.scores[key] for key in self._fields}
        for key, score in scores.items():
            self._fields[key].add(score, baseline=outcome.candidate.origin.is_baseline)
        if all(field.candidates >= _FEWEST for field in self._fields.values()):
            self._courses = {key: field.course() for key, field in self._fields.items()}
        if outcome.candidate.origin.is_baseline:
            self._baselines.append([score.value for score in scores.values()])
        seen = {key: (_mean(score), score.count) for key, score in scores.items()}
        values = np.array([score.value for score in scores.values()])
        self._learn(ordinal, values)
        self._lead(_Leader(ordinal, seen, values))

    def race(self) -> Race | None:
        """For the next candidate; None as long as too little is known."""
        courses = self.courses()
        if courses is None:
            return None
        missed = self._violations(self._leaders)
        leaders = tuple(
            leader.measured(courses)
            for leader, violation in zip(self._leaders, missed, strict=True)
            if violation == 0
        )
        return Race(courses, leaders, self._error, self._units() if self._on_preference else None)

    def _units(self) -> dict[str, float]:
        """What a point of each objective weighs."""
        unit = span(np.reshape(self._baselines, (-1, len(self._weights))))
        return {
            key: weight / float(one)
            for (key, weight), one in zip(self._weights.items(), unit, strict=True)
        }

    def courses(self) -> dict[str, Course] | None:
        """By objective; None as long as too little is known."""
        return self._courses

    def _learn(self, ordinal: int, values: Vector | None) -> None:
        if self._constraints is not None:
            self._constraints.learn(ordinal, values)

    def _violations(self, leaders: Sequence[_Leader]) -> Vector:
        if self._constraints is None or not leaders:
            return np.zeros(len(leaders))
        return self._constraints.violation(np.stack([leader.values for leader in leaders]))

    def _lead(self, newcomer: _Leader) -> None:
        """Keep the front, by what is expected of everyone; of more than 8 the best in the mean."""
        leaders = [*self._leaders, newcomer]
        points = np.array([one.point(self.courses()) for one in leaders])
        on_front = np.flatnonzero(first_front(points, self._violations(leaders)))
        spread = np.maximum(np.ptp(points, axis=0), 1e-12)
        order = np.argsort(-(points[on_front] / spread).sum(axis=1), kind="stable")
        self._leaders = [leaders[n] for n in sorted(on_front[order][:_MOST_INCUMBENTS])]


@dataclass(frozen=True, slots=True, eq=False)
class _Leader:
    """One of the front: (mean, number) of its examples by objective, and what it scores."""

    ordinal: int
    seen: Mapping[str, tuple[float, int]]
    values: Vector

    def measured(self, courses: Mapping[str, Course]) -> Incumbent:
        measured = {key: courses[key].measured(*seen) for key, seen in self.seen.items()}
        return Incumbent(self.ordinal, measured)

    def point(self, courses: Mapping[str, Course] | None) -> list[float]:
        if courses is None:
            return [mean for mean, _ in self.seen.values()]
        return [courses[key].posterior(*seen).mean for key, seen in self.seen.items()]


class _Field:
    """Everybody's scores of one objective, as the sums that the model needs."""

    def __init__(self) -> None:
        self._count = np.zeros(0)
        self._sum = np.zeros(0)
        self._within, self._freedom = 0.0, 0
        # (examples seen, whether a baseline) -> how many, and the sum of their means.
        self._groups: dict[tuple[int, bool], tuple[int, float]] = {}
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self.candidates = 0

    def add(self, score: Score, *, baseline: bool) -> None:
        examples = score.examples.astype(np.float64)
        seen, mean = len(examples), float(examples.mean())
        if seen > len(self._count):
            longer = (0, seen - len(self._count))
            self._count, self._sum = np.pad(self._count, longer), np.pad(self._sum, longer)
        self._count[:seen] += 1
        self._sum[:seen] += examples
        self._within += float(np.square(examples - mean).sum())
        self._freedom += seen - 1
        members, total = self._groups.get((seen, baseline), (0, 0.0))
        self._groups[seen, baseline] = (members + 1, total + mean)
        if not baseline:
            self._recent.append((mean, seen))
            self.candidates += 1

    def course(self) -> Course:
        """Prior, noise and difficulties, each estimated with the others as they are."""
        one = max(self._within / max(1, self._freedom), 1e-12)
        prior = Belief(float(np.mean([mean for mean, _ in self._recent])), one * _USUAL_SPREAD**2)
        nothing = np.zeros(len(self._count))
        course = Course(((1.0, prior),), (prior,), 0.0, one, nothing, nothing)
        for _ in range(_ROUNDS):
            course = self._difficulties(self._prior(course, one), one)
        return self._prior(course, one)

    def _difficulties(self, course: Course, one: float) -> Course:
        """What candidates scored on an example beyond what is expected of them, shrunk to 0.

        ``one`` is the variance of one candidate's examples, hard^2 + noise^2.
        """
        expected = np.zeros(len(self._count))
        for (seen, baseline), (members, total) in self._groups.items():
            quality = course.measured if baseline else course.posterior
            expected[:seen] += members * quality(total / members, seen).mean
        gap = (self._sum - expected) / self._count
        # E[sum of count * gap^2] = hard^2 * sum of count + noise^2 * examples
        surplus = float(self._count @ np.square(gap)) - len(gap) * one
        twice = float(self._count.sum()) - len(gap)
        hard = float(np.clip(surplus / twice, 0.0, 0.95 * one)) if twice > 0 else 0.0
        noise = one - hard
        known = self._count * hard / (self._count * hard + noise)
        return replace(
            course, hard=hard, noise=noise, difficulty=known * gap, doubt=hard * (1 - known)
        )

    def _prior(self, course: Course, one: float) -> Course:
        """A normal prior for every spread of a grid, with its weight.

        The likelihood is that of means with known variances, the overall mean integrated out
        (REML); the grid's weights are log-normal about the usual spread. Which spreads are not
        excluded is by likelihood alone, at 1 % on one side.
        """
        nothing = {seen: course.measured(0.0, seen) for seen in {seen for _, seen in self._recent}}
        means = np.array([mean + nothing[seen].mean for mean, seen in self._recent])
        variances = np.array([nothing[seen].variance for _, seen in self._recent])
        usual = _USUAL_SPREAD * math.sqrt(one)
        total = np.square(_SPREADS * usual)[:, None] + variances
        precision = (1 / total).sum(axis=1)
        centre = (means / total).sum(axis=1) / precision
        log = -0.5 * (
            np.log(total).sum(axis=1)
            + np.log(precision)
            + (np.square(means - centre[:, None]) / total).sum(axis=1)
        )
        beliefs = [
            Belief(float(mean), float(variance))
            for mean, variance in zip(centre, np.square(_SPREADS * usual), strict=True)
        ]
        allowed = tuple(beliefs[n] for n in np.flatnonzero(log >= log.max() - _EXCLUDED))
        weights = np.exp(log - log.max() - 0.5 * np.square(np.log(_SPREADS)))
        weights[weights < _NEGLIGIBLE * weights.sum()] = 0.0
        weights /= weights.sum()
        priors = [
            (float(weight), belief)
            for weight, belief in zip(weights, beliefs, strict=True)
            if weight > 0
        ]
        return replace(course, priors=tuple(priors), allowed=allowed)


def _mean(score: Score) -> float:
    return float(score.examples.mean(dtype=np.float64))
