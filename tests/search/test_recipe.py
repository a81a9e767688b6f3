import json

import pytest
from pydantic import ValidationError

from search.layout import LayerGroups
from search.recipe import Recipe, mixture

RECIPE = Recipe(
    method="ties",
    parents=("add", "reverse"),
    partition=LayerGroups(layers=2),
    blocks=("embed", "layers.0-1"),
    parameters={"weight": ((0.1, 0.2), (1 / 3, 0.7)), "density": (0.5, 0.9), "normalize": True},
    seed=7,
)


def test_parameters_of_one_block() -> None:
    assert RECIPE.at(1) == {"weight": (1 / 3, 0.7), "density": 0.9, "normalize": True}


def test_json_round_trip_is_exact_and_keeps_the_digest() -> None:
    again = Recipe.model_validate_json(RECIPE.model_dump_json())
    assert again == RECIPE
    assert again.digest == RECIPE.digest
    assert type(again.parameters["normalize"]) is bool


def test_digest_does_not_depend_on_the_order_of_parameters() -> None:
    document = json.loads(RECIPE.model_dump_json())
    document["parameters"] = dict(reversed(document["parameters"].items()))
    assert Recipe.model_validate(document).digest == RECIPE.digest


def test_the_smallest_difference_is_another_digest() -> None:
    document = json.loads(RECIPE.model_dump_json())
    document["parameters"]["density"][0] = 0.5000000000000001
    assert Recipe.model_validate(document).digest != RECIPE.digest


def test_a_table_has_a_row_for_every_block() -> None:
    with pytest.raises(ValidationError, match=r"parameters.density has 1 rows for 2 blocks"):
        Recipe(
            method="ties", parents=("a",), blocks=("embed", "head"), parameters={"density": (0.5,)}
        )


def test_a_mixture_is_a_plain_weighted_sum() -> None:
    recipe = mixture(("add", "reverse"), (0.5, 0.5))
    assert recipe.at(0) == {"weight": (0.5, 0.5), "normalize": False}
