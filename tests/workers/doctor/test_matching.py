"""Permutations are found exactly, and undone exactly."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tests.workers.alignments import CASES, State, alignment, diagnose, logits
from workers.doctor.matching import Order, match_heads, match_neurons, orders
from workers.doctor.sites import Heads, sites


def aligned(base: State, model: State, heads: Heads | None) -> tuple[State, dict[str, Order]]:
    readers = [partial(dict.__getitem__, state) for state in (base, model)]
    found = orders(sites(base), *readers, heads)
    state = {n: found[n].apply(tensor) if n in found else tensor for n, tensor in model.items()}
    return state, found


@pytest.mark.parametrize("identifier", ["align_permute_mlp", "align_permute_heads"])
def test_a_permuted_model_becomes_the_original_bit_by_bit(identifier: str) -> None:
    case = alignment(identifier)
    state, found = aligned(case.models["base"], case.models["m0"], case.heads)
    assert found.keys() == case.case["extra"]["detector_figures"].keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in case.original.items())
    assert diagnose({"base": case.models["base"], "m0": state}, case.heads)["m0"].findings == ()


@pytest.mark.parametrize("identifier", ["align_permute_mlp", "align_permute_heads"])
def test_the_aligned_model_computes_what_it_did(identifier: str) -> None:
    case = alignment(identifier)
    state, _ = aligned(case.models["base"], case.models["m0"], case.heads)
    for weights in (case.models["m0"], state):
        assert_close(logits(case.case, weights, case.ids), case.logits, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("identifier", CASES)
def test_nothing_moves_in_an_honest_fine_tune(identifier: str) -> None:
    case = alignment(identifier)
    assert aligned(case.models["base"], case.models["m1"], case.heads)[1] == {}


def test_without_known_heads_attention_is_left_alone() -> None:
    case = alignment("align_permute_heads")
    assert aligned(case.models["base"], case.models["m0"], None)[1] == {}


@settings(max_examples=25)
@given(
    st.integers(0, 2**32),
    st.sampled_from([(4, 4), (6, 2), (8, 1), (6, 3)]),
    st.sampled_from([0.0, 0.3]),
)
def test_any_order_of_heads_is_found(seed: int, counts: tuple[int, int], noise: float) -> None:
    heads = Heads(*counts, size=4)
    torch.manual_seed(seed)
    base = {
        "q": torch.randn(heads.count * 4, 24),
        "k": torch.randn(heads.groups * 4, 24),
        "v": torch.randn(heads.groups * 4, 24),
        "o": torch.randn(24, heads.count * 4),
    }
    groups = torch.randperm(heads.groups)
    inside = [g * heads.repeats + torch.randperm(heads.repeats) for g in groups.tolist()]
    query = torch.cat(inside)
    model = {
        "q": base["q"].view(heads.count, 4, -1)[query].reshape(heads.count * 4, -1),
        "k": base["k"].view(heads.groups, 4, -1)[groups].reshape(heads.groups * 4, -1),
        "v": base["v"].view(heads.groups, 4, -1)[groups].reshape(heads.groups * 4, -1),
        "o": base["o"].view(-1, heads.count, 4)[:, query].reshape(-1, heads.count * 4),
    }
    model = {part: tensor + noise * torch.randn_like(tensor) for part, tensor in model.items()}
    found_groups, found_query = match_heads(base, model, heads)
    assert torch.equal(groups[found_groups], torch.arange(heads.groups))
    assert torch.equal(query[found_query], torch.arange(heads.count))


def test_neurons_are_assigned_once_each_where_best_matches_collide() -> None:
    torch.manual_seed(0)
    base = {part: torch.randn(6, 5) for part in ("gate", "up")} | {"down": torch.randn(5, 6)}
    model = {part: torch.randn(6, 5) for part in ("gate", "up")} | {"down": torch.randn(5, 6)}
    places = match_neurons(base, model)
    assert sorted(places.tolist()) == list(range(6))


def test_biases_move_with_their_rows() -> None:
    case = alignment("align_permute_mlp")
    name = "model.layers.0.mlp.gate_proj"
    base = case.models["base"] | {f"{name}.bias": torch.arange(48.0)}
    model = case.models["m0"] | {f"{name}.bias": torch.zeros(48)}
    found = aligned(base, model, case.heads)[1]
    assert torch.equal(found[f"{name}.bias"].places, found[f"{name}.weight"].places)
