"""Stacked layers: from mergekit's words and back, with the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from search.layout import LayerGroups
from search.problems import Invalid
from search.recipe import Recipe, Step, mixture
from tests.workers.mergekit.folders import merged, merged_from, open_models, save_models
from workers.checkpoints.parents import Parents
from workers.mergekit import mergekit_yaml, parse_configuration, recipe_of

LAYERS = 3
PARTS = ("self_attn.q_proj", "self_attn.o_proj", "mlp.down_proj", "input_layernorm")
OUTSIDE = ("model.embed_tokens", "model.norm", "lm_head")


def state(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    names = [*OUTSIDE, *(f"model.layers.{n}.{part}" for n in range(LAYERS) for part in PARTS)]
    return {
        f"{n}.weight": torch.randn((4,) if "norm" in n else (4, 4), generator=generator)
        for n in names
    }


STATES = {name: state(seed) for seed, name in enumerate(("base", "one", "two"))}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    return save_models(tmp_path, STATES)


def source(model: str, start: int, stop: int, scale: Any = None) -> dict[str, Any]:
    parameters = {} if scale is None else {"parameters": {"scale": scale}}
    return {"sources": [{"model": model, "layer_range": [start, stop], **parameters}]}


def stacked(*slices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"merge_method": "passthrough", "slices": list(slices), "dtype": "float32", **more}


def problems(document: Any, parents: Parents) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        recipe_of(parse_configuration(document), parents.layout)
    return {problem.field: problem.message for problem in caught.value.problems}


def test_slices_are_stacked_between_the_first_models_start_and_the_last_models_end(
    folders: Mapping[str, str],
) -> None:
    found = merged_from(stacked(source("one", 0, 2), source("two", 1, 3)), folders)
    steps = [("one", 0), ("one", 1), ("two", 1), ("two", 2)]
    for number, (model, layer) in enumerate(steps):
        for part in PARTS:
            name = f"model.layers.{{}}.{part}.weight"
            assert torch.equal(found[name.format(number)], STATES[model][name.format(layer)])
    for name, model in zip(OUTSIDE, ("one", "two", "two"), strict=True):
        assert torch.equal(found[f"{name}.weight"], STATES[model][f"{name}.weight"])
    assert len(found) == len(OUTSIDE) + len(steps) * len(PARTS)


def test_scales_have_filters_and_gradients_and_hold_outside_of_layers_too(
    folders: Mapping[str, str],
) -> None:
    scale = [{"filter": "o_proj", "value": [1.0, 0.0]}, {"filter": "lm_head", "value": 3.0}]
    document = stacked(source("one", 0, 3, scale), parameters={"scale": 2.0})
    found = merged_from(document, folders)
    factors = {"model.embed_tokens.weight": 2.0, "lm_head.weight": 3.0, "model.norm.weight": 2.0}
    for number, factor in enumerate((1.0, 0.5, 0.0)):
        factors |= {f"model.layers.{number}.{part}.weight": 2.0 for part in PARTS}
        factors[f"model.layers.{number}.self_attn.o_proj.weight"] = factor
    for name, tensor in found.items():
        assert torch.equal(tensor, STATES["one"][name] * factors[name]), name


def test_a_filter_is_compared_with_the_names_of_the_new_model(folders: Mapping[str, str]) -> None:
    scale = [{"filter": "layers.1.", "value": 0.5}, {"value": 1.0}]
    found = merged_from(stacked(source("one", 2, 3), source("one", 2, 3, scale)), folders)
    name = "model.layers.{}.mlp.down_proj.weight"
    assert torch.equal(found[name.format(0)], STATES["one"][name.format(2)])
    assert torch.equal(found[name.format(1)], STATES["one"][name.format(2)] / 2)


def test_one_model_without_slices_is_that_model(folders: Mapping[str, str]) -> None:
    document = {"merge_method": "passthrough", "models": [{"model": "two"}]}
    found = merged_from(document, folders)
    assert found.keys() == STATES["two"].keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in STATES["two"].items())


def test_the_base_lends_configuration_and_tokenizer_and_need_not_be_stacked() -> None:
    document = stacked(source("one", 0, 2), source("two", 1, 3))
    assert parse_configuration(document).models == {"base": "one", "two": "two"}
    given = parse_configuration({**document, "base_model": "other"})
    assert given.models == {"base": "other", "one": "one", "two": "two"}
    assert given.parents == ("one", "two")


def linear(weights: tuple[tuple[float, ...], ...], partition: Any, blocks: tuple[str, ...]) -> Any:
    return {
        "method": "linear",
        "parents": ("base", "one", "two"),
        "partition": partition,
        "blocks": blocks,
        "parameters": {"weight": weights, "normalize": False},
    }


ENDS = linear(
    ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 2.0), (0.0, 0.0, 1.0)),
    LayerGroups(layers=LAYERS),
    ("embed", "layers.0-2", "final_norm", "head"),
)
TOLD = {
    "two models": Recipe(
        **ENDS, path=(Step(model="one", layer=0), Step(model="two", layer=1), Step(layer=2))
    ),
    "ends of models that are not stacked": Recipe(
        **ENDS, path=(Step(model="base", layer=1), Step(model="base", layer=1))
    ),
    "states are scaled": Recipe(
        **ENDS,
        path=(
            Step(model="one", layer=0, scale=1.25),
            Step(model="one", layer=1),
            Step(model="one", layer=2, scale=0.8, weights={"mlp.down_proj.weight": 0.0}),
        ),
    ),
    "layers of a sum of one model": mixture(("two",), (0.5,)).model_copy(
        update={"path": (Step(layer=2), Step(layer=0))}
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_round_trip_gives_the_same_weights(folders: Mapping[str, str], name: str) -> None:
    recipe = TOLD[name]
    parents = open_models(folders)
    text = mergekit_yaml(recipe, parents.layout, {name: name for name in STATES})
    assert text is not None
    again = merged_from(yaml.safe_load(text), folders)
    expected = merged(recipe, parents)
    assert again.keys() == expected.keys()
    for tensor, value in expected.items():
        torch.testing.assert_close(again[tensor], value, rtol=1e-6, atol=0)


def test_consecutive_layers_with_the_same_scales_are_one_slice(folders: Mapping[str, str]) -> None:
    path = tuple(Step(model="one", layer=layer) for layer in (0, 1, 1, 2))
    recipe = mixture(("one",), (1.0,)).model_copy(update={"path": path})
    text = mergekit_yaml(recipe, open_models(folders).layout, {name: name for name in STATES})
    slices = yaml.safe_load(str(text))["slices"]
    assert [s["sources"][0]["layer_range"] for s in slices] == [[0, 2], [1, 3]]


def test_a_path_through_a_merge_of_several_has_no_form_there(folders: Mapping[str, str]) -> None:
    recipe = mixture(("one", "two"), (0.5, 0.5)).model_copy(update={"path": (Step(layer=0),)})
    layout = open_models(folders).layout
    assert mergekit_yaml(recipe, layout, {name: name for name in STATES}) is None


def test_what_mergekit_or_the_models_do_not_have_is_told_at_once(
    folders: Mapping[str, str],
) -> None:
    parents = open_models(folders)
    two = {"sources": [*source("one", 0, 1)["sources"], *source("two", 0, 1)["sources"]]}
    assert problems(stacked(two, source("one", 0, 1)), parents) == {
        "slices[0].sources": "'passthrough' takes one model at a time, not 2"
    }
    assert problems(stacked(source("one", 1, 4), source("one", 2, 1)), parents) == {
        "slices[0].sources[0].layer_range": "is [1, 4], but the base has 3 layers, from 0 on",
        "slices[1].sources[0].layer_range": "is [2, 1], but the base has 3 layers, from 0 on",
    }
    assert problems(stacked(source("one", 1, 1)), parents) == {
        "slices": "stack 0 layers; a model has 1 to 1024"
    }
    assert problems(stacked(source("one", 0, 1), parameters={"weight": 1.0}), parents) == {
        "parameters.weight": "'passthrough' has no such parameter; known: scale"
    }
    assert problems(stacked(source("one", 0, 1, True)), parents) == {
        "slices[0].sources[0].parameters.scale": "is a number, no flag"
    }
