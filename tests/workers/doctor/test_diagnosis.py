"""What was done to a parent is told from its weights: every oracle, and every honest fine-tune."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.workers.alignments import CASES, State, alignment, diagnose
from workers.doctor.diagnosis import Diagnosis
from workers.doctor.sites import Heads
from workers.doctor.verdicts import refusals, remarks

KINDS = {
    "align_lock_vo": {"locked_vo"},
    "align_permute_mlp": {"permuted_mlp"},
    "align_permute_heads": {"permuted_heads"},
    "align_rescale_mlp_norm": {"folded", "scaled"},
}
LAYERS = ("model.layers.0", "model.layers.1")


def kinds(diagnosis: Diagnosis) -> set[str]:
    return {finding.kind for finding in diagnosis.findings}


def diagnosed(transform: Callable[[State], None], heads: Heads | None = None) -> Diagnosis:
    """An honest fine-tune after a change of its weights."""
    case = alignment("align_lock_vo")
    changed = {name: tensor.clone() for name, tensor in case.models["m1"].items()}
    transform(changed)
    models = {"base": case.models["base"], "changed": changed}
    return diagnose(models, heads or case.heads)["changed"]


def test_every_published_case_is_here() -> None:
    assert KINDS.keys() == CASES.keys()


@pytest.mark.parametrize("identifier", CASES)
def test_what_was_done_is_named_and_just_the_changed_tensors_are_flagged(
    identifier: str,
) -> None:
    case = alignment(identifier)
    found = diagnose(case.models, case.heads)["m0"]
    assert kinds(found) == KINDS[identifier]
    assert found.flagged == case.case["extra"]["detector_figures"].keys()


@pytest.mark.parametrize("identifier", CASES)
def test_figures_are_those_of_the_oracle(identifier: str) -> None:
    case = alignment(identifier)
    models = {**case.models, "original": case.original}
    found = diagnose(models, case.heads)
    for name, figures in case.case["extra"]["detector_figures"].items():
        ours, honest = found["m0"].tensors[name], found["original"].tensors[name]
        assert ours.delta_ratio == pytest.approx(figures["delta_norm_ratio"], abs=1e-4)
        assert ours.cosine == pytest.approx(figures["cos_to_base"], abs=1e-4)
        assert honest.delta_ratio == pytest.approx(figures["honest_delta_norm_ratio"], abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("identifier", CASES)
def test_honest_fine_tunes_are_not_flagged(identifier: str, dtype: torch.dtype) -> None:
    case = alignment(identifier)
    models = {**case.models, "original": case.original}
    rounded = {m: {n: t.to(dtype) for n, t in state.items()} for m, state in models.items()}
    found = diagnose(rounded, case.heads)
    for name in ("m1", "original"):
        assert found[name].findings == ()
        assert list(refusals(found[name])) == list(remarks(found[name])) == []
    assert kinds(found["m0"]) == KINDS[identifier]


def test_a_lock_of_queries_and_keys_that_rotary_positions_allow() -> None:
    def lock(state: State) -> None:
        torch.manual_seed(0)
        for layer in LAYERS:
            query = state[f"{layer}.self_attn.q_proj.weight"].view(4, 2, 4, -1)
            key = state[f"{layer}.self_attn.k_proj.weight"].view(2, 2, 4, -1)
            turn = torch.polar(1 + torch.rand(2, 4).double(), 6 * torch.rand(2, 4).double())
            _multiply(key, turn)
            _multiply(query, (1 / turn.conj()).repeat_interleave(2, dim=0))

    found = diagnosed(lock)
    assert kinds(found) == {"locked_qk"}
    assert any("q_proj and k_proj were transformed together" in text for text in refusals(found))


def _multiply(halves: Tensor, factor: Tensor) -> None:
    """Rows j and j + size/2 of a head are one complex row: (heads, 2, size/2, hidden) in place."""
    turned = torch.complex(halves[:, 0], halves[:, 1]) * factor[..., None]
    halves[:, 0], halves[:, 1] = turned.real, turned.imag


def test_heads_that_were_scaled_are_locked() -> None:
    def scale(state: State) -> None:
        for layer in LAYERS:
            factor = torch.tensor([0.2, 5.0]).double().repeat_interleave(8)
            state[f"{layer}.self_attn.v_proj.weight"] *= factor[:, None]
            state[f"{layer}.self_attn.o_proj.weight"] /= (
                factor.view(2, 1, 8).repeat(1, 2, 1).view(-1)
            )

    assert kinds(diagnosed(scale)) == {"locked_vo"}


def test_another_pre_training_is_told_from_the_embeddings() -> None:
    def replace(state: State) -> None:
        torch.manual_seed(0)
        for name, tensor in state.items():
            if tensor.dim() > 1:
                state[name] = torch.randn_like(tensor) * tensor.std()

    found = diagnosed(replace)
    assert kinds(found) == {"unrelated"}
    (message,) = refusals(found)
    assert "another pre-training" in message


def test_a_model_that_turned_away_for_no_known_reason_is_refused() -> None:
    def replace(state: State) -> None:
        torch.manual_seed(0)
        for name, tensor in state.items():
            if "proj" in name:
                state[name] = torch.randn_like(tensor) * tensor.std()

    found = diagnosed(replace)
    assert kinds(found) == {"far"}
    (message,) = refusals(found)
    assert "nothing that is known explains it" in message


@pytest.mark.parametrize(
    ("ratio", "refused", "remarked"), [(0.3, False, False), (0.9, False, True), (1.2, True, False)]
)
def test_training_that_went_very_far_is_refused_only_where_a_merge_would_lose_both(
    ratio: float, refused: bool, remarked: bool
) -> None:
    """A change at right angles of r times the norm leaves a cosine of 1 / sqrt(1 + r^2)."""
    base = alignment("align_lock_vo").models["base"]

    def train(state: State) -> None:
        torch.manual_seed(0)
        for name, tensor in state.items():
            moved = torch.randn_like(tensor)
            state[name] = base[name] + moved * (ratio * base[name].norm() / moved.norm())

    found = diagnosed(train)
    assert found.whole.delta_ratio == pytest.approx(ratio)
    assert found.whole.cosine == pytest.approx(1 / math.sqrt(1 + ratio**2), abs=0.03)
    assert bool(list(refusals(found))) == refused
    assert any("unusually far" in text for text in remarks(found)) == remarked


def test_one_replaced_tensor_is_worth_a_remark() -> None:
    name = "model.layers.0.self_attn.k_proj.weight"

    def replace(state: State) -> None:
        state[name] = torch.randn_like(state[name])

    found = diagnosed(replace)
    assert list(refusals(found)) == []
    (message,) = remarks(found)
    assert f"unusually far from the base in '{name}'" in message


def test_without_known_heads_a_lock_is_still_far_away() -> None:
    case = alignment("align_lock_vo")
    found = diagnose(case.models, None)["m0"]
    assert kinds(found) == {"far"}
    assert found.flagged == case.case["extra"]["detector_figures"].keys()
    assert list(refusals(found)) != []


def test_names_that_are_not_known_get_figures_and_no_verdict_of_their_own() -> None:
    case = alignment("align_permute_mlp")
    renamed = {
        model: {name.replace("_proj", "_matrix"): tensor for name, tensor in state.items()}
        for model, state in case.models.items()
    }
    found = diagnose(renamed, case.heads)
    assert kinds(found["m0"]) == {"far"}
    assert found["m1"].findings == ()


def test_duplicates_and_no_ops_are_remarks_and_frozen_parts_are_listed() -> None:
    case = alignment("align_lock_vo")
    base, honest = case.models["base"], case.models["m1"]
    head = {"lm_head.weight": base["lm_head.weight"]}
    models = {
        "base": base,
        "one": honest,
        "two": dict(honest),
        "same": dict(base),
        "still": {name: tensor * (1 + 1e-6) for name, tensor in base.items()},
        "frozen": {**honest, **head},
    }
    found = diagnose(models, case.heads)
    said = {name: " ".join(remarks(diagnosis)) for name, diagnosis in found.items()}
    assert said["one"] == ""
    assert "the same weights as 'one'" in said["two"]
    assert "is the base itself, to the last bit" in said["same"]
    assert "nearly the base itself" in said["still"]
    assert said["frozen"] == ""
    summary = found["frozen"].summary
    assert {group: d.frozen for group, d in summary.groups.items() if d.frozen} == {"head": 1.0}
    assert 0.0 < summary.whole.frozen < 1.0
    assert all(list(refusals(diagnosis)) == [] for diagnosis in found.values())


def test_a_base_of_zeros_has_no_ratios_and_raises_nothing() -> None:
    base = {"model.layers.0.mlp.up_proj.weight": torch.zeros(3, 4)}
    found = diagnose({"base": base, "one": {n: t + 1 for n, t in base.items()}}, None)["one"]
    assert found.findings == ()
    assert math.isnan(found.whole.delta_ratio)
    assert not found.is_no_op


def test_groups_add_up_to_the_whole() -> None:
    case = alignment("align_lock_vo")
    found = diagnose(case.models, case.heads)["m1"]
    assert list(found.groups) == ["embed", "qk", "vo", "mlp", "norm", "head"]
    assert sum(f.size for f in found.groups.values()) == found.whole.size
    assert sum(f.delta for f in found.groups.values()) == pytest.approx(found.whole.delta)


def test_values_that_are_not_finite_are_named() -> None:
    name = "model.layers.1.mlp.up_proj.weight"

    def spoil(state: State) -> None:
        state[name][0, 0] = torch.nan

    (message,) = refusals(diagnosed(spoil))
    assert f"holds NaN or infinite values in '{name}'" in message
