import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from search.layout import Layout
from search.method import LINES, MethodDeclaration
from search.outcome import Candidate, Infeasible, Origin, Outcome
from search.recipe import mixture
from search.run import Kept, SearchRun, opening
from search.space import SearchSpace
from search.spec import parse_spec


@dataclass
class Recorder:
    """Proposes what it has been told, so that a proposal shows what it followed from."""

    told: list[int] = field(default_factory=list)

    def ask(
        self, ordinal: int, rng: np.random.Generator, pending: Sequence[Candidate] = (), /
    ) -> Candidate:
        origin = Origin("sample", tuple(self.told), {"draw": rng.random()})
        return Candidate(ordinal, mixture(("a",), (1.0,)), origin)

    def tell(self, outcome: Outcome) -> None:
        self.told.append(outcome.candidate.ordinal)

    def status(self) -> str:
        return f"Was told {len(self.told)} outcomes."


def run(parallel: int, seed: int = 0) -> SearchRun:
    return SearchRun((), Recorder(), parallel=parallel, seed=seed)  # type: ignore[arg-type]  # a fake


def absorb_until_ready(search: SearchRun, ordinal: int, proposed: list[Candidate]) -> None:
    while search.absorbed < search.needed(ordinal):
        search.absorb(Infeasible(proposed[search.absorbed], "not scored here"))


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_candidate_follows_from_all_outcomes_but_the_last_in_flight(parallel: int) -> None:
    search, proposed = run(parallel), []
    for ordinal in range(6):
        absorb_until_ready(search, ordinal, proposed)
        proposed.append(search.propose(ordinal, proposed[search.absorbed :]))
        assert proposed[-1].origin.parents == tuple(range(max(0, ordinal - parallel + 1)))


def test_proposing_twice_gives_the_same_candidate() -> None:
    assert run(2).propose(0) == run(2).propose(0)


def test_a_candidate_says_what_the_optimizer_did() -> None:
    search, proposed = run(parallel=1), []
    for ordinal in range(3):
        absorb_until_ready(search, ordinal, proposed)
        proposed.append(search.propose(ordinal))
    assert proposed[-1].origin.detail["status"] == "Was told 2 outcomes."
    assert "draw" in proposed[-1].origin.detail


def test_another_seed_gives_another_draw() -> None:
    assert run(2, seed=0).propose(0) != run(2, seed=1).propose(0)


def test_a_candidate_follows_from_all_that_were_proposed_before_it() -> None:
    search = run(parallel=3)
    first = search.propose(0)
    with pytest.raises(ValueError, match="candidate 1 follows from all that were proposed"):
        search.propose(1)
    assert search.propose(1, [first]).ordinal == 1


def test_knowing_more_than_needed_is_refused() -> None:
    search = run(parallel=2)
    search.absorb(Infeasible(search.propose(0), "failed"))
    with pytest.raises(ValueError, match="candidate 1 follows from 0 outcomes, and 1 are absorbed"):
        search.propose(1)


def test_outcomes_come_in_order_and_once() -> None:
    search = run(parallel=2)
    with pytest.raises(ValueError, match="expected outcome 0, got 1"):
        search.absorb(Infeasible(search.propose(1, [search.propose(0)]), "failed"))


def test_opening_measures_base_parents_and_average_then_warm_starts(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    space = SearchSpace(declaration, parse_spec(document), layout)
    moves = [(c.ordinal, c.origin.move, c.origin.detail.get("name")) for c in opening(space)]
    assert moves == [
        (0, "base", None),
        (1, "parent", "add"),
        (2, "parent", "reverse"),
        (3, "parent", "facts"),
        (4, "average", "average"),
        (5, "warm_start", "add"),
        (6, "warm_start", "reverse"),
        (7, "warm_start", "facts"),
        (8, "warm_start", "average"),
        (9, "warm_start", "middle"),
    ]


def test_a_parent_that_the_space_contains_is_not_measured_twice(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    document["space"]["parameters"]["density"] = {"low": 0.1, "high": 1.0}
    space = SearchSpace(declaration, parse_spec(document), layout)
    candidates = opening(space)
    warm = [c.origin.detail["name"] for c in candidates if c.origin.move == "warm_start"]
    assert warm == ["average", "middle"]
    parent = candidates[1]
    assert parent.genome is not None
    assert space.decode(parent.genome).at(0)["density"] == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("alpha", "contained"),
    [({"low": 0.0, "high": 1.0}, True), ({"low": 0.0, "high": 0.8}, False), (0.5, False)],
)
def test_a_parent_is_contained_only_where_its_change_can_be_whole(
    declaration: MethodDeclaration,
    document: dict[str, Any],
    layout: Layout,
    alpha: Any,
    contained: bool,
) -> None:
    scaled = replace(declaration, parameters=(*declaration.parameters, *LINES))
    document["space"]["parameters"] = {
        "weight": {"low": 0.0, "high": 1.0},
        "density": 1.0,
        "lines_alpha": alpha,
    }
    parent = opening(SearchSpace(scaled, parse_spec(document), layout))[1]
    assert (parent.genome is not None) == contained


def kept(space: SearchSpace, *genomes: list[float]) -> list[Kept]:
    return [Kept("0123", n, space.decode(genome)) for n, genome in enumerate(genomes)]


def test_what_an_earlier_search_measured_comes_after_the_baselines(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    document["space"]["blocks"] = "model"
    small = SearchSpace(declaration, parse_spec(copy.deepcopy(document)), layout)
    document["space"]["blocks"] = {"layers": 2}
    large = SearchSpace(declaration, parse_spec(document), layout)
    earlier = [
        *[Kept("0123", c.ordinal, c.recipe) for c in opening(small)],
        *kept(small, [0.1, 0.2, 0.3]),
    ]
    candidates = opening(large, earlier)
    moves = [(c.origin.move, c.origin.detail.get("ordinal")) for c in candidates]
    # Its baselines are the baselines; its warm starts and its middle lie in the large space.
    assert [move for move, _ in moves[:5]] == ["base", "parent", "parent", "parent", "average"]
    assert moves[5:] == [("kept", n) for n in (5, 6, 7, 8, 9, 0)]
    assert [c.ordinal for c in candidates] == list(range(11))
    last = candidates[-1]
    assert last.recipe == earlier[-1].recipe
    assert last.genome == pytest.approx((0.1, 0.2, 0.3) * len(large.blocks))


def test_what_lies_outside_of_the_space_is_kept_without_a_place_in_it(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    wide = SearchSpace(declaration, parse_spec(copy.deepcopy(document)), layout)
    document["space"]["parameters"]["weight"] = {"low": 0.0, "high": 1.0}
    narrow = SearchSpace(declaration, parse_spec(document), layout)
    inside, outside = opening(narrow, kept(wide, [0.5] * wide.dim, [0.9] * wide.dim))[5:7]
    assert inside.genome == pytest.approx([0.75] * narrow.dim)
    assert outside.genome is None
    assert outside.recipe == wide.decode([0.9] * wide.dim)


def test_the_same_recipe_is_kept_once(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    space = SearchSpace(declaration, parse_spec(document), layout)
    genome = [0.25] * space.dim
    alone, twice = opening(space, kept(space, genome)), opening(space, kept(space, genome, genome))
    assert alone == twice


@dataclass
class Prophet(Recorder):
    """Expects less and less."""

    def expected_gain(self) -> float:
        return 1.0 / (1 + len(self.told))


def test_a_search_stops_by_what_candidates_follow_from_and_nothing_else() -> None:
    judged = Judge()
    search = SearchRun((), Prophet(), parallel=3, seed=0, stagnation=judged)  # type: ignore[arg-type]  # fakes
    proposed: list[Candidate] = []
    for ordinal in range(6):
        absorb_until_ready(search, ordinal, proposed)
        assert search.stops(ordinal, since=4) == f"{search.absorbed} told, 2 before"
        proposed.append(search.propose(ordinal, proposed[search.absorbed :]))
    assert judged.forecasts == [1.0, 1.0, 1.0, 1 / 2, 1 / 3, 1 / 4]
    assert run(2).stops(0) is None


@dataclass
class Judge:
    told: int = 0
    forecasts: list[float] = field(default_factory=list)

    def absorb(self, outcome: Outcome) -> None:
        self.told += 1

    def reason(self, forecast: Callable[[], float], *, since: int) -> str:
        self.forecasts.append(forecast())
        return f"{self.told} told, {since} before"
