"""TSV-Merge and both isotropic merges: what they make of singular values and directions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from workers import merge_state_dicts

ZERO = {"w": torch.zeros(12, 9)}


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or (12, 9), generator=torch.Generator().manual_seed(seed))


def added(method: str, deltas: list[Tensor], **settings: object) -> Tensor:
    base = {"w": torch.zeros_like(deltas[0])}
    return merge_state_dicts(method, base, [{"w": delta} for delta in deltas], settings)["w"]


def low_rank(seed: int, rank: int) -> Tensor:
    return random(seed, 12, rank) @ random(seed + 100, rank, 9)


def test_tsv_keeps_changes_that_are_orthogonal_already() -> None:
    one, two = torch.zeros(12, 9), torch.zeros(12, 9)
    one[:4, :4], two[5:9, 5:9] = random(0, 4, 4), random(1, 4, 4)
    assert_close(added("tsv_merge", [one, two]), one + two, rtol=1e-4, atol=1e-4)


def test_tsv_keeps_as_many_directions_of_a_parent_as_there_is_room() -> None:
    delta = random(0)
    u, s, vh = torch.linalg.svd(delta, full_matrices=False)
    wanted = u[:, :3] @ torch.diag(s[:3]) @ vh[:3]
    # Two of three parents are the base: no directions, but no more room for the third either.
    idle = torch.zeros_like(delta)
    assert_close(added("tsv_merge", [delta, idle, idle]), wanted, rtol=1e-4, atol=1e-4)


def test_tsv_scales_a_parents_share_by_its_weight() -> None:
    deltas = [random(0), random(1)]
    apart = [added("tsv_merge", deltas, weight=[float(n == i) for n in range(2)]) for i in range(2)]
    both = added("tsv_merge", deltas, weight=[0.3, 0.8], alpha=1.5)
    assert_close(both, 1.5 * (0.3 * apart[0] + 0.8 * apart[1]), rtol=1e-4, atol=1e-5)


def test_tsv_averages_where_parents_have_no_room() -> None:
    deltas = [random(seed, 2, 9) for seed in range(3)]
    assert_close(added("tsv_merge", deltas, alpha=0.6), 0.6 * sum(deltas) / 3)


def test_tsv_of_equal_parents_is_their_truncated_change() -> None:
    delta = low_rank(0, 3)
    assert_close(added("tsv_merge", [delta] * 3), delta, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("method", "settings"), [("iso_c", {}), ("iso_cts", {"common_space_fraction": 0.6})]
)
def test_isotropic_merges_have_one_singular_value(method: str, settings: dict[str, float]) -> None:
    values = torch.linalg.svdvals(added(method, [random(n) for n in range(3)], **settings))
    assert_close(values, values.mean().expand(9), rtol=1e-4, atol=1e-4)


def test_iso_c_keeps_directions_and_the_sum_of_singular_values() -> None:
    deltas = [random(n) for n in range(3)]
    u, s, vh = torch.linalg.svd(sum(deltas), full_matrices=False)
    assert_close(added("iso_c", deltas), s.mean() * u @ vh, rtol=1e-4, atol=1e-4)


def test_a_sum_of_low_rank_stays_of_that_rank() -> None:
    deltas = [low_rank(0, 2), low_rank(1, 2)]
    strengths = torch.linalg.svdvals(sum(deltas))[:4]
    for method in ("iso_c", "iso_cts"):
        values = torch.linalg.svdvals(added(method, deltas))
        assert_close(values[4:], torch.zeros(5), rtol=0, atol=1e-4)
        assert (values[:4] > 0.1).all()
    exact = torch.linalg.svdvals(added("iso_c", deltas))[:4]
    assert_close(exact, strengths.mean().expand(4), rtol=1e-4, atol=1e-4)


def test_iso_cts_without_specific_directions_is_iso_c() -> None:
    deltas = [random(n) for n in range(3)]
    assert_close(added("iso_cts", deltas, common_space_fraction=1.0), added("iso_c", deltas))


def test_iso_cts_gives_each_parent_its_strongest_directions() -> None:
    # Nothing in common: room for 4 of 9 directions of each parent, whose main ones are orthogonal.
    one, two = torch.zeros(12, 9), torch.zeros(12, 9)
    for i in range(4):
        one[i, i], two[4 + i, 4 + i] = 5.0 + i, 9.0 + i
    merged = added("iso_cts", [one, two], common_space_fraction=0.0)
    diagonal = torch.diag(merged)
    mean = float(diagonal[0])
    assert_close(diagonal, torch.tensor([mean] * 8 + [0.0]), rtol=1e-4, atol=1e-4)
    assert mean == pytest.approx((5 + 6 + 7 + 8 + 9 + 10 + 11 + 12) / 8, rel=1e-4)


@pytest.mark.parametrize("shape", [(1, 5), (2, 2), (3, 40)])
def test_iso_cts_of_more_parents_than_directions_is_defined(shape: tuple[int, int]) -> None:
    deltas = [random(n, *shape) for n in range(5)]
    merged = added("iso_cts", deltas, common_space_fraction=0.5)
    assert merged.isfinite().all()
    assert merged.abs().max() > 0


@pytest.mark.parametrize("method", ["tsv_merge", "iso_c", "iso_cts", "wudi"])
def test_what_is_no_matrix_is_averaged(method: str) -> None:
    names = {"embed_tokens.weight": (9, 4), "norm.weight": (4,), "experts": (2, 4, 4)}
    base = {name: random(7, *shape) for name, shape in names.items()}
    parents = [
        {name: base[name] + random(n, *shape) for name, shape in names.items()} for n in range(3)
    ]
    merged = merge_state_dicts(method, base, parents)
    for name in names:
        mean = sum(parent[name] for parent in parents) / 3
        assert_close(merged[name], mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "settings"), [("tsv_merge", {}), ("twin", {"density": 0.1, "mask_strategy": "svd"})]
)
def test_randomized_directions_are_nearly_the_exact_ones(
    method: str, settings: dict[str, object]
) -> None:
    decay = torch.diag(0.5 ** torch.arange(48.0))
    deltas = [random(n, 64, 48) @ decay for n in range(4)]
    exact = added(method, deltas, **settings)
    fast = added(method, deltas, svd="randomized", **settings)
    assert not torch.equal(fast, exact)
    assert_close(fast, exact, rtol=1e-2, atol=1e-2)
