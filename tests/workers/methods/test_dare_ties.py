"""DARE with the trim of TIES: the draw of dare_linear, then TIES over the whole model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.workers.whole_models import State, plus, state
from workers import merge_state_dicts
from workers.merging.merge_method import NotMergeable

BASE = state(0)
PARENTS = {str(n): plus(BASE, state(n + 1, scale=0.1)) for n in range(3)}


def drawn(density: float, rescale: str, seed: int) -> dict[str, State]:
    """Each parent as the draw leaves it."""
    return {
        label: merge_state_dicts(
            "dare_linear",
            BASE,
            {label: parent},
            {"weight": 1.0, "density": density, "rescale": rescale},
            seed=seed,
        )
        for label, parent in PARENTS.items()
    }


@pytest.mark.parametrize(("normalize", "merge_func"), [(False, "sum"), (True, "mean")])
@pytest.mark.parametrize("rescale", ["none", "1/density"])
def test_a_trim_is_that_of_ties_on_what_the_draw_leaves(
    normalize: bool, merge_func: str, rescale: str
) -> None:
    shared: dict[str, Any] = {"weight": [0.5, 0.3, 0.9], "lambda": 0.8}
    settings = {"density": 0.6, "rescale": rescale, "normalize": normalize, "trim": 0.3}
    merged = merge_state_dicts("dare_ties", BASE, PARENTS, shared | settings, seed=3)
    ties = {"density": 0.3, "scope": "model", "merge_func": merge_func}
    wanted = merge_state_dicts("ties", BASE, drawn(0.6, rescale, seed=3), shared | ties)
    for name in BASE:
        assert_close(merged[name], wanted[name], rtol=1e-5, atol=1e-6)


def test_every_seed_draws_and_trims_for_itself() -> None:
    one, other = (
        merge_state_dicts("dare_ties", BASE, PARENTS, {"trim": 0.3}, seed=seed) for seed in (1, 2)
    )
    assert not all(torch.equal(one[name], other[name]) for name in BASE)


def test_without_a_trim_only_the_vote_is_left() -> None:
    settings = {"density": 1.0, "weight": [0.5, 0.3, 0.9], "normalize": True}
    voted = merge_state_dicts("dare_ties", BASE, PARENTS, settings)
    ties = merge_state_dicts("ties", BASE, PARENTS, settings)
    for name in BASE:
        assert_close(voted[name], ties[name])


def test_the_presets_are_mergekits_and_the_papers() -> None:
    for compat, settings in (
        ("mergekit", {"rescale": "l1", "trim": 1.0}),
        ("paper", {"rescale": "1/density", "trim": 0.2}),
    ):
        one = merge_state_dicts("dare_ties", BASE, PARENTS, {"compat": compat})
        other = merge_state_dicts("dare_ties", BASE, PARENTS, settings)
        assert all(torch.equal(one[name], other[name]) for name in BASE)


def test_a_norm_of_each_tensor_does_not_go_with_a_trim_of_all() -> None:
    with pytest.raises(NotMergeable, match="take 1/density"):
        merge_state_dicts("dare_ties", BASE, PARENTS, {"rescale": "l1", "trim": 0.2})
