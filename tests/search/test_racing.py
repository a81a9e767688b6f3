"""Who leaves a race, when, and what is said of those who left."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterable

import numpy as np
import pytest

from search.constraints import Constraints
from search.outcome import Candidate, Infeasible, Origin, Score, Scored, Scores
from search.racing import Race, Racing, rungs, scored
from search.recipe import mixture
from search.spec import Objective

KEYS = ("one/acc", "two/acc")


def score(examples: Iterable[float]) -> Score:
    values = np.array(list(examples), dtype=np.float32)
    return Score(float(values.mean()), float(values.std() / len(values)), len(values), values)


def coins(rng: np.random.Generator, chance: float, count: int) -> Score:
    return score(rng.random(count) < chance)


def outcome(ordinal: int, scores: Scores, *, move: str = "sample") -> Scored:
    return Scored(Candidate(ordinal, mixture(("a",), (1.0,)), Origin(move)), scores)


def raced(
    chances: list[tuple[float, float]],
    *,
    count: int = 400,
    on_preference: bool = False,
    at_most: float | None = None,
) -> Race:
    """Against candidates with these chances in two objectives; a bound is of the first."""
    rng = np.random.default_rng(0)
    objectives = [Objective(task="one", metric="acc", at_most=at_most)]
    objectives += [Objective(task="two", metric="acc")]
    racing = Racing(
        dict.fromkeys(KEYS, 1.0),
        error=0.3,
        on_preference=on_preference,
        constraints=Constraints(objectives, {}, parents=1),
    )
    for ordinal, pair in enumerate(chances):
        both = {key: coins(rng, chance, count) for key, chance in zip(KEYS, pair, strict=True)}
        racing.absorb(outcome(ordinal, both))
    race = racing.race()
    assert race is not None
    return race


@pytest.mark.parametrize(
    ("count", "ends"),
    [(5, (5,)), (24, (24,)), (25, (16, 25)), (64, (16, 32, 64)), (200, (16, 32, 64, 128, 200))],
)
def test_rungs_double_and_end_with_all_examples(count: int, ends: tuple[int, ...]) -> None:
    assert rungs(count) == ends


def test_nobody_races_before_there_are_others_to_compare_with() -> None:
    racing = Racing({KEYS[0]: 1.0}, error=0.3)
    assert racing.race() is None
    racing.absorb(outcome(0, {KEYS[0]: score([0, 1] * 8)}, move="base"))
    racing.absorb(Infeasible(Candidate(1, mixture(("a",), (1.0,)), Origin("sample")), "broken"))
    assert racing.race() is None, "base and failures say nothing about what to expect"


def test_a_hopeless_candidate_leaves_after_the_first_rung_and_not_before() -> None:
    race = raced([(0.5, 0.5), (0.9, 0.9), (0.7, 0.7)])
    asked: list[int] = []

    def first(count: int) -> Scores:
        asked.append(count)
        return {key: score([0.0] * count) for key in KEYS}

    scores, left_early = scored(race, rungs(400), first)
    assert left_early
    assert asked == [16]
    assert {s.count for s in scores.values()} == {16}


def test_a_candidate_that_leads_is_scored_to_the_end_and_keeps_its_very_score() -> None:
    race = raced([(0.5, 0.5), (0.6, 0.6), (0.7, 0.7)])
    scores, left_early = scored(race, rungs(400), lambda n: {k: score([1.0] * n) for k in KEYS})
    assert not left_early
    assert all(s.value == 1.0 and s.count == 400 for s in scores.values())


def test_without_a_race_only_all_examples_are_asked_for() -> None:
    asked: list[int] = []
    scored(None, rungs(400), lambda n: asked.append(n) or {})  # type: ignore[func-returns-value]  # notes the number
    assert asked == [400]


def test_whoever_is_ahead_in_one_objective_stays() -> None:
    race = raced([(0.2, 0.8), (0.9, 0.5), (0.8, 0.1)])
    ahead = {KEYS[0]: score([0.0] * 64), KEYS[1]: score([1.0] * 64)}
    behind = {KEYS[0]: score([0.0] * 64), KEYS[1]: score([0.0] * 64)}
    assert not race.leaves(ahead)
    assert race.leaves(behind)


def test_where_preference_counts_being_ahead_in_one_objective_is_not_enough() -> None:
    chances = [(0.5, 0.5), (0.9, 0.5), (0.8, 0.5)]
    mixed = {KEYS[0]: score([0.0] * 64), KEYS[1]: score([1.0] * 40 + [0.0] * 24)}
    assert not raced(chances).leaves(mixed)
    assert raced(chances, on_preference=True).leaves(mixed)


@pytest.mark.parametrize("on_preference", [False, True])
def test_nobody_leaves_for_an_incumbent_that_violates_the_constraints(on_preference: bool) -> None:
    """The best but for the bound is far ahead; of those below the bound one leads."""
    chances = [(0.5, 0.5), (0.9, 0.9), (0.6, 0.6), (0.55, 0.55)]
    middling = {key: score([1.0] * 42 + [0.0] * 22) for key in KEYS}
    hopeless = {key: score([0.0] * 64) for key in KEYS}
    assert raced(chances, on_preference=on_preference).leaves(middling)
    bounded = raced(chances, on_preference=on_preference, at_most=0.7)
    assert not bounded.leaves(middling)
    assert bounded.leaves(hopeless)


def test_incumbents_are_the_front_and_eight_at_most() -> None:
    race = raced([(0.9, 0.1), (0.1, 0.9), (0.02, 0.02), (0.05, 0.05)])
    assert [one.ordinal for one in race.incumbents] == [0, 1]
    many = raced([(0.05 * n, 1 - 0.05 * n) for n in range(1, 20)])
    assert len(many.incumbents) == 8


def test_the_luckiest_that_left_is_told_as_no_better_than_whom_it_left_for() -> None:
    """Sixteen examples of equal candidates: the best mean of many is far above the truth."""
    rng, racing = np.random.default_rng(1), Racing({KEYS[0]: 1.0}, error=0.3)
    for ordinal in range(60):
        racing.absorb(outcome(ordinal, {KEYS[0]: coins(rng, 0.5, 16 if ordinal else 400)}))
    race = racing.race()
    assert race is not None
    lucky = {KEYS[0]: score([1.0] * 12 + [0.0] * 4)}
    told = race.estimates(lucky)[KEYS[0]]
    assert 0.45 < told.value < 0.6 < lucky[KEYS[0]].value
    assert told.stderr < math.sqrt(0.25 / 16)
    assert told.count == 16
    np.testing.assert_array_equal(told.examples, lucky[KEYS[0]].examples)


def test_hard_examples_are_not_held_against_a_candidate() -> None:
    """The first rung happens to be hard: what others scored on it tells."""
    rng, racing = np.random.default_rng(2), Racing({KEYS[0]: 1.0}, error=0.3)
    ease = np.where(np.arange(400) < 16, 0.1, 0.6)
    for ordinal in range(30):
        racing.absorb(outcome(ordinal, {KEYS[0]: score(rng.random(400) < ease)}))
    race = racing.race()
    assert race is not None
    told = race.estimates({KEYS[0]: score([1.0] * 2 + [0.0] * 14)})[KEYS[0]]
    assert told.value == pytest.approx(float(ease.mean()), abs=0.05)


def test_the_same_outcomes_give_the_same_race_and_it_travels() -> None:
    chances = [(0.5, 0.4), (0.6, 0.3), (0.2, 0.8), (0.5, 0.5)]
    one, other = raced(chances), raced(chances)
    assert pickle.dumps(one) == pickle.dumps(other)
    assert pickle.dumps(pickle.loads(pickle.dumps(one))) == pickle.dumps(one)


def test_nobody_leaves_as_long_as_all_may_be_equal() -> None:
    """The leader of many is a lucky one; that candidates differ has to be shown first."""
    rng = np.random.default_rng(4)
    behind = {KEYS[0]: score([1.0] * 26 + [0.0] * 38)}

    def race(spread: float) -> Race:
        racing = Racing({KEYS[0]: 1.0}, error=0.05)
        for ordinal in range(100):
            chance = 0.5 + spread * rng.standard_normal()
            racing.absorb(outcome(ordinal, {KEYS[0]: coins(rng, chance, 64)}))
        found = racing.race()
        assert found is not None
        return found

    equal, different = race(0.0), race(0.15)
    assert not equal.leaves(behind)
    assert different.leaves(behind)
    (course,) = equal.courses.values()
    assert course.allowed[0].variance == min(prior.variance for _, prior in course.priors)
    (course,) = different.courses.values()
    assert course.allowed[0].variance > 0.08**2
