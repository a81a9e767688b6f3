import copy
from typing import Any

import pytest

from search.layout import LayerGroups
from search.problems import Invalid
from search.spec import Continued, Relative, SearchSpec, Stop, parse_spec


def problems(document: object) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        parse_spec(document)
    return {problem.field: problem.message for problem in caught.value.problems}


def test_the_example_of_the_readme_is_a_spec(document: dict[str, Any]) -> None:
    spec = parse_spec(document)
    assert [objective.key for objective in spec.objectives] == [
        "nm_add/acc",
        "nm_reverse/exact_match",
    ]
    assert spec.optimizer.options == {"population": 20}


def test_json_form_is_the_same_spec_with_the_same_digest(document: dict[str, Any]) -> None:
    spec = parse_spec(document)
    again = SearchSpec.model_validate_json(spec.model_dump_json())
    assert again == spec
    assert again.digest == spec.digest


def test_a_seed_more_is_another_digest(document: dict[str, Any]) -> None:
    assert parse_spec(document).digest != parse_spec({**document, "seed": 1}).digest


def test_objectives_have_constraints_in_numbers_or_relative_to_what_there_was(
    document: dict[str, Any],
) -> None:
    document["objectives"][0] |= {"at_least": {"base": -0.02}, "at_most": 1}
    document["objectives"][1] |= {"at_least": {"best_parent": 0}}
    one, other = parse_spec(document).objectives
    assert (one.at_least, one.at_most) == (Relative(base=-0.02), 1.0)
    assert (other.at_least, other.at_most) == (Relative(best_parent=0.0), None)


@pytest.mark.parametrize(
    ("bounds", "field", "message"),
    [
        ({"at_least": "much"}, ".at_least", "write a number, {base: difference} or {best_parent:"),
        ({"at_least": {}}, ".at_least", "write either {base: difference} or {best_parent:"),
        ({"at_least": {"base": 0, "best_parent": 0}}, ".at_least", "write either {base:"),
        ({"at_most": {"bsae": 0}}, ".at_most.bsae", "did you mean 'base'?"),
        ({"at_least": 0.9, "at_most": 0.8}, "", "at_least is 0.9 and at_most is 0.8; no score is"),
    ],
)
def test_a_wrong_constraint_is_explained(
    document: dict[str, Any], bounds: dict[str, Any], field: str, message: str
) -> None:
    document["objectives"][0] |= bounds
    found = problems(document)
    assert message in found["objectives[0]" + field]


def test_all_problems_are_reported_together_where_the_user_wrote_them(
    document: dict[str, Any],
) -> None:
    document["metod"] = "ties"
    document["seed"] = -1
    document["budget"] = {"evaluation": 400}
    document["parents"][0].pop("path")
    document["space"]["blocks"] = {"layer": 2}
    document["space"]["parameters"]["weight"] = {"low": 2, "high": 1}
    found = problems(document)
    assert found["metod"] == "unknown field; did you mean 'method'?"
    assert found["budget.evaluation"] == "unknown field; did you mean 'evaluations'?"
    assert found["budget.evaluations"] == "is required"
    assert found["parents[0]"] == "name either a path or a hub model"
    assert found["space.blocks.layer"] == "unknown field; did you mean 'layers'?"
    assert "low must be below high" in found["space.parameters.weight"]
    assert "greater than or equal to 0 (got -1)" in found["seed"]
    assert len(found) == 7


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"parents": []}, "parents"),
        ({"objectives": []}, "objectives"),
        ({"name": "../etc"}, "name"),
        ({"base": {"hub": "org/model"}}, "base"),
        ({"base": {"hub": "http://169.254.169.254/x", "revision": "0" * 40}}, "base.hub"),
        ({"budget": {"evaluations": 0}}, "budget.evaluations"),
        ({"space": {"parameters": {"weight": float("nan")}}}, "space.parameters.weight"),
        ({"space": {"parameters": {"weight": None}}}, "space.parameters.weight"),
        ({"space": {"blocks": 3}}, "space.blocks"),
        ({"dtype": "int8"}, "dtype"),
    ],
)
def test_bad_values_name_their_field(
    document: dict[str, Any], change: dict[str, Any], field: str
) -> None:
    assert list(problems({**document, **change})) == [field]


def test_a_name_that_comes_twice_is_a_problem_of_its_list(document: dict[str, Any]) -> None:
    twice = copy.deepcopy(document)
    twice["parents"][1]["name"] = "add"
    twice["objectives"][1] = twice["objectives"][0]
    found = problems(twice)
    assert found["parents"] == "'add' is the name of more than one; give each parent its own name"
    assert "'nm_add/acc' is listed more than once" in found["objectives"]


def test_lists_of_a_wrong_length_say_which_would_do(document: dict[str, Any]) -> None:
    found = problems({**document, "parents": [], "objectives": document["objectives"] * 20})
    assert found["parents"] == "has 0; name at least 1"
    assert found["objectives"] == "has 40; at most 16 are allowed"


def test_a_parent_cannot_be_called_base(document: dict[str, Any]) -> None:
    document["parents"][0]["name"] = "base"
    assert "'base' is taken" in problems(document)["parents[0].name"]


@pytest.mark.parametrize("document", [None, [], "spec", 3])
def test_something_else_than_a_mapping_is_one_problem(document: object) -> None:
    assert list(problems(document)) == ["spec"]


def test_tasks_are_asked_as_they_are_unless_the_spec_says_how(document: dict[str, Any]) -> None:
    plain = parse_spec(document).evaluation
    assert plain.model_dump(exclude_defaults=True) == {}
    asked = {"num_fewshot": 3, "apply_chat_template": True, "system_instruction": "Be brief."}
    evaluation = parse_spec({**document, "evaluation": asked}).evaluation
    assert evaluation.model_dump(exclude_defaults=True) == asked


@pytest.mark.parametrize(
    ("evaluation", "turns"),
    [
        ({}, False),
        ({"apply_chat_template": True}, True),
        ({"apply_chat_template": True, "fewshot_as_multiturn": False}, False),
    ],
)
def test_shots_are_turns_of_a_chat_unless_told_otherwise(
    document: dict[str, Any], evaluation: dict[str, Any], turns: object
) -> None:
    assert parse_spec({**document, "evaluation": evaluation}).evaluation.as_turns is turns


def test_what_is_wrong_with_an_evaluation_is_named(document: dict[str, Any]) -> None:
    document["evaluation"] = {"num_fewshots": 3, "num_fewshot": -1, "system_instruction": ""}
    found = problems(document)
    assert "did you mean 'num_fewshot'" in found["evaluation.num_fewshots"]
    assert {"evaluation.num_fewshot", "evaluation.system_instruction"} < set(found)
    document["evaluation"] = {"fewshot_as_multiturn": True}
    assert "needs apply_chat_template" in problems(document)["evaluation"]


def test_a_search_may_stop_early_and_continue_another(document: dict[str, Any]) -> None:
    spec = parse_spec({**document, "stop": {"patience": 50}, "continues": "0123"})
    assert spec.stop == Stop(patience=50, gain=0.01)
    assert spec.continues == Continued(search="0123")
    assert parse_spec(spec.model_dump(mode="json")) == spec
    some = parse_spec({**document, "continues": {"search": "0123", "evaluations": 60}})
    assert some.continues == Continued(search="0123", evaluations=60)
    found = problems({**document, "stop": {"patience": 0, "gain": 1}, "continues": {"id": "0123"}})
    assert set(found) == {"stop.patience", "stop.gain", "continues.id", "continues.search"}


@pytest.mark.parametrize(
    ("setting", "field", "message"),
    [
        ({"gradient": 1}, ".gradient", "greater than or equal to 2 (got 1)"),
        ({"blocks": "tensor"}, ".blocks", "Input should be 'model'"),
        ({"blocks": "model", "gradient": 3}, "", "blocks: model is one value, and a gradient"),
        ({"norm": {"low": 0.3, "high": 1.5}}, ".low", "unknown field"),
    ],
)
def test_how_a_range_lies_over_the_model_is_checked(
    document: dict[str, Any], setting: dict[str, Any], field: str, message: str
) -> None:
    document["space"]["parameters"]["weight"] |= setting
    found = problems(document)
    assert message in found[f"space.parameters.weight{field}"]


@pytest.mark.parametrize(
    ("layers", "message"),
    [(0, "greater than or equal to 1 (got 0)"), ("some", "Input should be 'all'")],
)
def test_blocks_have_some_layers_or_all(
    document: dict[str, Any], layers: object, message: str
) -> None:
    document["space"]["blocks"] = {"layers": layers}
    assert message in problems(document)["space.blocks.layers"]
    document["space"]["blocks"] = {"layers": "all"}
    assert parse_spec(document).space.blocks == LayerGroups(layers="all")


@pytest.mark.parametrize(
    ("norm", "field", "message"),
    [
        (1.0, ".norm", "valid dictionary or instance of Range (got 1.0)"),
        ({"low": -1, "high": 1}, "", "a norm is not negative, but low is -1"),
        ({"low": 0, "high": 1, "gradient": 2}, "", "the norm is one number for the whole model"),
    ],
)
def test_a_norm_is_a_range_of_lengths(
    document: dict[str, Any], norm: object, field: str, message: str
) -> None:
    document["space"]["parameters"]["weight"] = {"norm": norm}
    assert message in problems(document)[f"space.parameters.weight{field}"]
