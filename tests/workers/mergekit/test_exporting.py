from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from search.layout import LayerGroups, Layout, Partition, Segments, Tensor
from search.recipe import Recipe, mixture
from workers.mergekit import mergekit_yaml
from workers.merging.merge_method import methods

MODELS = {"base": "org/base", "one": "org/one", "two": "org/two"}
LAYER = ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "input_layernorm")


def layout(names: Iterable[str] = (), layers: int = 12) -> Layout:
    usual = ["model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"]
    usual += [f"model.layers.{n}.{part}.weight" for n in range(layers) for part in LAYER]
    return Layout.of(
        Tensor(name=name, shape=(20, 30), dtype="BF16") for name in [*(names or usual)]
    )


def recipe(here: Layout, method: str, partition: Partition, **parameters: Any) -> Recipe:
    blocks = tuple(block.name for block in here.blocks(partition))
    return Recipe(
        method=method,
        parents=("one", "two")[: methods[method].declaration.maximum_parents],
        partition=partition,
        blocks=blocks,
        parameters={
            name: tuple(value(n) for n in range(len(blocks))) if callable(value) else value
            for name, value in parameters.items()
        },
    )


# mergekit's own rule, as its documentation states it: the first filter that is part of the name.
def looked_up(setting: Any, name: str) -> Any:
    if not isinstance(setting, list):
        return setting
    return next(entry["value"] for entry in setting if entry.get("filter", "") in name)


def check(here: Layout, given_recipe: Recipe) -> dict[str, Any]:
    text = mergekit_yaml(given_recipe, here, MODELS)
    assert text is not None
    document = yaml.safe_load(text)
    for number, block in enumerate(here.blocks(given_recipe.partition)):
        for name, value in given_recipe.at(number).items():
            for piece in block.pieces:
                if isinstance(value, tuple):
                    found = [
                        looked_up(model["parameters"][name], piece.tensor)
                        for model in document["models"]
                    ]
                    assert found == list(value)
                else:
                    assert looked_up(document["parameters"][name], piece.tensor) == value
    return document


@pytest.mark.parametrize(
    "partition", ["model", "tensor", LayerGroups(), LayerGroups(layers=5, modules=("mlp",))]
)
def test_every_tensor_finds_the_values_of_its_block(partition: Partition) -> None:
    here = layout()
    ties = recipe(
        here,
        "ties",
        partition,
        weight=lambda n: (0.1 * n, 1.0 - 0.01 * n),
        density=0.5,
        **{"lambda": lambda n: 1.0 + n},
    )
    document = check(
        here,
        Recipe.model_validate(
            ties.model_dump()
            | {"parameters": {**ties.parameters, "density": tuple((0.5, 0.5) for _ in ties.blocks)}}
        ),
    )
    assert document["merge_method"] == "ties"
    assert document["base_model"] == "org/base"
    assert [model["model"] for model in document["models"]] == ["org/one", "org/two"]
    assert document["dtype"] == "float32"
    assert document["out_dtype"] == "bfloat16"
    assert document["models"][0]["parameters"]["density"] == 0.5
    assert document["parameters"]["normalize"] is True
    assert document["parameters"]["rescale"] is False


def test_layers_are_told_apart_by_short_filters() -> None:
    document = check(layout(), recipe(layout(), "slerp", LayerGroups(), t=lambda n: n / 20))
    *rules, last = document["parameters"]["t"]
    assert last.keys() == {"value"}
    filters = {entry["filter"] for entry in rules}
    assert filters == {
        *(f"model.layers.{n}." for n in range(12)),
        "model.embed_tokens.",
        "model.norm.",
        "lm_head.",
    }
    assert document["base_model"] == "org/one"


names = st.lists(
    st.sampled_from(["a", "b", "ab", "1", "11", "layers"]), min_size=1, max_size=4
).map(".".join)


@given(st.sets(names, min_size=1, max_size=12))
def test_names_within_names_do_not_mislead(tensors: set[str]) -> None:
    here = layout(sorted(tensors))
    for partition in ("tensor", LayerGroups()):
        check(here, recipe(here, "slerp", partition, t=lambda n: n / 20))


def test_the_base_may_be_one_of_the_models_of_a_linear_merge() -> None:
    text = mergekit_yaml(mixture(("base", "one"), (0.25, 0.75)), layout(), MODELS)
    document = yaml.safe_load(text or "")
    assert "base_model" not in document
    assert document["models"] == [
        {"model": "org/base", "parameters": {"weight": 0.25}},
        {"model": "org/one", "parameters": {"weight": 0.75}},
    ]
    assert document["parameters"] == {"normalize": False}


def test_dare_may_keep_less_than_an_entry_of_a_tensor() -> None:
    here = layout()
    rare = recipe(here, "dare_ties", "model", density=((1 / 700, 1 / 700),), rescale="l1")
    assert mergekit_yaml(rare, here, MODELS) is not None


def test_dare_by_density_is_spelled_as_larger_weights() -> None:
    here = layout()
    dare = recipe(here, "dare_linear", "model", weight=((0.5, 0.3),), density=((0.5, 0.1),))
    document = yaml.safe_load(mergekit_yaml(dare, here, MODELS) or "")
    weights = [model["parameters"]["weight"] for model in document["models"]]
    assert weights == pytest.approx([1.0, 3.0])
    assert document["parameters"]["rescale"] is False


def test_what_mergekit_cannot_say_has_no_configuration() -> None:
    here = layout()
    boundaries = (0, 7, here.size)
    cut = recipe(here, "linear", Segments(boundaries=boundaries))
    assert mergekit_yaml(cut, here, MODELS) is None
    mixed = {"normalize": True, "density": ((0.5, 0.25),)}
    assert mergekit_yaml(recipe(here, "dare_ties", "model", **mixed), here, MODELS) is None
    unbiased = recipe(here, "della", "model", rescale="1/probability")
    assert mergekit_yaml(unbiased, here, MODELS) is None
    by_row = recipe(here, "breadcrumbs", "model", scope="row")
    assert mergekit_yaml(by_row, here, MODELS) is None
    with_base = Recipe(method="ties", parents=("base", "one"))
    assert mergekit_yaml(with_base, here, MODELS) is None


def test_every_method_that_claims_a_mergekit_name_has_a_configuration() -> None:
    here = layout()
    for method in methods:
        preset = method.declaration.presets.get("mergekit", {})
        text = mergekit_yaml(recipe(here, method.name, LayerGroups(), **preset), here, MODELS)
        assert (text is not None) == (method.declaration.mergekit is not None)


@pytest.mark.parametrize(
    ("method", "fails", "works"),
    [
        # A tensor has 600 entries; of a trim alone, both programs keep at least one.
        ("breadcrumbs", {"density": 1 / 700}, {"density": 1 / 500, "gamma": 1 / 700}),
        ("della", {"density": 0.1, "epsilon": 0.1}, {"density": 1.0, "epsilon": 0.1}),
    ],
)
def test_what_mergekit_would_fail_at_has_no_configuration(
    method: str, fails: dict[str, float], works: dict[str, float]
) -> None:
    here = layout()
    preset = methods[method].declaration.presets.get("mergekit", {})
    for masks, expected in ((fails, False), (works, True)):
        rows = {name: ((value, value),) for name, value in masks.items()}
        given_recipe = recipe(here, method, "model", **preset, **rows)
        assert (mergekit_yaml(given_recipe, here, MODELS) is not None) == expected
