"""A mergekit configuration becomes the recipe that merges the same weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from search.layout import LayerGroups, Layout, Partition, Tensor
from search.method import LINES, Parameter
from search.problems import Invalid, Problem
from search.recipe import Recipe
from tests.workers.mergekit.folders import merged, open_models, save_models
from workers.checkpoints.parents import Parents
from workers.mergekit import mergekit_yaml, parse_configuration, place_of, recipe_of
from workers.mergekit.dialect import TASK_VECTORS, to_mergekit
from workers.merging.merge_method import MergeMethod, methods

LAYERS = 4
PARTS = ("self_attn.q_proj", "mlp.up_proj", "input_layernorm")
TOLD = [method for method in methods if method.declaration.mergekit is not None]


def layout(layers: int = LAYERS) -> Layout:
    names = ["model.embed_tokens", "model.norm", "lm_head"]
    names += [f"model.layers.{n}.{part}" for n in range(layers) for part in PARTS]
    return Layout.of(
        Tensor(name=f"{n}.weight", shape=(128,) if "norm" in n else (8, 32), dtype="F32")
        for n in names
    )


def imported(document: Any, here: Layout | None = None) -> Recipe:
    return recipe_of(parse_configuration(document), here or layout())


def at(recipe: Recipe, name: str) -> dict[str, Any]:
    """Parameters that hold for a tensor."""
    numbers = {
        piece.tensor: number
        for number, block in enumerate(layout().blocks(recipe.partition))
        for piece in block.pieces
    }
    return recipe.at(numbers[f"{name}.weight"])


def linear(weight: Any, **more: Any) -> dict[str, Any]:
    models = [
        {"model": "one", "parameters": {"weight": weight}},
        {"model": "two", "parameters": {"weight": 1.0}},
    ]
    return {"merge_method": "linear", "models": models, **more}


def problems(document: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        imported(document)
    return {problem.field: problem.message for problem in caught.value.problems}


def test_values_that_agree_everywhere_are_a_recipe_of_one_block() -> None:
    recipe = imported(linear(0.25, parameters={"normalize": False}))
    assert recipe.partition == "model"
    assert recipe.parents == ("base", "two")
    assert recipe.parameters == {"weight": ((0.25, 1.0),), "normalize": False}


def test_a_gradient_is_spread_over_the_layers_and_its_first_knot_is_for_all_else() -> None:
    recipe = imported(linear([0.0, 0.5, 0.8]))
    assert recipe.partition == "tensor"
    found = [at(recipe, f"model.layers.{n}.mlp.up_proj")["weight"][0] for n in range(LAYERS)]
    # Layer n of 4 is at n/3 of the depth; the knots are at 0, 1/2 and 1.
    assert found == pytest.approx([0.0, 1 / 3, 0.6, 0.8])
    for outside in ("model.embed_tokens", "model.norm", "lm_head"):
        assert at(recipe, outside)["weight"] == (0.0, 1.0)


def test_numbers_with_an_exponent_are_numbers() -> None:
    document = yaml.safe_load(yaml.safe_dump(linear(1.0)).replace("1.0", "5e-1", 1))
    assert document["models"][0]["parameters"]["weight"] == "5e-1"  # so YAML 1.1 reads it
    assert imported(document).parameters["weight"] == ((0.5, 1.0),)


def test_the_only_layer_of_a_model_is_at_the_end_of_the_gradient() -> None:
    here = layout(1)
    recipe = imported(linear([0.0, 0.5]), here)
    position = [block.name for block in here.blocks("tensor")].index(
        "model.layers.0.mlp.up_proj.weight"
    )
    assert recipe.at(position)["weight"] == (0.5, 1.0)


def test_the_first_filter_that_fits_counts_and_may_hold_a_gradient() -> None:
    weight = [
        {"filter": "mlp", "value": [0.0, 0.3]},
        {"filter": "proj", "value": 0.7},
        {"filter": "*", "value": 0.2},
        {"value": 0.9},
    ]
    recipe = imported(linear(weight))
    assert at(recipe, "model.layers.1.mlp.up_proj")["weight"][0] == pytest.approx(0.1)
    assert at(recipe, "model.layers.1.self_attn.q_proj")["weight"][0] == 0.7
    assert at(recipe, "model.norm")["weight"][0] == 0.2


def test_what_a_model_does_not_say_its_slice_says_and_then_the_whole() -> None:
    def source(model: str, layers: list[int], **parameters: Any) -> dict[str, Any]:
        return {"model": model, "layer_range": layers, "parameters": parameters}

    some = {"weight": [{"filter": "mlp", "value": 0.1}]}
    document = {
        "merge_method": "linear",
        "slices": [
            {
                "sources": [source("one", [0, 1], **some), source("two", [0, 1])],
                "parameters": {"weight": 0.2},
            },
            {"sources": [source("one", [1, 4], **some), source("two", [1, 4], weight=[0.4, 0.8])]},
        ],
        "parameters": {"weight": 0.3},
    }
    recipe = imported(document)
    weights = {
        name: at(recipe, name)["weight"]
        for name in (
            "model.embed_tokens",
            "model.layers.0.mlp.up_proj",
            "model.layers.2.mlp.up_proj",
            "model.layers.3.input_layernorm",
            "model.norm",
        )
    }
    assert weights == {
        "model.embed_tokens": (0.2, 0.2),  # of the first slice
        "model.layers.0.mlp.up_proj": (0.1, 0.2),
        "model.layers.2.mlp.up_proj": pytest.approx((0.1, 0.6)),  # the middle of the second slice
        "model.layers.3.input_layernorm": (0.3, 0.8),
        "model.norm": (0.3, 0.4),  # of the last slice, at its first knot
    }


def test_slerp_starts_at_the_base_model_in_whatever_order_models_are_listed() -> None:
    document = {
        "merge_method": "slerp",
        "base_model": "two",
        "models": [{"model": "one"}, {"model": "two"}],
        "parameters": {"t": 0.1},
    }
    configuration = parse_configuration(document)
    assert configuration.models == {"base": "two", "one": "one"}
    assert configuration.parents == ("base", "one")


def test_the_base_adds_nothing_to_itself() -> None:
    models = [{"model": m, "parameters": {"weight": 0.5}} for m in ("zero", "one", "two")]
    document = {"merge_method": "ties", "base_model": "zero", "models": models}
    recipe = imported(document)
    assert recipe.parents == ("one", "two")
    assert recipe.parameters["density"] == ((1.0, 1.0),)  # mergekit's default, not ours


@pytest.mark.parametrize(("written", "means"), [(None, "l1"), (True, "l1"), (False, "none")])
def test_rescale_of_dare_keeps_the_l1_norm_or_nothing(written: bool | None, means: str) -> None:
    document = {
        "merge_method": "dare_linear",
        "base_model": "zero",
        "models": [{"model": "one", "parameters": {"weight": 0.5, "density": 0.3}}],
        "parameters": {} if written is None else {"rescale": written},
    }
    assert imported(document).parameters["rescale"] == means


def test_dtype_is_that_of_the_result() -> None:
    assert parse_configuration(linear(1.0)).dtype == "auto"
    assert parse_configuration(linear(1.0, dtype="float16")).dtype == "float16"
    both = parse_configuration(linear(1.0, dtype="float32", out_dtype="bfloat16"))
    assert both.dtype == "bfloat16"
    assert not both.notes


def test_what_changes_no_weight_is_noted() -> None:
    document = linear(
        0.5, parameters={"int8_mask": True, "density": 0.5}, dtype="bfloat16", chat_template="auto"
    )
    fields = [note.field for note in parse_configuration(document).notes]
    assert fields == ["dtype", "chat_template", "parameters.int8_mask", "parameters.density"]


def slices(*layers: tuple[int, int], method: str = "linear") -> dict[str, Any]:
    parameters = {"weight": 1.0}
    parts = [
        {"sources": [{"model": m, "layer_range": list(part)} for m in ("one", "two")]}
        for part in layers
    ]
    return {"merge_method": method, "slices": parts, "parameters": parameters}


@pytest.mark.parametrize(
    ("document", "field", "says"),
    [
        ({"merge_method": "linear"}, "models", "either models or slices"),
        (slices((0, 2), (1, 4)), "slices[1].sources[0].layer_range", "stack them with passthrough"),
        (slices((0, 4), method="linaer"), "merge_method", "did you mean 'linear'?"),
        (slices((0, 3)), "slices[0].sources[0].layer_range", "the base has 4 layers"),
        (slices((0, 3), (2, 4)), "slices[1].sources[0].layer_range", "where layer 3 is next"),
        (slices((0, 3), (3, 3)), "slices[1].sources[0].layer_range", "starts at layer 3"),
        (
            {
                "merge_method": "linear",
                "slices": [
                    {
                        "sources": [
                            {"model": "one", "layer_range": [0, 4]},
                            {"model": "two", "layer_range": [1, 5]},
                        ]
                    }
                ],
            },
            "slices[0].sources[0].layer_range",
            "differs between models",
        ),
        (
            {"merge_method": "linear", "slices": [{"sources": [{"model": "one"}]}]},
            "slices[0].sources[0].layer_range",
            "is required in slices",
        ),
        (
            {
                **slices((0, 2)),
                "slices": [
                    *slices((0, 2))["slices"],
                    {"sources": [{"model": "one", "layer_range": [2, 4]}]},
                ],
            },
            "slices[1].sources",
            "must be the models of the first slice: one, two",
        ),
        ({"merge_method": "linear", "modules": {}}, "modules", "models of several parts"),
        (linear("much"), "models[0].parameters.weight", "is 'much'; write a number"),
        (linear([{"filter": "mlp"}]), "models[0].parameters.weight[0]", "has a `value`"),
        (linear([{"filter": 3, "value": 1.0}]), "models[0].parameters.weight[0].filter", "not 3"),
        (linear([{"filter": "mlp", "value": 1.0}]), "models[0].parameters.weight", "is required"),
        (linear(1.0, parameters={"weigth": 2}), "parameters.weigth", "did you mean 'weight'?"),
        (linear(1.0, parameters={"normalize": 0.5}), "parameters.normalize", "true or false"),
        (
            linear(1.0, parameters={"normalize": [{"filter": "mlp", "value": 0}, {"value": 1}]}),
            "parameters.normalize",
            "differs between tensors",
        ),
        (linear(1.0, tokenizer_source="union"), "tokenizer_source", "union of all vocabularies"),
        (linear(1.0, tokenizer_source="base"), "tokenizer_source", "there is no base_model"),
        (
            linear(1.0, tokenizer={"source": "one", "tokens": {"<x>": {}}}),
            "tokenizer.tokens",
            "another vocabulary",
        ),
        (linear(1.0, dtype="int8"), "dtype", "known: bfloat16, float16, float32"),
        (linear(1.0, base_model="zero"), "base_model", "is merged too; list it with a weight"),
        (linear(1.0, normalise=True), "normalise", "unknown field"),
        (
            {"merge_method": "linear", "models": [{"model": "one"}, {"model": "two+lora"}]},
            "models[1].model",
            "puts the adapter 'lora' into 'two', but the base is 'one'; save the adapted model",
        ),
        (
            {"merge_method": "ties", "base_model": "one+a", "models": [{"model": "one+b"}]},
            "base_model",
            "a whole model, without an adapter",
        ),
        (
            {"merge_method": "linear", "models": [{"model": "one"}, {"model": "one"}]},
            "models[1].model",
            "more than once",
        ),
        (
            {"merge_method": "ties", "models": [{"model": "one", "parameters": {"weight": 1}}]},
            "base_model",
            "is required by ties",
        ),
        (
            {
                "merge_method": "ties",
                "base_model": "zero",
                "models": [{"model": "one", "parameters": {"weight": 1, "density": 20}}],
            },
            "models[0].parameters.density",
            "is 20, but must be between 1e-06 and 1",
        ),
        (
            {
                "merge_method": "slerp",
                "base_model": "one",
                "models": [{"model": m} for m in ("one", "two", "three")],
                "parameters": {"t": 0.5},
            },
            "models",
            "'slerp' takes exactly 2 parents, not 3",
        ),
    ],
)
def test_what_a_recipe_cannot_say_is_refused_where_it_stands(
    document: Any, field: str, says: str
) -> None:
    found = problems(document)
    assert field in found
    assert says in found[field]


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.sampled_from([0.5, "base", "a+b", "1e-3"]),
    lambda part: (
        st.lists(part, max_size=3)
        | st.dictionaries(st.sampled_from(["filter", "value", "model", "weight"]), part, max_size=3)
    ),
    max_leaves=5,
)


def places_in(document: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything in a document."""
    pairs = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(pairs):
        yield document, key
        if isinstance(value, dict | list):
            yield from places_in(value)


def complaints(document: Any) -> tuple[Problem, ...]:
    try:
        imported(document)
    except Invalid as invalid:
        return invalid.problems
    return ()


@given(st.data())
def test_whatever_is_wrong_is_a_problem_with_a_field(data: st.DataObject) -> None:
    document = data.draw(st.sampled_from([slices((0, 2), (2, 4)), linear([0.0, 0.5])]))
    document |= {"base_model": "one", "dtype": "float32", "tokenizer_source": "base"}
    document = yaml.safe_load(yaml.safe_dump(document))
    container, key = data.draw(st.sampled_from(list(places_in(document))))
    container[key] = data.draw(anything)
    assert all(problem.field and problem.message for problem in complaints(document))


# Round trips.


def values_of(parameter: Parameter) -> st.SearchStrategy[Any]:
    """Values that the method accepts."""
    if parameter.kind == "flag":
        return st.booleans()
    if parameter.kind == "choice":
        return st.sampled_from(parameter.choices)
    if parameter.kind == "integer":
        return st.just(parameter.default)
    low, high = max(parameter.low, parameter.minimum), min(parameter.high, parameter.maximum)
    return st.integers(0, 1000).map(lambda n: min(low + (high - low) * n / 1000, high))


@st.composite
def recipes(draw: Callable[..., Any]) -> Recipe:
    method: MergeMethod = draw(st.sampled_from(TOLD))
    count = 2 if method.declaration.takes(2) else method.declaration.minimum_parents
    partition: Partition = draw(
        st.sampled_from(["model", "tensor", LayerGroups(), LayerGroups(layers=2, modules=("mlp",))])
    )
    blocks = tuple(block.name for block in layout().blocks(partition))
    parameters: dict[str, Any] = {}
    for parameter in method.declaration.parameters:
        one = values_of(parameter)
        if parameter.kind != "float":
            parameters[parameter.name] = draw(one)
            continue
        row = st.tuples(*[one] * count) if parameter.per_parent else one
        parameters[parameter.name] = tuple(draw(row) for _ in blocks)
    return Recipe(
        method=method.name,
        parents=("one", "two")[:count],
        partition=partition,
        blocks=blocks,
        parameters=parameters,
    )


def words(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """What every tensor's parameters are in mergekit's words."""
    method = methods[recipe.method]
    for number, block in enumerate(layout().blocks(recipe.partition)):
        arguments = method.arguments(recipe.at(number), len(recipe.parents))
        for piece in block.pieces:
            depth, size = layout().depth(piece.tensor), piece.stop - piece.start
            said = to_mergekit(method.declaration, arguments, size, depth)
            yield piece.tensor, said and said | {TASK_VECTORS: arguments.get(TASK_VECTORS)}


MODELS = {"base": "zoo/base", "one": "zoo/one", "two": "zoo/two"}


def back(recipe: Recipe) -> Recipe | None:
    """The recipe that comes back from mergekit's YAML."""
    text = mergekit_yaml(recipe, layout(), MODELS)
    return None if text is None else imported(yaml.safe_load(text))


@given(recipes())
def test_every_value_of_every_table_comes_back(recipe: Recipe) -> None:
    again = back(recipe)
    if again is None:
        assert any(said is None for _, said in words(recipe))
        return
    assert (again.method, again.parents) == (recipe.method, recipe.parents)
    assert dict(words(again)) == dict(words(recipe))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parents]:
    generator = torch.Generator().manual_seed(0)
    base = {t.name: torch.randn(t.shape, generator=generator) for t in layout().tensors}
    zoo = {"base": base}
    for name in ("one", "two"):
        zoo[name] = {
            n: t + 0.1 * torch.randn(t.shape, generator=generator) for n, t in base.items()
        }
    parents = open_models(save_models(tmp_path_factory.mktemp("zoo"), zoo))
    yield parents
    parents.close()


def varied(method: MergeMethod, preset: dict[str, Any]) -> Recipe:
    """Another value in every layer, for every parameter that can differ between them."""
    count = 2 if method.declaration.takes(2) else method.declaration.minimum_parents
    blocks = tuple(block.name for block in layout().blocks(LayerGroups()))
    parameters: dict[str, Any] = {}
    for parameter in method.declaration.parameters:
        if parameter.kind != "float" or parameter in LINES or parameter.name in preset:
            continue
        low, high = max(parameter.low, parameter.minimum), min(parameter.high, parameter.maximum)
        if parameter.name == "epsilon":  # mergekit has density +- epsilon within (0, 1)
            high = min(high, 0.1)
        rows = [low + (high - low) * (n + 1) / (len(blocks) + 2) for n in range(len(blocks))]
        each = parameter.per_parent
        parameters[parameter.name] = tuple((row, high)[:count] if each else row for row in rows)
    return Recipe(
        method=method.name,
        parents=("one", "two")[:count],
        partition=LayerGroups(),
        blocks=blocks,
        parameters=preset | parameters,
    )


@pytest.mark.parametrize("method", TOLD, ids=lambda method: method.name)
def test_a_round_trip_gives_the_same_weights(method: MergeMethod, models: Parents) -> None:
    recipe = varied(method, dict(method.declaration.presets.get("mergekit", {})))
    again = back(recipe)
    assert again is not None
    expected, found = merged(recipe, models), merged(again, models)
    assert any(not torch.equal(t, models.tensor("base", name)) for name, t in found.items())
    assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_depth_scaling_and_one_over_density_come_back_as_other_parameters(models: Parents) -> None:
    recipe = Recipe(
        method="dare_ties",
        parents=("one", "two"),
        parameters={
            "weight": ((0.5, 0.3),),
            "density": ((0.5, 0.5),),
            "rescale": "1/density",
            "normalize": True,
            "lines_alpha": 0.4,
            "lines_beta": 0.5,
        },
    )
    again = back(recipe)
    assert again is not None
    assert again.parameters["rescale"] == "none"
    assert at(again, "model.layers.3.mlp.up_proj")["lambda"] == pytest.approx(0.9 / 0.5)
    assert_close(merged(again, models), merged(recipe, models), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "slerp"])
def test_adapters_of_the_base_are_parents(method: str) -> None:
    """As our own export writes them."""
    here = layout()
    parents = ("add", "reverse")
    recipe = Recipe(
        method=method, parents=parents, blocks=tuple(b.name for b in here.blocks("model"))
    )
    models = {"base": "m/base", **{name: f"m/base+lora/{name}" for name in parents}}
    configuration = parse_configuration(yaml.safe_load(mergekit_yaml(recipe, here, models) or ""))
    assert configuration.models == models
    assert {name: place_of(m) for name, m in configuration.models.items()} == {
        "base": "m/base",
        "add": "lora/add",
        "reverse": "lora/reverse",
    }
    assert recipe_of(configuration, here).parents == parents
    assert any("rounds adapted models" in note.message for note in configuration.notes)


def test_a_configuration_names_the_folders_it_merges() -> None:
    document = linear(0.5)
    document["models"] = [
        {"model": model, "parameters": {"weight": 0.5}}
        for model in ("org/base", "a/base", "b/base@main", "c/x y")
    ]
    assert parse_configuration(document).models == {
        "base": "org/base",
        "base-2": "a/base",
        "base-3": "b/base@main",
        "x-y": "c/x y",
    }
