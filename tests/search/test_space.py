from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.layout import Layout
from search.method import MethodDeclaration, Parameter, one_of
from search.problems import Invalid
from search.space import EVERYWHERE, Choice, Gene, SearchSpace
from search.spec import parse_spec


@pytest.fixture
def space(declaration: MethodDeclaration, document: dict[str, Any], layout: Layout) -> SearchSpace:
    return SearchSpace(declaration, parse_spec(document), layout)


def test_a_gene_for_every_block_and_parent_with_a_readable_name(space: SearchSpace) -> None:
    assert space.dim == 9 * 3
    assert space.names[:4] == (
        "embed/weight/add",
        "embed/weight/reverse",
        "embed/weight/facts",
        "layers.0-1.rest/weight/add",
    )


def test_decode_fills_tables_and_keeps_what_is_fixed(space: SearchSpace) -> None:
    recipe = space.decode([0.0, 0.5, 1.0] * 9)
    assert recipe.at(0) == {
        "weight": (0.0, 0.75, 1.5),
        "density": 0.5,
        "lambda": 1.0,
        "normalize": True,
        "rescale": "l1",
    }


def test_encode_finds_the_point_that_decodes_to_the_values(space: SearchSpace) -> None:
    recipe = space.decode(space.encode({"weight": (0.25, 1.0, 0.0)}))
    assert all(recipe.at(block)["weight"] == (0.25, 1.0, 0.0) for block in range(9))


@given(st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_decode_is_strictly_increasing_so_that_different_points_differ(
    a: float, b: float, log: bool
) -> None:
    gene = Gene(0, "weight", None, low=0.1, high=1.5, log=log)
    if abs(a - b) > 1e-12:
        assert (a < b) == (gene.value(a) < gene.value(b))


@given(st.floats(-1, 2), st.booleans())
def test_values_never_leave_the_range(unit: float, log: bool) -> None:
    gene = Gene(0, "weight", None, low=0.1, high=1.5, log=log)
    assert 0.1 <= gene.value(unit) <= 1.5
    assert gene.unit(gene.value(unit)) == pytest.approx(min(max(unit, 0), 1), abs=1e-9)


def test_genome_of_the_wrong_length_is_refused(space: SearchSpace) -> None:
    with pytest.raises(ValueError, match="expected a genome of 27 genes, got 3"):
        space.decode([0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("parameters", "field", "message"),
    [
        ({"wieght": 1.0}, "wieght", "'ties' has no such parameter; did you mean 'weight'?"),
        (
            {"density": {"low": 0.5, "high": 20}},
            "density",
            "is 20, but must be between 0 and 1: a fraction",
        ),
        ({"density": -0.1}, "density", "is -0.1, but must be between 0 and 1: a fraction"),
        ({"density": [0.5, 0.5]}, "density", "has 2 numbers for 3 parents"),
        ({"lambda": [1.0, 1.0, 1.0]}, "lambda", "is one number for all parents, not a list"),
        (
            {"normalize": {"low": 0, "high": 1}},
            "normalize",
            "is true, false, or {choices: [true, false]}",
        ),
        ({"rescale": "l2"}, "rescale", "is one of l1, none, or {choices: [...]}"),
        ({"weight": True}, "weight", "is a number or a range, not True"),
    ],
)
def test_settings_that_do_not_fit_their_parameter(
    declaration: MethodDeclaration,
    document: dict[str, Any],
    layout: Layout,
    parameters: dict[str, Any],
    field: str,
    message: str,
) -> None:
    document["space"]["parameters"] = parameters
    with pytest.raises(Invalid) as caught:
        SearchSpace(declaration, parse_spec(document), layout)
    (problem,) = caught.value.problems
    assert problem.field == f"space.parameters.{field}"
    assert problem.message == message


def test_too_many_parents_for_a_method(document: dict[str, Any], layout: Layout) -> None:
    slerp = MethodDeclaration(
        name="ties",
        summary="",
        source="",
        parameters=(Parameter("t", "where between the two"),),
        uses_base=False,
        minimum_parents=2,
        maximum_parents=2,
    )
    document["space"]["parameters"] = {}
    with pytest.raises(Invalid, match="parents: 'ties' takes exactly 2 parents, not 3"):
        SearchSpace(slerp, parse_spec(document), layout)


# choices


def space_of(
    document: dict[str, Any], layout: Layout, declaration: MethodDeclaration, **parameters: Any
) -> SearchSpace:
    document["space"]["parameters"] = parameters
    return SearchSpace(declaration, parse_spec(document), layout)


def test_a_number_among_choices_is_chosen_for_every_block_and_parent(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    space = space_of(document, layout, declaration, density={"choices": [0.1, 0.5, 1.0]})
    assert space.dim == 9 * 3
    recipe = space.decode([0.0, 0.34, 0.99] * 9)
    assert all(recipe.at(block)["density"] == (0.1, 0.5, 1.0) for block in range(9))
    assert recipe.at(0)["weight"] == 1.0


def test_words_and_flags_are_chosen_once_for_the_model(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    space = space_of(
        document,
        layout,
        declaration,
        rescale={"choices": ["none", "l1"]},
        normalize={"choices": [True, False]},
    )
    assert sorted(space.names) == ["model/normalize", "model/rescale"]
    values = {
        (recipe.parameters["rescale"], recipe.parameters["normalize"])
        for recipe in (space.decode([a, b]) for a in (0.2, 0.8) for b in (0.2, 0.8))
    }
    assert values == {("none", True), ("none", False), ("l1", True), ("l1", False)}


@given(place=st.integers(0, 4), count=st.integers(5, 9))
def test_the_middle_of_a_part_is_its_choice(place: int, count: int) -> None:
    gene = Choice(EVERYWHERE, "k", None, tuple(range(count)))
    assert gene.value(gene.unit(place)) == place
    assert gene.value(0.0) == 0
    assert gene.value(1.0) == count - 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"choices": [0.5]}, "has 1; name at least 2"),
        ({"choices": [0.5, 0.5]}, "0.5 stands there more than once"),
        ({"choices": [0.5, 20]}, "is 20, but must be between 0 and 1: a fraction"),
        ({"choices": [0.5, "much"]}, "is a number or a range, not 'much'"),
    ],
)
def test_choices_that_do_not_fit(
    declaration: MethodDeclaration,
    document: dict[str, Any],
    layout: Layout,
    setting: Any,
    message: str,
) -> None:
    with pytest.raises(Invalid) as caught:
        space_of(document, layout, declaration, density=setting)
    assert caught.value.problems[0].message.replace("'0.5'", "0.5") == message


OTHER = MethodDeclaration(
    name="other",
    summary="",
    source="",
    parameters=(
        Parameter("weight", "share", per_parent=True, low=0.0, high=1.0),
        Parameter("rounds", "how often", "integer", default=3, minimum=1, maximum=9),
    ),
    uses_base=False,
    presets={"paper": {"rounds": 7}},
)


def test_the_method_itself_is_chosen(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    document["method"] = {"choices": ["ties", "other"]}
    both = one_of([declaration, OTHER])
    space = space_of(
        document,
        layout,
        both,
        weight={"low": 0.0, "high": 1.0},
        rounds={"choices": [2, 4]},
        density=0.25,
    )
    assert space.names[:2] == ("model/method", "model/rounds")
    first = space.decode([0.2, 0.9, *[0.5] * 27])
    second = space.decode([0.7, 0.9, *[0.5] * 27])
    assert (first.method, second.method) == ("ties", "other")
    assert first.parameters["density"] == 0.25
    assert "rounds" not in first.parameters
    assert second.parameters["rounds"] == 4
    assert set(second.parameters) == {"weight", "rounds"}


def test_a_preset_holds_for_the_methods_that_have_it(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    space = space_of(document, layout, one_of([declaration, OTHER]), compat="paper")
    assert space.decode([0.9]).parameters["rounds"] == 7


SCALED = replace(OTHER, parameters=(Parameter("weight", "of all parents alike"),))


@pytest.mark.parametrize("turned", [False, True])
def test_a_number_of_one_method_is_every_parents_in_another(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout, turned: bool
) -> None:
    names = ["other", "ties"] if turned else ["ties", "other"]
    document["method"] = {"choices": names}
    both = [SCALED, declaration] if turned else [declaration, SCALED]
    space = space_of(document, layout, one_of(both), weight={"low": 0.0, "high": 1.0})
    one = {
        name: space.decode([place, *[0.25] * (space.dim - 1)])
        for place, name in zip((0.2, 0.7), names, strict=True)
    }
    parents = len(document["parents"])
    assert set(one["ties"].parameters["weight"]) == {(0.25,) * parents}
    assert set(one["other"].parameters["weight"]) == {0.25}
    assert space.dim == 1 + len(space.blocks)


def test_a_parameter_must_be_known_to_one_of_the_methods(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    with pytest.raises(Invalid) as caught:
        space_of(document, layout, one_of([declaration, OTHER]), wieght=1.0, density=7.0)
    messages = {problem.field: problem.message for problem in caught.value.problems}
    assert messages["space.parameters.wieght"].endswith("did you mean 'weight'?")
    assert messages["space.parameters.density"].startswith("for 'ties': is 7")
