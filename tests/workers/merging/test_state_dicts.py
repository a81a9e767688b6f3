from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from search.problems import Invalid
from workers import merge_state_dicts

EMBED = "model.embed_tokens.weight"


def state(value: float, rows: int = 6) -> dict[str, Tensor]:
    return {
        EMBED: torch.full((rows, 4), value),
        "model.norm.weight": torch.full((4,), value),
        "steps": torch.tensor(int(value)),
    }


def test_tied_weights_are_merged_once_and_stay_tied() -> None:
    models = [state(float(n)) for n in range(3)]
    for model in models:
        model["lm_head.weight"] = model[EMBED]
    base, *parents = models
    merged = merge_state_dicts("task_arithmetic", base, parents, {"weight": [0.5, 0.25]})
    assert merged["lm_head.weight"] is merged[EMBED]
    assert_close(merged[EMBED], torch.full((6, 4), 1.0))


def test_weights_that_only_some_models_tie_are_merged_separately() -> None:
    base, one = state(0.0), state(1.0)
    base["lm_head.weight"] = base[EMBED]
    one["lm_head.weight"] = one[EMBED] * 3
    merged = merge_state_dicts("task_arithmetic", base, [one], {"weight": 1.0})
    assert_close(merged[EMBED], torch.full((6, 4), 1.0))
    assert_close(merged["lm_head.weight"], torch.full((6, 4), 3.0))


def test_larger_embeddings_are_cropped_to_the_base() -> None:
    merged = merge_state_dicts(
        "ties", state(0.0, rows=6), [state(1.0, rows=8), state(1.0, rows=6)], {"density": 1.0}
    )
    assert_close(merged[EMBED], torch.ones(6, 4))


def test_without_a_base_embeddings_are_cropped_to_what_all_have() -> None:
    parents = [state(1.0, rows=8), state(3.0, rows=5)]
    merged = merge_state_dicts("linear", None, parents, {})
    assert_close(merged[EMBED], torch.full((5, 4), 2.0))


def test_smaller_embeddings_than_the_base_are_refused() -> None:
    with pytest.raises(Invalid, match=r"0\.model\.embed_tokens\.weight: has shape \(5, 4\)"):
        merge_state_dicts("ties", state(0.0), [state(1.0, rows=5)], {})


def test_whole_numbers_are_the_bases() -> None:
    base = state(7.0)
    merged = merge_state_dicts("linear", base, [state(1.0), state(2.0)], {})
    assert merged["steps"].item() == 7
    assert merged["steps"] is not base["steps"]


def test_everything_that_does_not_fit_is_told_at_once() -> None:
    one, two = state(1.0), state(2.0)
    one["model.norm.weight"] = torch.ones(5)
    del two["steps"]
    two["other"] = torch.ones(1)
    with pytest.raises(Invalid) as caught:
        merge_state_dicts("linear", state(0.0), {"one": one, "two": two}, {})
    assert {problem.field: problem.message for problem in caught.value.problems} == {
        "one.model.norm.weight": "has shape (5,), expected (4,)",
        "two.steps": "is missing",
        "two.other": "has no counterpart in the other models",
    }


@pytest.mark.parametrize("method", ["ties", "task_arithmetic"])
def test_a_method_that_needs_a_base_says_so(method: str) -> None:
    with pytest.raises(Invalid, match="needs a base model"):
        merge_state_dicts(method, None, [state(1.0)], {})


@pytest.mark.parametrize("method", ["nuslerp", "multislerp", "karcher"])
def test_without_a_base_there_are_no_task_vectors(method: str) -> None:
    base, *parents = (state(float(n)) for n in range(3))
    merged = merge_state_dicts(method, None, parents)
    expected = merge_state_dicts(method, base, parents, {"task_vectors": False})
    assert_close(merged[EMBED], expected[EMBED])
    assert merged["steps"].item() == 1  # of the first parent
    for parameters in ({"task_vectors": True}, {"lines_beta": 0.5}):
        with pytest.raises(Invalid, match=r"parameters\.\w+: is \S+, which needs a base"):
            merge_state_dicts(method, None, parents, parameters)
    with pytest.raises(Invalid, match="no such parameter"):
        merge_state_dicts(method, None, parents, {"task_vector": True})


def test_around_a_base_embeddings_are_cropped_to_it_and_else_to_what_all_have() -> None:
    models = state(1.0, rows=6), [state(2.0, rows=8), state(3.0, rows=7)]
    assert merge_state_dicts("multislerp", *models)[EMBED].shape == (6, 4)
    assert merge_state_dicts("multislerp", None, models[1])[EMBED].shape == (7, 4)


def test_no_parent_may_be_called_base() -> None:
    with pytest.raises(Invalid, match="always means the base model"):
        merge_state_dicts("linear", state(0.0), {"base": state(1.0)}, {})


def test_no_parents_are_refused() -> None:
    with pytest.raises(Invalid, match="at least 1 parents, not 0"):
        merge_state_dicts("linear", state(0.0), [], {})


def test_the_messages_do_not_cost_an_import_of_torch() -> None:
    code = "import sys, workers.messages; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
