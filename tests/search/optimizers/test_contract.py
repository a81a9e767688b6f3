"""What every optimizer promises, whatever it does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from search.optimizer import Foresighted, optimizers
from search.outcome import Candidate, Infeasible, Outcome
from search.recipe import Recipe
from search.run import Kept, opening
from tests.search.optimizers.analytic import Setup, accuracies, failing, outcome, search
from tests.search.optimizers.conftest import EVEN, WHOLE


def rng(ordinal: int) -> np.random.Generator:
    return np.random.default_rng([0, ordinal])


def test_asking_changes_nothing(setup: Setup) -> None:
    outcomes = search(setup, 40).outcomes
    silent, curious = setup.start(), setup.start()
    for told in outcomes:
        for ordinal in (told.candidate.ordinal + 7, told.candidate.ordinal + 8):
            curious.ask(max(ordinal, 6), rng(ordinal))
        silent.tell(told)
        curious.tell(told)
    assert silent.ask(40, rng(40)) == curious.ask(40, rng(40)) == silent.ask(40, rng(40))


def test_it_says_in_a_sentence_what_it_does(setup: Setup) -> None:
    """At every point of a search, and with each candidate; saying so changes nothing."""
    run, optimizer = setup.run(), setup.start()
    for told in search(setup, 40).outcomes:
        run.absorb(told)
        optimizer.tell(told)
        status = optimizer.status()
        assert status.endswith(".")
        assert len(status) < 300
    assert run.propose(40).origin.detail["status"] == optimizer.status()


def test_replayed_outcomes_give_the_same_candidates(setup: Setup) -> None:
    setup = replace(setup, parallel=4)
    outcomes = search(setup, 45).outcomes
    run = setup.run()
    for told in outcomes[: run.needed(44)]:
        run.absorb(told)
    waiting = [told.candidate for told in outcomes[run.absorbed : 44]]
    assert run.propose(44, waiting) == outcomes[44].candidate


def test_it_leaves_the_global_generator_alone(setup: Setup) -> None:
    before = str(np.random.get_state())  # noqa: NPY002  # the one that must be left alone
    search(setup, 30)
    assert str(np.random.get_state()) == before  # noqa: NPY002  # likewise


def test_another_seed_gives_other_candidates(setup: Setup) -> None:
    one, other = (search(replace(setup, seed=seed), 12).candidates[-1] for seed in (0, 1))
    assert one.recipe.digest != other.recipe.digest


@pytest.mark.parametrize("parallel", [1, 8])
@pytest.mark.parametrize("objectives", [1, 3])
@pytest.mark.parametrize(("blocks", "dim"), [(0, 1), (20, 60)])
def test_candidates_stay_in_the_cube(
    setup: Setup, blocks: int, dim: int, objectives: int, parallel: int
) -> None:
    """One gene and sixty, one objective and three, one at a time and eight."""
    setup = replace(setup, blocks=blocks, objectives=objectives, parallel=parallel)
    if setup.optimizer == "m2n2" and setup.method == "linear" and not blocks:
        setup = replace(setup, blocks=1)
    assert dim in (setup.space.dim, 1)
    if _is_refused(setup):
        return
    seen = search(setup, 40)
    for candidate in seen.candidates[len(opening(setup.space)) :]:
        assert Recipe.model_validate_json(candidate.recipe.model_dump_json()) == candidate.recipe
        if candidate.genome is not None:
            assert all(0.0 <= gene <= 1.0 for gene in candidate.genome)
            assert len(candidate.genome) == setup.space.dim
            assert candidate.recipe == setup.space.decode(candidate.genome)
    digests = {candidate.recipe.digest for candidate in seen.candidates[10:]}
    assert len(digests) > 20


def test_paths_through_layers_are_searched_like_everything_else_or_refused(setup: Setup) -> None:
    path = {"sources": ["merged", "p1"], "scale": {"low": 0.8, "high": 1.25, "log": True}}
    setup = replace(setup, path=path, parallel=4)
    entry = optimizers[setup.optimizer]
    options = entry.options(**setup.options)
    if refused := entry.problems(setup.spec, setup.space.dim, options):
        without = entry.problems(replace(setup, path=None).spec, 9, options)
        assert refused.keys() - without.keys() <= {"space.path", "optimizer.name"}
        assert refused != without
        return
    candidates = search(setup, 40).candidates[len(opening(setup.space)) :]
    paths = {tuple((s.model, s.layer) for s in candidate.recipe.path) for candidate in candidates}
    assert len(paths) > 5
    for candidate in candidates:
        if candidate.genome is not None:
            assert candidate.recipe == setup.space.decode(candidate.genome)


@pytest.mark.parametrize("parallel", [1, 8])
def test_what_cannot_be_scored_is_survived(setup: Setup, parallel: int) -> None:
    setup = replace(setup, parallel=parallel)
    for candidate in search(setup, 60, failing(setup, every=3)).candidates:
        assert np.isfinite(np.array(candidate.genome or [], dtype=float)).all()


def test_a_search_in_which_nothing_can_be_scored_goes_on(setup: Setup) -> None:
    seen = search(setup, 40, lambda candidate: Infeasible(candidate, "as the test has it"))
    assert len({candidate.recipe.digest for candidate in seen.candidates}) > 30


def test_equal_scores_everywhere_are_survived(setup: Setup) -> None:
    seen = search(setup, 60, lambda candidate: outcome(candidate, np.zeros(setup.objectives)))
    assert len({candidate.recipe.digest for candidate in seen.candidates}) > 30


def test_a_candidate_does_not_depend_on_scores_outside_of_the_window(setup: Setup) -> None:
    """The control of the replay test: outcomes inside of the window do matter."""
    if setup.optimizer in EVEN:
        return
    setup = replace(setup, parallel=2)
    outcomes = search(setup, 60).outcomes
    run, changed = setup.run(), setup.run()
    for told in outcomes[: run.needed(59)]:
        run.absorb(told)
        changed.absorb(outcome(told.candidate, 1.0 - accuracies(setup, told.candidate)))
    waiting = [told.candidate for told in outcomes[run.absorbed : 59]]
    assert run.propose(59, waiting) == outcomes[59].candidate
    assert changed.propose(59, waiting) != outcomes[59].candidate


def test_the_catalogue_describes_every_option() -> None:
    for entry in optimizers:
        assert entry.summary.endswith(".")
        assert entry.source
        schema = entry.options.model_json_schema()
        assert schema["additionalProperties"] is False
        assert all("description" in option for option in schema.get("properties", {}).values())


def test_a_search_without_genes_is_refused_by_what_works_on_genes(setup: Setup) -> None:
    spec, entry = setup.spec, optimizers[setup.optimizer]
    found = entry.problems(spec, 0, entry.options())
    assert ("space.parameters" in found) == (setup.method != "linear")
    assert not entry.problems(spec, 9, entry.options())


def test_what_holds_the_constraints_comes_first(setup: Setup) -> None:
    """An upper bound, which is the contrary of what is searched: a fifth of the scores are below.

    All that M2N2 makes on tables scores alike here; its archive is the same. Optuna's Gaussian
    processes take too long for this; `test_optuna_samplers` has fewer.
    """
    if not _searches_everywhere(setup) or setup.optimizer == "optuna_gp":
        return
    setup = replace(setup, objectives=2)
    free = _late_scores(setup)
    limit = float(np.quantile(free, 0.2))
    bound = _late_scores(replace(setup, bounds={"at_most": limit}))
    assert np.maximum(bound - limit, 0).mean() < np.maximum(free - limit, 0).mean() / 3


def _late_scores(setup: Setup) -> NDArray[np.float64]:
    """(candidates,) what the last 70 of 100 score in the first objective."""
    return search(setup, 100).points()[30:, 0]


@pytest.mark.parametrize("objectives", [1, 2])
def test_it_beats_even_sampling(setup: Setup, objectives: int) -> None:
    """On distances to points inside of the cube, 60 evaluations; see `analytic.accuracies`.

    Those points are no interpolations of the parents, which is all that M2N2 on tables makes; it
    has a test of its own, and so have optimizers that weigh parents as wholes.
    """
    if not _searches_everywhere(setup) or setup.optimizer == "optuna_gp":
        return
    ours = _best(replace(setup, objectives=objectives))
    assert (
        ours > _best(replace(setup, objectives=objectives, optimizer="uniform", options={})) + 0.01
    )


def _searches_everywhere(setup: Setup) -> bool:
    """Whether scores lead it to any point of the space."""
    return setup.optimizer not in EVEN | WHOLE and setup.method != "linear"


def _is_refused(setup: Setup) -> bool:
    """Whether a spec like this is answered with problems, and no search comes of it."""
    entry = optimizers[setup.optimizer]
    options = entry.options(**setup.options)
    return bool(entry.problems(setup.spec, setup.space.dim, options))


def _best(setup: Setup) -> float:
    """The best mean of the objectives that is found within 60 evaluations, over three seeds.

    The opening is not found, and the middle of the cube happens to be good here.
    """
    own = len(opening(setup.space))
    runs = [
        search(replace(setup, seed=seed), 60).points()[own:].mean(axis=1).max() for seed in range(3)
    ]
    return float(np.mean(runs))


def test_what_was_not_asked_in_between_does_not_matter(setup: Setup) -> None:
    """After a crash an optimizer is told all and asked once; some candidates have no score."""
    setup = replace(setup, parallel=4)
    outcomes = search(setup, 60, failing(setup, every=3)).outcomes
    run = setup.run()
    for told in outcomes[: run.needed(59)]:
        run.absorb(told)
    waiting = [told.candidate for told in outcomes[run.absorbed : 59]]
    assert run.propose(59, waiting) == outcomes[59].candidate


def test_what_an_earlier_search_measured_is_learned_from(setup: Setup) -> None:
    """A search of one weight per parent goes on with three; its evaluations are its opening."""
    if setup.method == "linear":
        return
    small = replace(setup, partition="model", parallel=2)
    earlier = search(small, 30).outcomes
    setup = replace(setup, parallel=2)
    told = [Kept("0123", o.candidate.ordinal, o.candidate.recipe) for o in earlier]
    start = opening(setup.space, told)
    kept = [candidate for candidate in start if candidate.origin.move == "kept"]
    assert len(kept) > 20
    assert all(len(candidate.genome or ()) == setup.space.dim for candidate in kept)
    run = setup.run(start)
    later = []
    for ordinal in range(len(start) + 20):
        while run.absorbed < run.needed(ordinal):
            run.absorb(later[run.absorbed])
        candidate = run.propose(ordinal, [o.candidate for o in later[run.absorbed :]])
        later.append(outcome(candidate, accuracies(setup, candidate)))
    proposed = [o.candidate for o in later[len(start) :]]
    assert all(candidate.genome is not None for candidate in proposed)
    known = {candidate.recipe.digest for candidate in start}
    assert not known & {candidate.recipe.digest for candidate in proposed}


def test_who_expects_something_says_so_without_changing(setup: Setup) -> None:
    optimizer = setup.start()
    if not isinstance(optimizer, Foresighted):
        return
    assert optimizer.expected_gain() is None
    outcomes = search(setup, 60).outcomes
    for told in outcomes:
        optimizer.tell(told)
    silent = setup.start()
    for told in outcomes:
        silent.tell(told)
    expected = optimizer.expected_gain()
    assert expected is not None
    assert 0.0 <= expected < 0.2
    assert optimizer.expected_gain() == expected == silent.expected_gain()  # type: ignore[attr-defined]  # likewise
    assert optimizer.ask(60, rng(60)) == silent.ask(60, rng(60))


@pytest.mark.parametrize("parallel", [1, 8])
def test_a_larger_budget_continues_the_same_search(setup: Setup, parallel: int) -> None:
    """Every evaluation is one candidate, and none is made that the budget does not have."""
    setup = replace(setup, parallel=parallel)
    candidates = search(setup, 45).candidates
    assert [candidate.ordinal for candidate in candidates] == list(range(45))
    assert search(setup, 32).candidates == candidates[:32]


def test_scores_that_are_noise_are_survived(setup: Setup) -> None:
    """The same candidate may score anything; now and then all examples wrong, or all right."""

    def judge(candidate: Candidate) -> Outcome:
        noise = np.random.default_rng([5, candidate.ordinal]).normal(0.5, 0.4, setup.objectives)
        return outcome(candidate, np.clip(noise, 0.0, 1.0))

    seen = search(setup, 60, judge)
    assert len({candidate.recipe.digest for candidate in seen.candidates}) > 30
