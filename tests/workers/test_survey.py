from __future__ import annotations

import hashlib
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import save_llama
from tests.workers.tiny_zoo import make_zoo
from workers.checkpoints.parents import Parents
from workers.merging.merge_method import is_finite
from workers.messages import Rejected, Survey, Surveyed, Zoo
from workers.survey import survey


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return make_zoo(tmp_path, dtype="bfloat16")


def look(zoo: Zoo, *, needs_geometry: bool) -> Surveyed | Rejected:
    with closing(Parents(zoo)) as parents:
        return survey(Survey(needs_geometry), parents)


def spoil(folder: str, tensor: str, value: float) -> None:
    file = Path(folder) / "model.safetensors"
    weights = load_file(file)
    weights[tensor].view(-1)[3] = value
    save_file(weights, file, metadata={"format": "pt"})


def test_gram_of_every_cell_equals_numpy(zoo: Zoo) -> None:
    surveyed = look(zoo, needs_geometry=True)
    assert isinstance(surveyed, Surveyed)
    assert surveyed.geometry is not None
    with closing(Parents(zoo)) as parents:
        layout = parents.layout
        flat = np.stack(
            [
                np.concatenate(
                    [parents.tensor(m, t.name).double().numpy().ravel() for t in layout.tensors]
                )
                for m in ("base", "p0", "p1")
            ]
        )
    boundaries = surveyed.geometry.boundaries
    assert boundaries.dtype == np.int64
    assert tuple(boundaries) == layout.grid()
    expected = [flat[:, a:b] @ flat[:, a:b].T for a, b in pairwise(boundaries)]
    np.testing.assert_allclose(surveyed.geometry.gram, expected, rtol=1e-13)


def test_geometry_is_measured_only_where_it_is_asked_for(zoo: Zoo) -> None:
    surveyed = look(zoo, needs_geometry=False)
    assert isinstance(surveyed, Surveyed)
    assert surveyed.geometry is None


def test_every_weight_file_is_hashed(zoo: Zoo) -> None:
    surveyed = look(zoo, needs_geometry=False)
    assert isinstance(surveyed, Surveyed)
    folders = {"base": zoo.base, **dict(zoo.parents)}
    assert surveyed.sha256 == {
        f"{name}/model.safetensors": hashlib.sha256(
            Path(folder, "model.safetensors").read_bytes()
        ).hexdigest()
        for name, folder in folders.items()
    }


@pytest.mark.parametrize(("value", "words"), [(np.nan, "1 NaN and 0"), (np.inf, "0 NaN and 1")])
def test_a_value_that_is_not_finite_is_named_with_model_file_and_tensor(
    zoo: Zoo, value: float, words: str
) -> None:
    spoil(zoo.parents[1][1], "model.layers.1.mlp.up_proj.weight", value)
    rejected = look(zoo, needs_geometry=True)
    assert isinstance(rejected, Rejected)
    ((file, message),) = rejected.problems
    assert file == "p1/model.safetensors"
    assert "'model.layers.1.mlp.up_proj.weight'" in message
    assert words in message


def test_a_parent_of_another_pre_training_is_refused_before_anything_is_evaluated(
    zoo: Zoo,
) -> None:
    save_llama(Path(zoo.parents[1][1]), seed=99, dtype="bfloat16")
    rejected = look(zoo, needs_geometry=False)
    assert isinstance(rejected, Rejected)
    ((field, message),) = rejected.problems
    assert field == "parents[1]"
    assert "another pre-training" in message


def test_a_locked_parent_is_refused(zoo: Zoo) -> None:
    file = Path(zoo.parents[0][1]) / "model.safetensors"
    weights = load_file(file)
    basis = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    value, output = (f"model.layers.0.self_attn.{part}_proj.weight" for part in "vo")
    changed = basis @ weights[value].float().view(2, 8, 32)
    weights[value] = changed.view(16, 32).bfloat16()
    changed = weights[output].float().view(32, 4, 8) @ basis.inverse()
    weights[output] = changed.view(32, 32).bfloat16()
    save_file(weights, file, metadata={"format": "pt"})
    rejected = look(zoo, needs_geometry=True)
    assert isinstance(rejected, Rejected)
    assert [field for field, _ in rejected.problems] == ["parents[0]"]
    assert "is locked: v_proj and o_proj" in rejected.problems[0][1]


def test_a_duplicate_and_a_copy_of_the_base_are_worth_a_warning(zoo: Zoo) -> None:
    names = ("base", "one", "again", "same")
    folders = (zoo.base, zoo.parents[0][1], zoo.parents[0][1], zoo.base)
    doubled = Zoo(zoo.base, tuple(zip(names, folders, strict=True))[1:], zoo.dtype)
    surveyed = look(doubled, needs_geometry=False)
    assert isinstance(surveyed, Surveyed)
    (again, same) = surveyed.warnings
    assert again[0] == "parents[1]"
    assert "the same weights as 'one'" in again[1]
    assert same == ("parents[2]", "is the base itself, to the last bit; it adds nothing to a merge")
    one, again_, same_ = surveyed.diagnoses
    assert [one.name, again_.duplicates, same_.whole.frozen] == ["one", ("one",), 1.0]
    assert {group for group, d in one.groups.items() if d.frozen} == {"norm"}  # they are all 1
    assert one.whole.delta_ratio == pytest.approx(0.1, rel=0.2)  # as `make_zoo` has moved it
    assert {"embed", "qk", "vo", "mlp"} <= set(one.groups)


def test_large_finite_weights_whose_sum_overflows_are_finite() -> None:
    large = torch.full((4,), 3e38)
    assert not large.sum().isfinite(), "control: the cheap check alone would refuse these"
    assert is_finite(large)
    assert not is_finite(torch.tensor([1.0, float("-inf"), float("inf")]))
