"""What a spec can name: checkpoints and adapters below the model roots."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.catalogue import models
from api.schemas import ModelView
from tests.tiny import make_model, tensors
from tests.workers.lora import factors, save_adapter

QUERY = "model.layers.0.self_attn.q_proj"
FACTORS = factors({QUERY: (8, 8)})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("base", "add"):
        make_model(tmp_path / name)
    return tmp_path


def listed(root: Path) -> dict[str, ModelView]:
    return {model.path: model for model in models([root])}


def test_models_below_the_roots_are_listed(root: Path) -> None:
    found = listed(root)
    assert set(found) == {"base", "add"}
    assert found["base"].architecture == "LlamaForCausalLM"
    assert found["base"].dtype == "float32"
    assert found["base"].parameters == sum(t.size for t in tensors().values())
    assert found["base"].problem is None
    assert found["base"].adapter_of is None


def test_an_adapter_is_listed_with_the_base_that_it_names(root: Path) -> None:
    save_adapter(root / "runs" / "lora", FACTORS, base_model_name_or_path="somewhere/Base")
    found = listed(root)["runs/lora"]
    assert found.adapter_of == "base"
    assert (found.architecture, found.dtype) == ("LoRA", "float32")
    assert found.parameters == 2 * 2 * 8
    assert found.problem is None


def test_an_adapter_that_does_not_fit_its_base_says_why(root: Path) -> None:
    save_adapter(root / "lora", factors({QUERY: (4, 8)}), base_model_name_or_path="base")
    problem = listed(root)["lora"].problem
    assert problem is not None
    assert "by a matrix of 4x8, and it has 8x8" in problem


@pytest.mark.parametrize("named", ["lab/elsewhere", None])
def test_an_adapter_of_a_model_that_is_not_here_is_called_as_its_author_does(
    root: Path, named: str | None
) -> None:
    save_adapter(root / "lora", FACTORS, base_model_name_or_path=named)
    save_adapter(root / "dora", FACTORS, base_model_name_or_path=named, use_dora=True)
    found = listed(root)
    assert found["lora"].adapter_of == found["dora"].adapter_of == (named or "")
    assert found["lora"].problem is None
    assert "use_dora" in (found["dora"].problem or "")


def test_two_models_of_one_name_leave_open_which_is_meant(root: Path) -> None:
    make_model(root / "other" / "base")
    save_adapter(root / "lora", FACTORS, base_model_name_or_path="lab/base")
    assert listed(root)["lora"].adapter_of == "lab/base"
