"""What every merge method promises, and the algebra of each."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from search.method import LINES
from search.problems import Invalid
from search.registry import UnknownName
from tests.workers.whole_models import merged, sources_of
from workers import merge_state_dicts
from workers.kernels.weighted_sum import weighted_sum
from workers.merging.magnitudes import band
from workers.merging.memo import Memo
from workers.merging.merge_method import MergeMethod, NotMergeable, Sources, methods

ALL = [pytest.param(method, id=method.name) for method in methods]
WITH_PARENTS = [
    p for p, m in zip(ALL, methods, strict=True) if m.declaration.parent_values is not None
]
WEIGHTED = [
    p
    for p, m in zip(ALL, methods, strict=True)
    if {"weight", "normalize"} <= {parameter.name for parameter in m.declaration.parameters}
    and m.declaration.parent_values is not None
]
USING_BASE = [p for p, m in zip(ALL, methods, strict=True) if m.declaration.uses_base]
# Weights of methods on the sphere are shares, not factors; lines and twin add two things.
ADDING = [
    p
    for p, m in zip(ALL, methods, strict=True)
    if m.declaration.needs_base and m.name not in ("lines", "twin")
]
VOTING = ("ties", "dare_ties", "breadcrumbs_ties")
MASKING = ("dare_linear", "della", "della_linear", "breadcrumbs")
seeds = st.integers(0, 2**32)
EXAMPLES = settings(max_examples=25)


def model(seed: int, *shape: int, scale: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"w": torch.randn(shape or (7, 5), generator=generator) * scale}


def merge(method: str, *models: dict[str, Tensor], seed: int = 0, **parameters: Any) -> Tensor:
    """The first model is the base."""
    base, *parents = models
    return merge_state_dicts(method, base, parents, parameters, seed=seed)["w"]


def enough(method: MergeMethod, make: Any) -> list[dict[str, Tensor]]:
    return [make(n) for n in range(min(3, method.declaration.maximum_parents or 3))]


def has(method: MergeMethod, name: str) -> bool:
    return any(p.name == name for p in method.declaration.parameters)


def test_the_six_methods_are_there() -> None:
    names = {method.name for method in methods}
    assert names >= {"linear", "task_arithmetic", "slerp", "ties", "dare_linear", "dare_ties"}


@pytest.mark.parametrize("method", ALL)
def test_a_declaration_is_complete(method: MergeMethod) -> None:
    declaration = method.declaration
    assert declaration.summary.endswith(".")
    assert any(place in declaration.source for place in ("arXiv:", "doi:"))
    for parameter in declaration.parameters:
        assert parameter.description
        if parameter.kind == "float":
            default = parameter.default
            assert isinstance(default, float)
            assert parameter.minimum <= parameter.low < parameter.high <= parameter.maximum
            assert parameter.low <= default <= parameter.high
        if parameter.kind == "choice":
            assert parameter.default in parameter.choices


@pytest.mark.parametrize("method", ALL)
def test_the_declared_cost_is_what_is_kept(method: MergeMethod) -> None:
    base, few = model(0, 64, 48), {"doge": {"steps": 2}, "wudi": {"iter_num": 2}}
    parents = {str(n): model(n + 1, 64, 48) for n in range(len(enough(method, str)))}
    sources = sources_of(base, parents)
    merged(method.name, sources, few.get(method.name, {}))
    kept = sources["w"].memo.size
    match method.declaration.cost:
        case "linear":
            assert kept == 0
        case "closed form":  # inner products
            assert 0 < kept < base["w"].nbytes / 10
        case "prepared":  # directions
            assert kept >= base["w"].nbytes
        case "vote":  # some keep ranks, so that candidates need not sort; none keeps what it adds
            assert method.name in (*VOTING, *MASKING, "nearswap")


@pytest.mark.parametrize("method", ALL)
@given(seed=seeds)
@EXAMPLES
def test_identical_models_merge_to_themselves(method: MergeMethod, seed: int) -> None:
    same = model(seed)
    parents = enough(method, lambda n: same)
    assert_close(merge(method.name, same, *parents), same["w"])


@pytest.mark.parametrize("method", ALL)
@given(seed=seeds)
@EXAMPLES
def test_the_order_of_parents_does_not_matter(method: MergeMethod, seed: int) -> None:
    parents = {str(n): model(seed + n + 1) for n in range(len(enough(method, str)))}
    weights = [0.3, 0.5, 0.9][: len(parents)]
    forward: dict[str, Any] = {"weight": weights} if has(method, "weight") else {}
    backward: dict[str, Any] = {"weight": weights[::-1]} if has(method, "weight") else {}
    if method.name == "slerp":
        forward, backward = {"t": 0.3}, {"t": 0.7}
    if has(method, "order"):
        backward = {"order": [2, 1, 0]}
    turned = dict(reversed(parents.items()))
    base = model(seed)
    one = merge_state_dicts(method.name, base, parents, forward)
    other = merge_state_dicts(method.name, base, turned, backward)
    assert_close(one["w"], other["w"])


@pytest.mark.parametrize("method", WITH_PARENTS)
@given(seed=seeds, chosen=st.integers(0, 2))
@EXAMPLES
def test_a_one_hot_weight_gives_that_parent_where_declared(
    method: MergeMethod, seed: int, chosen: int
) -> None:
    values = method.declaration.parent_values or {}
    parents = enough(method, lambda n: model(seed + n + 1))
    chosen %= len(parents)
    weight = [float(n == chosen) for n in range(len(parents))]
    merged = merge(method.name, model(seed), *parents, weight=weight, **values)
    assert_close(merged, parents[chosen]["w"])


# Methods that give parents that are all the same back as they are, by default.
AGREEING = (
    "linear",
    "slerp",
    "nuslerp",
    "multislerp",
    "karcher",
    "model_stock",
    "ram",
    "ramplus",
    "sce",
)


@pytest.mark.parametrize("method", AGREEING)
@given(seed=seeds)
@EXAMPLES
def test_parents_that_agree_are_the_result(method: str, seed: int) -> None:
    base, same = model(seed), model(seed + 1)
    parents = enough(methods[method], lambda n: same)
    assert_close(merge(method, base, *parents), same["w"], rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("method", ALL)
@given(seed=seeds)
@EXAMPLES
def test_sums_are_taken_in_float32_and_rounded_once(method: MergeMethod, seed: int) -> None:
    base, *parents = (
        {"w": model(seed + n)["w"].bfloat16()} for n in range(1 + len(enough(method, str)))
    )
    wide = [{"w": m["w"].float()} for m in (base, *parents)]
    merged = merge(method.name, base, *parents)
    assert merged.dtype == torch.bfloat16
    assert torch.equal(merged, merge(method.name, *wide).bfloat16())


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (300_001,), (3, 4, 5)])
def test_any_shape_and_dtype(method: MergeMethod, dtype: torch.dtype, shape: Any) -> None:
    base = {"w": torch.full(shape, 0.5, dtype=dtype)}
    parents = enough(method, lambda n: {"w": torch.full(shape, 0.5 + n / 8, dtype=dtype)})
    merged = merge(method.name, base, *parents)
    assert merged.shape == torch.Size(shape)
    assert merged.dtype == dtype


@pytest.mark.parametrize("method", ALL)
def test_inputs_are_left_alone(method: MergeMethod) -> None:
    base = model(0)
    parents = enough(method, lambda n: model(n + 1))
    before = [m["w"].clone() for m in (base, *parents)]
    merge(method.name, base, *parents)
    assert all(torch.equal(m["w"], b) for m, b in zip((base, *parents), before, strict=True))


@pytest.mark.parametrize("method", ALL)
def test_what_is_not_finite_is_refused(method: MergeMethod) -> None:
    parents = enough(method, lambda n: model(n + 1))
    parents[0]["w"][2, 3] = math.nan
    with pytest.raises(NotMergeable, match=r"'w'.* is not finite"):
        merge(
            method.name, model(0), *parents, **({"density": 1.0} if method.name in VOTING else {})
        )


@pytest.mark.parametrize("method", USING_BASE)
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_base_that_is_not_finite_is_refused(method: MergeMethod, broken: float) -> None:
    base, parents = model(0), enough(method, lambda n: model(n + 1))
    base["w"][2, 3] = broken
    with pytest.raises(NotMergeable, match=r"'w' of the base is not finite"):
        merge(method.name, base, *parents)


@pytest.mark.parametrize("name", ["linear", "nuslerp", "multislerp", "karcher"])
def test_a_base_that_is_not_read_may_be_anything(name: str) -> None:
    aside = {"task_vectors": False} if has(methods[name], "task_vectors") else {}
    broken = {"w": torch.full((7, 5), math.nan)}
    assert_close(
        merge(name, broken, model(1), model(2), **aside),
        merge_state_dicts(name, None, [model(1), model(2)])["w"],
    )


@pytest.mark.parametrize("method", WEIGHTED)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("size", [10, 200_000])  # what is left to expressions, and what is not
def test_what_overflows_is_refused(method: MergeMethod, dtype: torch.dtype, size: int) -> None:
    base = {"w": torch.zeros(size, dtype=dtype)}
    parent = {"w": torch.zeros(size, dtype=dtype)}
    parent["w"][3] = torch.finfo(dtype).max
    values = {**(method.declaration.parent_values or {}), "normalize": False}
    with pytest.raises(NotMergeable, match="'w' is not finite after the merge"):
        merge(method.name, base, parent, weight=3.0, **values)


@pytest.mark.parametrize("method", ALL)
def test_all_problems_of_the_parameters_are_gathered(method: MergeMethod) -> None:
    first = next(p for p in method.declaration.parameters if p.kind == "float")
    with pytest.raises(Invalid) as caught:
        merge(method.name, model(0), **{f"{first.name}x": 1.0, first.name: "much"})
    messages = {problem.field: problem.message for problem in caught.value.problems}
    assert messages[f"parameters.{first.name}x"].endswith(f"did you mean '{first.name}'?")
    assert "is a number" in messages[f"parameters.{first.name}"]
    assert "takes" in messages["parents"]


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("ties", {"density": 20.0}, "is 20, but must be between"),
        ("ties", {"density": 0.0}, "in (0, 1]"),
        ("ties", {"weight": [1.0]}, "has 1 numbers for 2 parents"),
        ("ties", {"weight": math.inf}, "is inf"),
        ("ties", {"normalize": 1.0}, "is true, false, or"),
        ("dare_ties", {"rescale": "l2"}, "is one of none, l1, 1/density"),
        ("slerp", {"t": 1.5}, "is 1.5, but must be between 0 and 1"),
        ("slerp", {"t": [0.5, 0.5]}, "is one number for all parents"),
        ("slerp", {"t": True}, "is a number"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(
    method: str, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(Invalid) as caught:
        merge(method, model(0), model(1), model(2), **parameters)
    assert message in caught.value.problems[0].message


def test_an_unknown_method_is_told_with_the_near_one() -> None:
    with pytest.raises(UnknownName, match="did you mean 'slerp'"):
        merge("slurp", model(0), model(1))


# linear


def test_weights_that_cancel_cannot_be_normalized() -> None:
    with pytest.raises(NotMergeable, match=r"sum to 0 at 'w'.*turn normalize off"):
        merge("linear", model(0), model(1), model(2), weight=[1.0, -1.0])
    merged = merge("linear", model(0), model(1), model(2), weight=[1.0, -1.0], normalize=False)
    assert_close(merged, model(1)["w"] - model(2)["w"])


def test_a_weight_of_nothing_does_not_even_look() -> None:
    out, broken = torch.empty(7, 5), torch.full((7, 5), math.nan)
    weighted_sum(out, [model(1)["w"], broken], [1.0, 0.0])
    assert torch.equal(out, model(1)["w"])


def test_a_weight_of_nothing_does_not_hide_a_broken_parent() -> None:
    broken = {"w": torch.full((7, 5), math.inf)}
    with pytest.raises(NotMergeable, match="'w' of parent '1' is not finite"):
        merge("linear", model(0), model(1), broken, weight=[1.0, 0.0])
    with pytest.raises(NotMergeable, match="'w' of parent '1' is not finite"):
        merge("slerp", model(0), model(1), broken, t=0.0)


# task arithmetic


@given(seed=seeds, weight=st.lists(st.floats(-2, 2), min_size=3, max_size=3), scale=st.floats(0, 2))
@EXAMPLES
def test_task_arithmetic_is_its_formula(seed: int, weight: list[float], scale: float) -> None:
    base, *parents = (model(seed + n) for n in range(4))
    merged = merge("task_arithmetic", base, *parents, weight=weight, **{"lambda": scale})
    deltas = [w * (p["w"] - base["w"]) for w, p in zip(weight, parents, strict=True)]
    assert_close(merged, base["w"] + scale * sum(deltas), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ADDING)
def test_no_weight_leaves_the_base(method: MergeMethod) -> None:
    base, *parents = model(0), *enough(method, lambda n: model(n + 1))
    factors = ("weight", "scaling", "lambda", "t")
    factor = next(name for name in factors if has(method, name))
    assert torch.equal(merge(method.name, base, *parents, **{factor: 0.0}), base["w"])


@pytest.mark.parametrize("method", USING_BASE)
def test_what_is_remembered_changes_no_bit(method: MergeMethod) -> None:
    tensors = [model(n)["w"] for n in range(1 + len(enough(method, str)))]
    labels = [str(n) for n in range(len(tensors) - 1)]

    def merged(memo: Memo, factor: float) -> Tensor:
        values: dict[str, Any] = {}
        for p in method.declaration.parameters:
            if p.kind == "float" and p not in LINES:
                others = [p.default] * (len(labels) - 1)
                changed = factor * float(p.default)
                values[p.name] = [changed, *others] if p.per_parent else changed
        given = method.arguments(values, len(labels))
        out = torch.empty_like(tensors[0])
        sources = Sources(
            "w", tensors[0], tensors[1:], labels, memo=memo, model=lambda: iter([sources])
        )
        method.merge(out, sources, given)
        return out

    memo = Memo()
    first = merged(memo, 1.0)
    assert torch.equal(merged(memo, 1.0), first)
    other = merged(memo, 0.9)
    assert torch.equal(other, merged(Memo(), 0.9))
    assert not torch.equal(other, first)


# slerp


@given(seed=seeds)
@EXAMPLES
def test_the_ends_of_the_arc_are_the_parents(seed: int) -> None:
    first, second = model(seed), model(seed + 1)
    assert torch.equal(merge("slerp", first, first, second, t=0.0), first["w"])
    assert torch.equal(merge("slerp", first, first, second, t=1.0), second["w"])


@given(seed=seeds, t=st.floats(0, 1))
@EXAMPLES
def test_the_arc_of_unit_vectors_stays_on_the_sphere(seed: int, t: float) -> None:
    first, second = (m["w"] / m["w"].norm() for m in (model(seed), model(seed + 1)))
    merged = merge("slerp", {"w": first}, {"w": first}, {"w": second}, t=t)
    assert_close(merged.norm(), torch.tensor(1.0), rtol=1e-5, atol=0)
    angle = torch.arccos((first * second).sum())
    assert_close(torch.arccos((first * merged).sum().clamp(-1, 1)), t * angle, rtol=0, atol=2e-3)


def test_slerp_takes_two_parents() -> None:
    with pytest.raises(Invalid, match="exactly 2 parents, not 3"):
        merge("slerp", *(model(n) for n in range(4)))


# ties


def trimmed(values: list[float], density: float) -> list[float]:
    delta = torch.tensor(values)
    sources = Sources("w", torch.zeros_like(delta), [delta], ["one"])
    return band(sources, [density]).survivors(0, delta, 0).tolist()


@pytest.mark.parametrize(
    ("density", "expected"),
    [
        (1.0, [1, -2, 2, 0.5, 2]),
        (0.8, [1, -2, 2, 0, 2]),
        (0.6, [0, -2, 2, 0, 2]),
        (0.59, [0, -2, 2, 0, 0]),  # floor(0.59 * 5) = 2 of three equal ones: the first two
        (0.2, [0, -2, 0, 0, 0]),
        (0.1, [0, -2, 0, 0, 0]),  # never less than one
    ],
)
def test_the_largest_survive_and_of_equal_ones_the_first(
    density: float, expected: list[float]
) -> None:
    assert trimmed([1, -2, 2, 0.5, 2], density) == expected


@given(
    values=st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=40),
    density=st.floats(0.01, 1.0),
)
@settings(max_examples=200)
def test_the_trim_is_that_of_a_stable_sort(values: list[float], density: float) -> None:
    kept = max(1, int(density * len(values)))
    order = sorted(range(len(values)), key=lambda i: -abs(values[i]))[:kept]
    expected = [v if i in order else 0.0 for i, v in enumerate(values)]
    assert trimmed(values, density) == expected


def test_the_trim_of_many_blocks_is_that_of_one() -> None:
    generator = torch.Generator().manual_seed(0)
    delta = torch.randn(300_000, generator=generator).bfloat16()  # many are equal
    merged = merge(
        "ties", {"w": torch.zeros_like(delta)}, {"w": delta}, density=0.3, normalize=False
    )
    kept = int(merged.count_nonzero())
    assert abs(kept - 90_000) <= 300_000 / 16_384
    order = delta.float().abs().argsort(descending=True, stable=True)[:kept]
    expected = torch.zeros_like(delta)
    expected[order] = delta[order]
    assert torch.equal(merged, expected)


def test_signs_are_elected_by_weight() -> None:
    base = {"w": torch.zeros(4)}
    one = {"w": torch.tensor([1.0, 1.0, 0.0, 2.0])}
    two = {"w": torch.tensor([-3.0, -1.0, 5.0, 4.0])}
    merged = merge("ties", base, one, two, density=1.0, weight=[1.0, 0.5])
    # -1.5 outweighs 1; +1 outweighs -0.5; a zero has no vote; weighted mean of 2 and 4
    assert_close(merged, torch.tensor([-3.0, 1.0, 5.0, (2.0 + 0.5 * 4.0) / 1.5]))


def test_an_exact_tie_elects_plus() -> None:
    base, one, two = ({"w": torch.tensor([x])} for x in (0.0, 1.0, -1.0))
    for method in VOTING:
        assert merge(method, base, one, two, density=1.0, normalize=True).item() == 1.0


def test_agreeing_weights_that_cancel_do_not_divide_by_nothing() -> None:
    base = {"w": torch.zeros(1)}
    one, two = {"w": torch.ones(1)}, {"w": -torch.ones(1)}
    merged = merge("ties", base, one, two, weight=[1.0, -1.0], density=1.0)
    assert merged.item() == 2.0  # both weighted deltas are +1, their weights sum to 0


# dare


def mask(density: float, *, seed: int = 0, label: str = "one", name: str = "w") -> Tensor:
    base = {name: torch.zeros(100_000)}
    one = {label: {name: torch.ones(100_000)}}
    given = {"density": density, "rescale": "none"}
    return merge_state_dicts("dare_linear", base, one, given, seed=seed)[name] > 0


def test_masks_nest_so_that_density_moves_smoothly() -> None:
    sparse, middle, dense, full = (mask(density) for density in (0.1, 0.5, 0.9, 1.0))
    assert not (sparse & ~middle).any()
    assert not (middle & ~dense).any()
    assert full.all()
    assert abs(middle.float().mean().item() - 0.5) < 0.01


def test_a_mask_depends_on_seed_parent_and_tensor() -> None:
    first = mask(0.5)
    assert torch.equal(first, mask(0.5))
    for other in (mask(0.5, seed=1), mask(0.5, label="two"), mask(0.5, name="v")):
        assert 0.48 < (first == other).float().mean().item() < 0.52


def test_a_mask_does_not_depend_on_the_other_parents() -> None:
    base, one, two = {"w": torch.zeros(999)}, {"w": torch.ones(999)}, {"w": torch.zeros(999)}
    alone = merge_state_dicts("dare_linear", base, {"one": one}, {"density": 0.5})
    second = merge_state_dicts("dare_linear", base, {"two": two, "one": one}, {"density": 0.5})
    assert torch.equal(alone["w"], second["w"])


def test_a_tensor_that_loses_every_entry_is_not_rescaled() -> None:
    base, one = {"w": torch.zeros(1)}, {"w": torch.ones(1)}
    values = {
        merge("dare_linear", base, one, density=0.5, rescale="l1", seed=seed).item()
        for seed in range(20)
    }
    assert values == {0.0, 1.0}


def test_dropping_nothing_is_task_arithmetic() -> None:
    models = [model(n) for n in range(3)]
    dare = merge("dare_linear", *models, density=1.0, weight=[0.3, 0.8])
    assert_close(dare, merge("task_arithmetic", *models, weight=[0.3, 0.8]))


# della


def test_large_entries_survive_more_often() -> None:
    delta = torch.arange(1.0, 1001.0).repeat(200, 1)  # every row has the same ranks
    merged = merge("della_linear", {"w": torch.zeros_like(delta)}, {"w": delta}, density=0.5)
    rate = (merged != 0).float().mean(dim=0)
    assert_close(rate[:100].mean(), torch.tensor(0.35 + 0.015), rtol=0, atol=0.02)
    assert_close(rate[-100:].mean(), torch.tensor(0.65 - 0.015), rtol=0, atol=0.02)
    assert_close(merged.mean(dim=0)[-500:].mean(), delta[0, -500:].mean(), rtol=0.02, atol=0)


def test_an_epsilon_that_leaves_the_unit_interval_is_reduced() -> None:
    merged = merge("della", model(0), model(1), density=0.05, epsilon=0.5)
    assert merged.isfinite().all()
    everything = merge("della_linear", model(0), model(1), density=1.0, epsilon=0.5)
    assert_close(everything, model(1)["w"], rtol=1e-2, atol=1e-2)


# breadcrumbs


@pytest.mark.parametrize(
    ("density", "gamma", "expected"),
    [
        (0.5, 0.0, [0, 0, 3, -4]),  # a gamma of nothing drops nothing
        (0.5, 0.25, [0, -2, 3, 0]),
        (0.75, 0.5, [1, -2, 3, 0]),  # there is only one left to drop
        (1.0, 0.5, [1, -2, 3, -4]),
        (0.2, 0.0, [0, 0, 0, 0]),  # a band of less than one entry
        (0.2, 0.25, [0, 0, 0, 0]),
    ],
)
def test_breadcrumbs_keep_a_band(density: float, gamma: float, expected: list[float]) -> None:
    base, one = {"w": torch.zeros(4)}, {"w": torch.tensor([1.0, -2.0, 3.0, -4.0])}
    merged = merge("breadcrumbs", base, one, density=density, gamma=gamma)
    assert merged.tolist() == expected


def test_a_band_scaled_to_the_norm_of_the_whole() -> None:
    base, one = {"w": torch.zeros(4)}, {"w": torch.tensor([1.0, -2.0, 3.0, -4.0])}
    merged = merge("breadcrumbs", base, one, density=0.5, gamma=0.25, rescale="l1")
    assert_close(merged, torch.tensor([0.0, -4.0, 6.0, 0.0]))
