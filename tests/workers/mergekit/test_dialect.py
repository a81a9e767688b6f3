"""What a declaration alone tells of a method's configuration in mergekit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.method import LINES, MethodDeclaration, Parameter
from workers.mergekit.dialect import (
    TASK_VECTORS,
    default_there,
    fixed_there,
    from_mergekit,
    merges_differences,
    spoken,
    to_mergekit,
)

WEIGHT = Parameter("weight", "", per_parent=True)
LAMBDA = Parameter("lambda", "")
SCOPE = Parameter("scope", "", "choice", default="tensor", choices=("tensor", "model"))
STEPS = Parameter("max_iter", "", "integer", default=10)
BOTH = Parameter(TASK_VECTORS, "", "flag", default=True)
RESCALE = Parameter("rescale", "", "choice", default="none", choices=("none", "l1"))

METHOD = MethodDeclaration(
    name="some",
    summary="",
    source="",
    parameters=(WEIGHT, LAMBDA, SCOPE, STEPS, RESCALE, *LINES),
    uses_base=True,
    mergekit="some",
    presets={"mergekit": {"scope": "tensor", "rescale": "l1"}},
)
ARGUMENTS = {
    "weight": (0.5, 1.0),
    "lambda": 2.0,
    "scope": "tensor",
    "max_iter": 10,
    "rescale": "l1",
    "lines_alpha": 1.0,
    "lines_beta": 0.0,
}


def names(declaration: MethodDeclaration) -> set[str]:
    return {parameter.name for parameter in spoken(declaration)}


def test_what_the_preset_fixes_cannot_be_set() -> None:
    assert names(METHOD) == {"weight", "lambda", "max_iter", "rescale"}
    assert fixed_there(METHOD) == {"scope": "tensor"}
    assert default_there(METHOD, RESCALE) == "l1"
    said = to_mergekit(METHOD, ARGUMENTS, 100, (1, 4))
    assert said == {"weight": (0.5, 1.0), "lambda": 2.0, "max_iter": 10, "rescale": True}
    assert to_mergekit(METHOD, ARGUMENTS | {"scope": "model"}, 100, None) is None


def test_a_factor_by_depth_is_one_of_lambda_where_there_is_a_lambda() -> None:
    scaled = ARGUMENTS | {"lines_beta": 0.5}
    said = to_mergekit(METHOD, scaled, 100, (3, 4))
    assert said is not None
    assert said["lambda"] == pytest.approx(3.0)
    assert to_mergekit(METHOD, scaled, 100, None) is not None
    fixed = replace(METHOD, presets={"mergekit": {"lambda": 2.0}})
    assert to_mergekit(fixed, ARGUMENTS, 100, (3, 4)) is not None
    assert to_mergekit(fixed, scaled, 100, (3, 4)) is None


def test_what_all_parents_must_have_is_fixed_for_each() -> None:
    equal = replace(METHOD, presets={"mergekit": {"weight": 1.0}})
    assert to_mergekit(equal, ARGUMENTS, 100, None) is None
    said = to_mergekit(equal, ARGUMENTS | {"weight": (1.0, 1.0)}, 100, None)
    assert said is not None
    assert "weight" not in said


def test_a_base_model_is_where_differences_start_unless_a_method_merges_weights() -> None:
    plain = replace(METHOD, uses_base=False)
    either = replace(METHOD, parameters=(WEIGHT, BOTH), presets={})
    never = replace(either, presets={"mergekit": {TASK_VECTORS: False}})
    assert names(either) == {"weight"}
    for named in (True, False):
        assert merges_differences(METHOD, base_is_named=named)
        assert not merges_differences(plain, base_is_named=named)
        assert merges_differences(either, base_is_named=named) == named
        assert not merges_differences(never, base_is_named=named)


@pytest.mark.parametrize(
    ("parameter", "written", "ours"),
    [
        (BOTH, True, True),
        (BOTH, 0.0, False),
        (RESCALE, True, "l1"),
        (RESCALE, 0, "none"),
        (STEPS, 12.0, 12),
        (STEPS, 1.5, 1.5),  # is then refused, as it is written
        (WEIGHT, 1.0, 1.0),
    ],
)
def test_flags_and_whole_numbers_may_be_written_as_numbers(
    parameter: Parameter, written: float, ours: object
) -> None:
    assert from_mergekit(parameter, written) == ours
    assert type(from_mergekit(parameter, written)) is type(ours)
