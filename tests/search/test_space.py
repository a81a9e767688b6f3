import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.geometry import Geometry
from search.layout import LayerGroups, Layout, Segments
from search.method import LINES, MethodDeclaration, Parameter, one_of
from search.problems import Invalid
from search.recipe import Recipe, mixture
from search.run import opening
from search.space import EVERYWHERE, Choice, Gene, SearchSpace
from search.spec import SearchSpec, parse_spec
from tests.search.conftest import llama

EXAMPLES = settings(max_examples=25)


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


# spaces of few dimensions


def test_attention_and_mlp_apart_over_all_layers(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    document["space"]["blocks"] = {"layers": "all", "modules": ["attention", "mlp"]}
    space = space_of(document, layout, declaration, **{"lambda": {"low": 0.0, "high": 1.0}})
    assert space.names == (
        "embed/lambda",
        "layers.0-3.rest/lambda",
        "layers.0-3.mlp/lambda",
        "layers.0-3.attention/lambda",
        "final_norm/lambda",
        "head/lambda",
    )


def test_a_gradient_has_knots_over_depth_and_lines_in_between(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    del document["space"]["blocks"]
    space = space_of(
        document, layout, declaration, **{"lambda": {"low": 0.0, "high": 3.0, "gradient": 3}}
    )
    assert space.names == ("layers@0/lambda", "layers@0.5/lambda", "layers@1/lambda")
    recipe = space.decode([0.0, 1.0, 0.0])
    assert dict(zip(recipe.blocks, recipe.parameters["lambda"], strict=True)) == pytest.approx(
        {
            "embed": 0.0,
            "layers.0": 0.0,
            "layers.1": 2.0,
            "layers.2": 2.0,
            "layers.3": 0.0,
            "final_norm": 0.0,
            "head": 0.0,
        }
    )


def test_gradients_of_modules_are_apart(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    space = space_of(
        document,
        layout,
        declaration,
        **{"lambda": {"low": 0.0, "high": 1.0, "gradient": 2}, "density": {"low": 0.1, "high": 1}},
    )
    knots = [name for name in space.names if name.endswith("/lambda")]
    assert sorted(knots) == [
        f"layers.{module}@{at}/lambda" for module in ("attention", "mlp", "rest") for at in (0, 1)
    ]
    # The blocks of the spec are those of what has no gradient.
    assert [name for name in space.names if "density/add" in name] == [
        f"{block}/density/add" for block in layout_blocks(layout)
    ]
    assert "layers.1.mlp" in space.blocks


def layout_blocks(layout: Layout) -> list[str]:
    groups = LayerGroups(layers=2, modules=("attention", "mlp"))
    return [block.name for block in layout.blocks(groups)]


def test_every_tensor_can_have_a_gradient(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    document["space"]["blocks"] = "tensor"
    space = space_of(
        document, layout, declaration, **{"lambda": {"low": 0.0, "high": 1.0, "gradient": 2}}
    )
    assert "model.layers.mlp.up_proj.weight@1/lambda" in space.names
    assert "lm_head.weight@1/lambda" in space.names
    assert "lm_head.weight@0/lambda" not in space.names


@given(st.lists(st.floats(0, 1), min_size=12, max_size=12))
@EXAMPLES
def test_a_gradient_stays_in_its_range(genome: list[float]) -> None:
    space = SearchSpace(TIES, few_dimensions({"gradient": 4}), llama(7))
    for row in space.decode(genome).parameters["weight"]:  # type: ignore[union-attr]  # a table
        assert all(0.1 <= weight <= 1.5 for weight in row)  # type: ignore[union-attr]  # of rows


def test_a_gradient_of_more_knots_than_layers_is_refused(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    with pytest.raises(Invalid) as caught:
        space_of(document, layout, declaration, weight={"low": 0, "high": 1, "gradient": 5})
    (problem,) = caught.value.problems
    assert problem.field == "space.parameters.weight.gradient"
    assert problem.message.startswith("has 5 knots for 4 layers")


def test_a_number_can_be_one_for_the_whole_model(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    space = space_of(
        document,
        layout,
        declaration,
        **{
            "weight": {"low": 0.0, "high": 1.0, "blocks": "model"},
            "lambda": {"choices": [0.5, 1.0], "blocks": "model"},
        },
    )
    assert space.names == (
        "model/weight/add",
        "model/weight/reverse",
        "model/weight/facts",
        "model/lambda",
    )
    recipe = space.decode([0.25, 0.5, 1.0, 0.9])
    assert all(recipe.at(block)["weight"] == (0.25, 0.5, 1.0) for block in range(9))
    assert all(recipe.at(block)["lambda"] == 1.0 for block in range(9))


def test_scaling_by_depth_is_searched_once_for_the_model(
    document: dict[str, Any], layout: Layout
) -> None:
    scaled = replace(OTHER, parameters=(*OTHER.parameters, *LINES))
    span = {"low": 0.0, "high": 1.0}
    space = space_of(document, layout, scaled, lines_alpha=span, lines_beta=span)
    assert space.names == ("model/lines_alpha", "model/lines_beta")
    with pytest.raises(Invalid, match="which has no gradient"):
        space_of(document, layout, scaled, lines_alpha={**span, "gradient": 2})


# optional parents


@pytest.fixture
def optional(document: dict[str, Any], layout: Layout) -> SearchSpace:
    for parent in document["parents"][1:]:
        parent["optional"] = True
    document["space"]["blocks"] = "model"
    return space_of(
        document, layout, PAIR, weight={"low": 0.0, "high": 1.0}, density=[0.1, 0.2, 0.3]
    )


PAIR = MethodDeclaration(
    name="pair",
    summary="",
    source="",
    parameters=(
        Parameter("weight", "share", per_parent=True),
        Parameter("density", "a fraction", per_parent=True),
    ),
    uses_base=False,
    minimum_parents=2,
)


def test_an_optional_parent_may_be_left_out(optional: SearchSpace) -> None:
    assert optional.names[:2] == ("model/include/reverse", "model/include/facts")
    recipe = optional.decode([0.2, 0.9, 0.25, 0.5, 1.0])
    assert recipe.parents == ("add", "facts")
    assert recipe.at(0) == {"weight": (0.25, 1.0), "density": (0.1, 0.3)}
    whole = optional.decode([0.9, 0.9, 0.25, 0.5, 1.0])
    assert whole.parents == ("add", "reverse", "facts")


def test_what_too_few_parents_are_left_for_is_their_average(optional: SearchSpace) -> None:
    parent = mixture(("add", "reverse", "facts"), (1.0, 0.0, 0.0))
    assert optional.decode([0.2, 0.2, 0.5, 0.5, 0.5]) == parent == opening(optional)[1].recipe


def test_a_warm_start_includes_everybody(optional: SearchSpace) -> None:
    assert list(optional.encode({"weight": (1.0, 0.0, 0.0)})) == [0.75, 0.75, 1.0, 0.0, 0.0]


# norm and direction

NORM = {"norm": {"low": 0.25, "high": 1.25}}


def directed(document: dict[str, Any], layout: Layout, **more: Any) -> SearchSpace:
    adding = replace(PAIR, minimum_parents=1, uses_base=True)
    return space_of(document, layout, adding, weight={**NORM, **more})


def test_one_norm_for_the_model_and_directions_for_its_blocks(
    document: dict[str, Any], layout: Layout
) -> None:
    document["space"]["blocks"] = {"layers": "all"}
    space = directed(document, layout)
    assert space.names == (
        "model/norm",
        *(f"{b}/share/{p}" for b in space.blocks for p in ("add", "reverse")),
    )
    recipe = space.decode([0.5, *[1.0, 0.3] * 4])
    assert [recipe.at(block)["weight"] for block in range(4)] == [(0.75, 0.0, 0.0)] * 4
    space = directed(document, layout, blocks="model")
    assert space.names == ("model/norm", "model/share/add", "model/share/reverse")


def test_weights_that_have_a_norm_are_found_again(document: dict[str, Any], layout: Layout) -> None:
    space = directed(document, layout)
    genome = np.random.default_rng(3).random(space.dim)
    found = space.locate(space.decode(genome))
    assert found == pytest.approx(genome)
    assert space.decode(space.encode({"weight": (0.0, 0.5, 0.0)})).at(0)["weight"] == pytest.approx(
        (0.0, 0.5, 0.0)
    )
    assert space.reaches({"weight": (0.0, 1.0, 0.0)})
    assert not space.reaches({"weight": (0.0, 0.0, 0.0)})
    assert not space.reaches({"weight": (2.0, 0.0, 0.0)})


def test_lengths_are_those_of_the_models(document: dict[str, Any], layout: Layout) -> None:
    """The third parent has changed twice as much as the others."""
    cells = len(layout.grid()) - 1
    gram = np.zeros((cells, 4, 4))
    gram[:, 1:, 1:] = np.diag([1.0, 1.0, 4.0])
    geometry = Geometry(np.array(layout.grid()), gram)
    document["space"]["parameters"] = {"weight": NORM}
    adding = replace(PAIR, minimum_parents=1, uses_base=True)
    space = SearchSpace(adding, parse_spec(document), layout, geometry)
    mean = (1 + 1 + 2) / 3
    recipe = space.decode([0.75, *[0.0, 0.0] * 9])
    assert recipe.at(4)["weight"] == pytest.approx((0.0, 0.0, mean / 2))


def test_who_is_left_out_has_no_part_in_the_norm(document: dict[str, Any], layout: Layout) -> None:
    document["parents"][0]["optional"] = True
    document["space"]["blocks"] = "model"
    space = directed(document, layout)
    recipe = space.decode([0.0, 0.75, 0.9, 0.5])
    assert recipe.parents == ("reverse", "facts")
    assert np.linalg.norm(recipe.at(0)["weight"]) == pytest.approx(1.0)
    found = space.locate(recipe)
    assert found is not None
    assert space.decode(found).at(0)["weight"] == pytest.approx(recipe.at(0)["weight"])


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ({"uses_base": False}, {"weight": NORM}, "weighs models and not what they change"),
        ({"uses_base": True}, {"density": NORM}, "has no norm: only weights of parents have one"),
    ],
)
def test_what_has_no_norm(
    document: dict[str, Any],
    layout: Layout,
    method: dict[str, Any],
    parameters: dict[str, Any],
    message: str,
) -> None:
    declaration = replace(PAIR, minimum_parents=1, **method)
    with pytest.raises(Invalid, match=message):
        space_of(document, layout, declaration, **parameters)


def test_weights_that_are_divided_by_their_sum_have_no_norm(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    with pytest.raises(Invalid, match="set normalize: false"):
        space_of(document, layout, declaration, weight=NORM)
    assert space_of(document, layout, declaration, weight=NORM, normalize=False).dim == 1 + 9 * 2


# where a recipe lies


TIES = replace(
    PAIR,
    name="ties",
    parameters=(
        *PAIR.parameters,
        Parameter("lambda", "scale"),
        Parameter("rescale", "how", kind="choice", default="l1", choices=("l1", "none")),
    ),
)
SPACES: dict[str, tuple[Any, dict[str, Any]]] = {
    "one weight per parent": ("model", {}),
    "modules apart": ({"layers": "all", "modules": ["attention", "mlp"]}, {}),
    "a gradient": ("model", {"gradient": 3}),
    "gradients of modules": ({"layers": 1, "modules": ["mlp"]}, {"gradient": 2}),
    "pairs of layers": ({"layers": 2}, {}),
    "layers": ({"layers": 1}, {}),
    "layers and modules": ({"layers": 1, "modules": ["attention", "mlp", "norm"]}, {}),
    "tensors": ("tensor", {}),
}


def few_dimensions(
    weight: dict[str, Any], blocks: Any = "model", *, optional: bool = False, **parameters: Any
) -> SearchSpec:
    return parse_spec(
        {
            "name": "few",
            "base": {"path": "base"},
            "parents": [{"name": name, "path": name, "optional": optional} for name in "abc"],
            "method": "ties",
            "space": {
                "blocks": blocks,
                "parameters": {"weight": {"low": 0.1, "high": 1.5, **weight}, **parameters},
            },
            "objectives": [{"task": "t", "metric": "acc"}],
            "budget": {"evaluations": 50},
        }
    )


def of_spaces(name: str, **more: Any) -> SearchSpace:
    blocks, weight = SPACES[name]
    return SearchSpace(TIES, few_dimensions(weight, blocks, **more), llama(4))


@pytest.mark.parametrize("name", SPACES)
@given(seed=st.integers(0, 2**32 - 1))
@EXAMPLES
def test_a_recipe_of_the_space_is_located_where_it_came_from(name: str, seed: int) -> None:
    space = of_spaces(name, density={"low": 0.1, "high": 1.0, "log": True})
    genome = np.random.default_rng(seed).random(space.dim)
    found = space.locate(space.decode(genome))
    assert found is not None
    assert found == pytest.approx(genome, abs=1e-9)


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ("one weight per parent", "modules apart"),
        ("one weight per parent", "a gradient"),
        ("one weight per parent", "layers"),
        ("one weight per parent", "tensors"),
        ("modules apart", "layers and modules"),
        ("modules apart", "tensors"),
        ("a gradient", "layers"),
        ("a gradient", "tensors"),
        ("gradients of modules", "layers and modules"),
        ("pairs of layers", "layers"),
        ("layers", "layers and modules"),
    ],
)
@given(seed=st.integers(0, 2**32 - 1))
@EXAMPLES
def test_a_larger_space_contains_what_a_smaller_one_makes(
    small: str, large: str, seed: int
) -> None:
    ours, theirs = of_spaces(small), of_spaces(large)
    recipe = ours.decode(np.random.default_rng(seed).random(ours.dim))
    genome = theirs.locate(recipe)
    assert genome is not None
    assert ours.locate(theirs.decode(genome)) is not None


@pytest.mark.parametrize(
    ("large", "small"),
    [("layers", "pairs of layers"), ("tensors", "a gradient"), ("layers", "modules apart")],
)
def test_a_smaller_space_does_not_contain_what_a_larger_one_makes(large: str, small: str) -> None:
    space = of_spaces(large)
    recipe = space.decode(np.random.default_rng(0).random(space.dim))
    assert of_spaces(small).locate(recipe) is None


@given(seed=st.integers(0, 2**32 - 1))
@EXAMPLES
def test_what_optional_parents_a_recipe_has_is_found_again(seed: int) -> None:
    space = of_spaces("layers", optional=True, rescale={"choices": ["l1", "none"]})
    recipe = space.decode(np.random.default_rng(seed).random(space.dim))
    if recipe.method == "linear":  # too few are left, which is no point of the space
        assert space.locate(recipe) is None
        return
    genome = space.locate(recipe)
    assert genome is not None
    assert space.decode(genome).parents == recipe.parents
    assert (
        of_spaces("layers", rescale={"choices": ["l1", "none"]}).locate(recipe) is None
        or len(recipe.parents) == 3
    )


def test_a_recipe_of_another_kind_is_nowhere() -> None:
    space = of_spaces("layers")
    assert space.locate(mixture(("a", "b", "c"), (1.0, 0.0, 0.0))) is None
    assert space.locate(of_spaces("layers", **{"lambda": 0.5}).decode([0.5] * space.dim)) is None
    cut = Recipe(
        method="ties",
        parents=("a", "b", "c"),
        partition=Segments(boundaries=(0, 10)),
        blocks=("0:10",),
    )
    assert space.locate(cut) is None


def test_one_of_several_methods_is_located_by_its_name(
    declaration: MethodDeclaration, document: dict[str, Any], layout: Layout
) -> None:
    document["method"] = {"choices": ["ties", "other"]}
    span = {"low": 0.0, "high": 1.0}
    alone = space_of(copy.deepcopy(document), layout, OTHER, weight=span)
    both = space_of(document, layout, one_of([declaration, OTHER]), weight=span)
    recipe = alone.decode(np.random.default_rng(1).random(alone.dim))
    genome = both.locate(recipe)
    assert genome is not None
    assert both.decode(genome) == recipe
