"""Genes of a path: what is passed, how often, in which order, how scaled."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.flow import Flow, problems
from search.layout import Layout, Tensor
from search.method import MethodDeclaration, Parameter
from search.recipe import Step
from search.run import opening
from search.space import SearchSpace
from search.spec import LayerPath, parse_spec
from tests.search.conftest import llama

NAMES = ("add", "reverse", "facts")


def flow(depth: int = 4, **given: Any) -> Flow:
    return Flow(LayerPath(**given), llama(depth))


def passing(here: Flow, *slots: str) -> tuple[float, ...]:
    """The point at which the path leads through these slots and no others."""
    return tuple(
        gene.unit(name.removesuffix("/pass") in slots) if name.endswith("/pass") else 0.5
        for name, gene in zip(here.names, here.genes, strict=True)
    )


def layers(path: tuple[Step, ...]) -> list[tuple[str | None, int]]:
    return [(step.model, step.layer) for step in path]


def test_layers_of_all_sources_stand_in_a_row_again_and_again() -> None:
    here = flow(2, sources=("add", "facts"), repeats=2)
    assert here.names == (
        "add.0/pass",
        "add.1/pass",
        "facts.0/pass",
        "facts.1/pass",
        "add.0#2/pass",
        "add.1#2/pass",
        "facts.0#2/pass",
        "facts.1#2/pass",
    )
    path = here.path(passing(here, "add.1", "facts.0", "add.1#2"))
    assert layers(path) == [("add", 1), ("facts", 0), ("add", 1)]


def test_layers_of_one_depth_may_stand_together() -> None:
    here = flow(2, sources=("merged", "facts"), repeats=1, order="depth")
    assert here.names == ("merged.0/pass", "facts.0/pass", "merged.1/pass", "facts.1/pass")
    assert layers(here.path(passing(here, "facts.0", "merged.1"))) == [("facts", 0), (None, 1)]


def test_consecutive_layers_come_and_go_together() -> None:
    here = flow(5, layers=2, repeats=1)
    assert here.names == ("merged.0-1/pass", "merged.2-3/pass", "merged.4/pass")
    assert layers(here.path(passing(here, "merged.2-3"))) == [(None, 2), (None, 3)]


@pytest.mark.parametrize(("depth", "groups"), [(4, 4), (8, 8), (9, 5), (32, 8), (48, 8)])
def test_what_is_searched_without_a_word_is_few_genes(depth: int, groups: int) -> None:
    here = flow(depth)
    assert len(here.genes) == 2 * groups <= 16
    assert len(here.longest) == 2 * depth


def test_the_search_starts_in_the_middle_with_the_first_source_as_it_is() -> None:
    scale = {"low": 0.8, "high": 1.25, "log": True}
    merge, add = flow(scale=scale), flow(sources=("add", "merged"), scale=scale)
    for here, expected in ((merge, ()), (add, [("add", n) for n in range(4)])):
        assert here.path(here.usual) == here.path((0.5,) * len(here.genes))
        assert layers(here.path(here.usual)) == list(expected)
        assert all(step.scale == 1.0 for step in here.path(here.usual))


def test_a_path_through_nothing_is_where_the_search_starts() -> None:
    here = flow(sources=("add",))
    assert here.path(passing(here)) == here.path(here.usual)


def test_the_state_that_enters_a_group_of_layers_is_scaled_once() -> None:
    here = flow(4, layers=2, repeats=1, sources=("add",), scale={"low": 0.5, "high": 2.0})
    assert here.names == ("add.0-1/pass", "add.0-1/scale", "add.2-3/pass", "add.2-3/scale")
    path = here.path((1.0, 0.0, 1.0, 1.0))
    assert [step.scale for step in path] == [0.5, 1.0, 2.0, 1.0]


def test_a_point_drawn_from_everywhere_changes_about_two_slots() -> None:
    here = flow(8, sources=("merged", "add"), repeats=3)
    usual = set(layers(here.path(here.usual)) or [(None, n) for n in range(8)])
    rng = np.random.default_rng(0)
    changed = []
    for _ in range(300):
        passed = [g.value(u) for g, u in zip(here.genes, rng.random(48), strict=True)]
        changed.append(sum(p != s.usual for p, s in zip(passed, here.slots, strict=True)))
    assert np.mean(changed) == pytest.approx(2.0, abs=0.25)
    assert len(usual) == 8


@given(st.data())
def test_a_path_leads_back_to_a_point_that_gives_it(data: st.DataObject) -> None:
    order = data.draw(st.sampled_from(["models", "depth"]))
    here = flow(3, sources=("merged", "add"), order=order, scale={"low": 0.5, "high": 2.0})
    unit = st.floats(0, 1)
    genome = data.draw(st.lists(unit, min_size=len(here.genes), max_size=len(here.genes)))
    path = here.path(genome)
    found = here.locate(path)
    assert found is not None
    again = here.path(found)
    assert layers(again) == layers(path)
    assert [s.scale for s in again] == pytest.approx([s.scale for s in path], rel=1e-6)


def test_a_path_elsewhere_has_no_point() -> None:
    here = flow(3, repeats=1)
    assert here.locate((Step(layer=1), Step(layer=0))) is None
    assert here.locate((Step(model="add", layer=1),)) is None
    assert here.locate((Step(layer=1, scale=2.0),)) is None
    assert here.locate((Step(layer=1, weights={"mlp.up_proj.weight": 0.0}),)) is None
    assert here.locate(()) is not None


def test_what_is_wrong_with_a_path_is_told_with_its_field() -> None:
    given = LayerPath(sources=("merged", "fact"), repeats=8)
    assert [p.field for p in problems(given, NAMES, llama(100))] == [
        "space.path.sources[1]",
        "space.path",
    ]
    two = Layout.of(
        Tensor(name=f"{stack}.{n}.w", shape=(2,), dtype="F32")
        for stack in ("encoder.layers", "decoder.layers")
        for n in range(2)
    )
    (problem,) = problems(LayerPath(), NAMES, two)
    assert "there are decoder.layers, encoder.layers" in problem.message
    assert list(problems(LayerPath(), NAMES, Layout(tensors=()))) == []


@pytest.fixture
def space(declaration: MethodDeclaration, document: dict[str, Any], layout: Layout) -> SearchSpace:
    document["space"]["path"] = {"sources": ["merged", "add"], "repeats": 1}
    return SearchSpace(declaration, parse_spec(document), layout)


def test_genes_of_the_path_follow_those_of_the_merge(space: SearchSpace) -> None:
    assert space.dim == 9 * 3 + 8
    assert space.names[27:29] == ("merged.0/pass", "merged.1/pass")
    recipe = space.decode([0.5] * 27 + [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    assert recipe.path == (Step(layer=0), Step(layer=2), Step(layer=3), Step(model="add", layer=3))
    assert recipe.at(0)["weight"] == (0.75, 0.75, 0.75)
    assert recipe.models == NAMES


def test_a_search_of_paths_begins_without_one(space: SearchSpace) -> None:
    assert all(candidate.recipe.path == () for candidate in opening(space))


def test_a_recipe_is_found_again_with_its_path(space: SearchSpace) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        recipe = space.decode(rng.random(space.dim))
        found = space.locate(recipe)
        assert found is not None
        assert space.decode(found).path == recipe.path
    assert space.locate(recipe.model_copy(update={"path": (Step(layer=0),) * 2})) is None


LINEAR = MethodDeclaration(
    name="linear",
    summary="",
    source="",
    parameters=(Parameter("weight", "of a parent", per_parent=True),),
    uses_base=False,
    parent_values={},
)


@pytest.mark.parametrize(("sources", "known"), [(["merged"], True), (["add"], False)])
def test_baselines_are_points_of_the_space_where_paths_start_with_the_merge(
    document: dict[str, Any], layout: Layout, sources: list[str], known: bool
) -> None:
    document |= {"method": "linear", "space": {"parameters": {"weight": {"low": 0, "high": 1}}}}
    document["space"]["path"] = {"sources": sources}
    space = SearchSpace(LINEAR, parse_spec(document), layout)
    parents = [c for c in opening(space) if c.origin.move == "parent"]
    assert [c.genome is not None for c in parents] == [known] * 3
    for candidate in parents:
        if candidate.genome is not None:
            assert space.decode(candidate.genome).path == candidate.recipe.path == ()
