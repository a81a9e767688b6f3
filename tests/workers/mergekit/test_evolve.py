"""A mergekit-evolve configuration becomes a spec that searches what it would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from search.layout import LayerGroups, Layout, Tensor
from search.problems import Invalid, Problem
from search.space import SearchSpace
from search.spec import Range, SearchSpec, parse_spec
from workers.mergekit import Converted, convert
from workers.merging.merge_method import methods

EVOLVE = {
    "genome": {
        "models": ["org/add", "org/reverse"],
        "merge_method": "dare_ties",
        "base_model": "org/base",
        "layer_granularity": 2,
        "filters": ["self_attn", "mlp"],
    },
    "tasks": ["pairs", {"name": "words", "weight": -0.5, "metric": "bits_per_byte,none"}],
}


def place(model: str, field: str) -> Mapping[str, str]:
    if model == "org/gone":
        raise Invalid([Problem(field=field, message="is gone")])
    return {"path": f"/models/{model}"}


def made(**genome: Any) -> Converted:
    return convert({**EVOLVE, "genome": EVOLVE["genome"] | genome}, "evolve", place)


def spec(**genome: Any) -> SearchSpec:
    return parse_spec(made(**genome).document)


def notes(document: Any) -> dict[str, str]:
    return {note.field: note.message for note in convert(document, "evolve", place).notes}


def problems(document: Any) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        convert(document, "evolve", place)
    return {problem.field: problem.message for problem in caught.value.problems}


def test_models_method_and_tasks_are_those_of_the_original() -> None:
    found = spec()
    assert found.base.path == "/models/org/base"
    assert [(p.name, p.path) for p in found.parents] == [
        ("add", "/models/org/add"),
        ("reverse", "/models/org/reverse"),
    ]
    assert found.method == "dare_ties"
    assert [(o.task, o.metric, o.weight) for o in found.objectives] == [
        ("pairs", "acc,none", 1.0),
        ("words", "bits_per_byte,none", 0.5),
    ]
    assert found.optimizer.name == "cma_es"
    assert found.budget.evaluations == 100
    assert found.dtype == "bfloat16"


def test_weights_and_densities_are_searched_and_all_else_is_as_mergekit_has_it() -> None:
    parameters = spec().space.parameters
    assert parameters["weight"] == Range(low=0.0, high=1.5)
    assert isinstance(parameters["density"], Range)
    assert parameters["normalize"] is True
    assert parameters["rescale"] == "l1"
    # Its first step is 1/6 of a weight.
    assert spec().optimizer.options["step"] == pytest.approx(1 / 6 / 1.5, abs=1e-4)


def test_negative_weights_are_searched_where_they_are_allowed() -> None:
    found = spec(merge_method="task_arithmetic", allow_negative_weights=True, normalize=True)
    assert found.space.parameters["weight"] == Range(low=-1.2, high=1.2)
    assert found.space.parameters["normalize"] is True


@pytest.mark.parametrize(
    ("genome", "blocks"),
    [
        ({"layer_granularity": 0, "filters": None}, "model"),
        ({"layer_granularity": 4, "filters": None}, LayerGroups(layers=4)),
        ({}, LayerGroups(layers=2, modules=("attention", "mlp"))),
        ({"filters": ["layernorm", "norm"]}, LayerGroups(layers=2, modules=("norm",))),
    ],
)
def test_granularity_and_filters_are_blocks(genome: dict[str, Any], blocks: Any) -> None:
    assert spec(**genome).space.blocks == blocks


def test_filters_alone_split_the_model_over_all_layers() -> None:
    found = spec(layer_granularity=0, filters=["mlp"])
    names = [f"model.layers.{n}.{part}.weight" for n in (0, 39) for part in ("mlp.up", "self_attn")]
    layout = Layout.of(Tensor(name=name, shape=(2, 2), dtype="F32") for name in names)
    space = SearchSpace(methods[found.method].declaration, found, layout)
    assert space.blocks == ("layers.0-39.mlp", "layers.0-39.rest")


def test_slerp_searches_its_place_between_two_models() -> None:
    found = spec(merge_method="slerp", base_model=None, filters=None)
    assert found.space.parameters == {"t": Range(low=0.0, high=1.0)}
    assert found.base.path == "/models/org/add"
    assert [parent.name for parent in found.parents] == ["add", "reverse"]


def test_a_base_among_the_models_is_left_out() -> None:
    converted = made(models=["org/base", "org/add"])
    assert [parent["name"] for parent in converted.document["parents"]] == ["add"]
    assert "genome.models[0]" in {note.field for note in converted.notes}


def test_what_has_no_counterpart_is_noted() -> None:
    document = {
        **EVOLVE,
        "genome": EVOLVE["genome"]
        | {"smooth": True, "tokenizer_source": "union", "filters": ["q_proj", "self_attn.k"]},
        "tasks": [*EVOLVE["tasks"], {"name": "none", "weight": 0.0}],
        "limit": 100,
        "num_fewshot": 3,
        "shuffle": True,
        "random_init": True,
        "apply_chat_template": False,
    }
    found = notes(document)
    assert found.keys() == {
        "genome.tokenizer_source",
        "genome.smooth",
        "genome.layer_granularity",
        "genome.filters[0]",
        "genome.filters[1]",
        "tasks[1].weight",
        "tasks[2]",
        "limit",
        "num_fewshot",
        "shuffle",
        "random_init",
    }
    assert "'self_attn.k' is taken for all of attention" in found["genome.filters[1]"]
    assert "apply_chat_template" in notes(EVOLVE)  # true unless it is set


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"merge_method": "tise"}, "genome.merge_method", "did you mean 'ties'?"),
        ({"base_model": None}, "genome.base_model", "is required by dare_ties"),
        ({"models": ["org/add", "org/gone"]}, "genome.models[1]", "is gone"),
        ({"models": ["org/add", "org/add"]}, "genome.models[1]", "more than once"),
        ({"models": []}, "genome.models", "has 0"),
        ({"layer_granularity": -1}, "genome.layer_granularity", "from 0"),
        ({"smoth": True}, "genome.smoth", "did you mean 'smooth'?"),
        (
            {"merge_method": "slerp", "models": ["org/a", "org/b", "org/c"]},
            "genome.models",
            "takes exactly 2 parents, not 3",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_where_it_stands(
    change: dict[str, Any], field: str, says: str
) -> None:
    found = problems({**EVOLVE, "genome": EVOLVE["genome"] | change})
    assert field in found
    assert says in found[field]


def test_tasks_without_weight_leave_nothing_to_search_for() -> None:
    assert "tasks" in problems({**EVOLVE, "tasks": [{"name": "pairs", "weight": 0}]})


def test_every_method_of_both_programs_can_be_searched() -> None:
    for method in methods:
        declaration = method.declaration
        if declaration.mergekit is None:
            continue
        count = 2 if declaration.takes(2) else declaration.minimum_parents
        found = spec(merge_method=declaration.mergekit, models=["org/add", "org/reverse"][:count])
        layout = Layout.of([Tensor(name="model.layers.0.mlp.w", shape=(2, 2), dtype="F32")])
        SearchSpace(declaration, found, layout)
