import numpy as np

from search.constraints import Constraints
from search.outcome import Candidate, Infeasible, Origin, Outcome, Score, Scored
from search.recipe import mixture
from search.spec import Objective, Stop
from search.stagnation import Stagnation

# Two objectives, of which the base and two parents have these scores.
BASELINES = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]


def outcome(ordinal: int, *values: float) -> Outcome:
    candidate = Candidate(ordinal, mixture(("a",), (1.0,)), Origin("sample"))
    if not values:
        return Infeasible(candidate, "as the test has it")
    examples = np.zeros(1, dtype=np.float32)
    return Scored(
        candidate, {f"t{i}/acc": Score(v, 0.0, 1, examples) for i, v in enumerate(values)}
    )


def judge(
    *, patience: int = 4, gain: float = 0.01, opening: int = 3, low: float | None = None
) -> Stagnation:
    objectives = (
        Objective(task="t0", metric="acc", at_least=low),
        Objective(task="t1", metric="acc"),
    )
    constraints = Constraints(objectives, {}, parents=2)
    stop = Stop(patience=patience, gain=gain)
    return Stagnation(stop, objectives, constraints, baselines=3, opening=opening)


def told(stagnation: Stagnation, *points: tuple[float, ...]) -> Stagnation:
    for ordinal, point in enumerate([*BASELINES, *points]):
        stagnation.absorb(outcome(ordinal, *point))
    return stagnation


def test_it_stops_when_the_last_evaluations_have_added_little() -> None:
    # The reference is (-0.1, -0.1): the first point covers 1.1 * 1.1, the last one 1.104 * 1.1.
    stagnant = told(judge(), (1.0, 1.0), *[(0.5, 0.5)] * 3, (1.004, 1.0))
    reason = stagnant.reason(None, since=0)
    assert reason == ("the hypervolume grew by 0.36 % in the last 4 evaluations, less than 1 %")


def test_it_goes_on_while_the_hypervolume_grows() -> None:
    growing = told(judge(), (1.0, 1.0), *[(0.5, 0.5)] * 3, (1.02, 1.0))
    assert growing.reason(None, since=0) is None


def test_nothing_is_held_against_a_search_before_its_patience_is_over() -> None:
    assert told(judge(), *[(0.5, 0.5)] * 3).reason(None, since=0) is None
    assert told(judge(), *[(0.5, 0.5)] * 5).reason(None, since=0) is not None
    assert told(judge(opening=5), *[(0.5, 0.5)] * 5).reason(None, since=0) is None
    assert told(judge(), *[(0.5, 0.5)] * 5).reason(None, since=5) is None


def test_as_long_as_the_optimizer_expects_more_it_goes_on() -> None:
    stagnant = told(judge(), *[(0.5, 0.5)] * 5)
    assert stagnant.reason(lambda: 0.02, since=0) is None
    assert stagnant.reason(lambda: None, since=0) is None
    reason = stagnant.reason(lambda: 0.002, since=0)
    assert reason is not None
    assert reason.endswith("and no further one is expected to add more than 0.2 %")


def test_the_optimizer_is_not_asked_in_vain() -> None:
    def forecast() -> float:
        raise AssertionError

    assert told(judge(), *[(0.1 * n, 0.1 * n) for n in range(9)]).reason(forecast, since=0) is None


def test_what_cannot_be_scored_adds_nothing() -> None:
    assert told(judge(), *[()] * 5, (float("nan"), 2.0)).reason(None, since=0) is not None


def test_without_a_hypervolume_there_is_no_stagnation() -> None:
    """Nobody holds the constraint: that is no reason to give up."""
    assert told(judge(low=2.0), *[(0.5, 0.5)] * 9).reason(None, since=0) is None
    assert told(judge(low=0.4), *[(0.5, 0.5)] * 9).reason(None, since=0) is not None
    nothing = judge()
    for ordinal in range(9):
        nothing.absorb(outcome(ordinal))
    assert nothing.reason(None, since=0) is None


def test_it_is_the_same_whenever_it_is_asked() -> None:
    points = np.random.default_rng(0).random((30, 2)).tolist()
    asked, silent = judge(patience=6, gain=0.05), judge(patience=6, gain=0.05)
    for ordinal, point in enumerate([*BASELINES, *points]):
        asked.absorb(outcome(ordinal, *point))
        silent.absorb(outcome(ordinal, *point))
        found = asked.reason(None, since=0)
    assert silent.reason(None, since=0) == found
