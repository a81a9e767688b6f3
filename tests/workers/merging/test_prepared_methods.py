"""What methods promise that spend their work on directions and keep them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.workers.whole_models import MATRIX, State, merged, plus, sources_of, state
from workers import merge_state_dicts
from workers.merging.memo import Memo
from workers.merging.merge_method import MergeMethod, NotMergeable, methods

# For each method, parameters of small structural work, then coefficients: these cost nothing.
SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "pcb": ({"pcb_ratio": 0.3}, {"lambda": [1.0, 0.7, 1.2]}, {"lambda": 0.5}),
    "consensus": ({"lambda": [0.2, 0.3, 0.4]}, {"scaling": 0.4}, {"scaling": 1.1}),
    "lines": ({}, {"alpha": 0.2, "beta": 0.5}, {"alpha": 0.4, "beta": 0.1}),
    "opcm": ({"alpha": 0.6}, {"lambda": 1.0}, {"lambda": 0.5}),
    "doge": ({"steps": 3}, {"weight": [1.0, 0.5, 0.8]}, {"weight": 1.2}),
    "tsv_merge": ({}, {"weight": [1.0, 0.5, 0.8]}, {"alpha": 0.6, "weight": 0.9}),
    "iso_c": ({}, {"scaling": 1.0}, {"scaling": 0.5}),
    "iso_cts": ({"common_space_fraction": 0.6}, {"scaling": 1.0}, {"scaling": 0.5}),
    "wudi": ({"iter_num": 3}, {"lambda": 1.0}, {"lambda": 0.5}),
    "twin": ({"density": 0.3}, {"weight": [0.6, 0.3, 0.1]}, {"weight": 0.2}),
}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, structural) for name, (structural, _, _) in SETTINGS.items()),
    ("pcb", {"compat": "paper"}),
    ("pcb", {"variant": "pcb.py"}),
    ("consensus", {"multi_task_vector": "ties sum top-20%"}),
    ("lines", {"multi_task_vector": "ties sum top-20%", "compat": "paper"}),
    ("doge", {"steps": 3, "rest": "average", "relative_lr": True}),
    ("wudi", {"iter_num": 3, "relative_lr": True}),
    ("wudi", {"solver": "exact"}),
    ("tsv_merge", {"svd": "randomized"}),
    ("twin", {"density": 0.3, "mask_strategy": "svd"}),
    ("twin", {"density": 0.3, "mask_strategy": "bernoulli"}),
]
every = pytest.mark.parametrize("name", SETTINGS)
variant = pytest.mark.parametrize(("name", "settings"), VARIANTS)


def family(count: int = 3, *, dtype: torch.dtype = torch.float32) -> tuple[State, dict[str, State]]:
    base = state(0)
    parents = {str(n): plus(base, state(n + 1, scale=0.1)) for n in range(count)}
    models = [
        {name: tensor.to(dtype) for name, tensor in model.items()}
        for model in (base, *parents.values())
    ]
    return models[0], dict(zip(parents, models[1:], strict=True))


def same(one: State, other: State) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@every
def test_what_is_remembered_changes_no_bit(name: str) -> None:
    structural, coefficients, others = SETTINGS[name]
    base, parents = family()
    sources = sources_of(base, parents)
    first = merged(name, sources, structural | coefficients)
    assert same(merged(name, sources, structural | coefficients), first)
    warm = merged(name, sources, structural | others)
    assert not same(warm, first)
    assert same(warm, merge_state_dicts(name, base, parents, structural | others))


@every
def test_a_searched_coefficient_finds_no_new_directions(name: str) -> None:
    structural, coefficients, others = SETTINGS[name]
    sources = sources_of(*family())
    merged(name, sources, structural | coefficients)
    kept = next(iter(sources.values())).memo
    before = kept.size
    merged(name, sources, structural | others)
    assert kept.size == before


@variant
def test_parents_that_are_the_base_leave_it(name: str, settings: dict[str, Any]) -> None:
    base, _ = family()
    result = merge_state_dicts(name, base, [base, base, base], settings)
    for tensor, expected in zip(result.values(), base.values(), strict=True):
        assert_close(tensor, expected, rtol=1e-6, atol=1e-7)


@variant
def test_one_idle_parent_makes_no_trouble(name: str, settings: dict[str, Any]) -> None:
    base, parents = family()
    result = merge_state_dicts(name, base, parents | {"1": base}, settings)
    assert all(tensor.isfinite().all() for tensor in result.values())
    assert not same(result, base)


@variant
def test_a_single_parent_is_enough(name: str, settings: dict[str, Any]) -> None:
    base, parents = family(1)
    given = {key: v[0] if isinstance(v, list) else v for key, v in settings.items()}
    result = merge_state_dicts(name, base, parents, given)
    assert all(tensor.isfinite().all() for tensor in result.values())


@variant
def test_identical_parents_are_merged_alike_in_any_order(
    name: str, settings: dict[str, Any]
) -> None:
    base, parents = family(1)
    thrice = dict.fromkeys(("a", "b", "c"), parents["0"])
    one = merge_state_dicts(name, base, thrice, settings)
    assert all(tensor.isfinite().all() for tensor in one.values())
    if settings.get("mask_strategy") != "bernoulli":  # masks are those of names
        other = merge_state_dicts(name, base, dict(reversed(thrice.items())), settings)
        for tensor in base:
            assert_close(one[tensor], other[tensor], rtol=1e-5, atol=1e-6)


@variant
def test_the_order_of_parents_does_not_matter(name: str, settings: dict[str, Any]) -> None:
    if name == "opcm":  # its order is a parameter
        settings = settings | {"order": [0.0, 1.0, 2.0]}
        turned = settings | {"order": [2.0, 1.0, 0.0]}
    else:
        turned = {k: v[::-1] if isinstance(v, list) else v for k, v in settings.items()}
    base, parents = family()
    one = merge_state_dicts(name, base, parents, settings)
    other = merge_state_dicts(name, base, dict(reversed(parents.items())), turned)
    for tensor in base:
        assert_close(one[tensor], other[tensor], rtol=1e-4, atol=2e-5)


@variant
def test_bfloat16_is_merged_as_float32_and_rounded_once(
    name: str, settings: dict[str, Any]
) -> None:
    base, parents = family(dtype=torch.bfloat16)
    wide = {
        label: {n: t.float() for n, t in model.items()}
        for label, model in {"base": base, **parents}.items()
    }
    exact = merge_state_dicts(name, wide.pop("base"), wide, settings)
    result = merge_state_dicts(name, base, parents, settings)
    assert same(result, {n: tensor.bfloat16() for n, tensor in exact.items()})


@variant
def test_float64_keeps_its_precision(name: str, settings: dict[str, Any]) -> None:
    base, parents = family(dtype=torch.float64)
    result = merge_state_dicts(name, base, parents, settings)
    narrow = merge_state_dicts(
        name,
        {n: tensor.float() for n, tensor in base.items()},
        {label: {n: t.float() for n, t in model.items()} for label, model in parents.items()},
        settings,
    )
    for tensor in base:
        assert result[tensor].dtype == torch.float64
        assert_close(result[tensor].float(), narrow[tensor], rtol=1e-3, atol=1e-4)
    assert not same(result, {n: tensor.float().double() for n, tensor in result.items()})


@variant
def test_a_part_of_a_tensor_is_merged_as_in_the_whole(name: str, settings: dict[str, Any]) -> None:
    sources = sources_of(*family())
    whole = merged(name, sources, settings)
    chosen = methods[name]
    given = chosen.arguments(settings, 3)
    for label, tensor in sources.items():
        cuts = [0, 1, tensor.base.numel() - 2, tensor.base.numel()]
        parts = []
        for start, stop in pairwise(cuts):
            base, *parents = (t.view(-1)[start:stop] for t in (tensor.base, *tensor.parents))
            out = torch.empty_like(base)
            part = replace(tensor, base=base, parents=parents, start=start)
            chosen.merge(out, part, given)
            parts.append(out)
        assert_close(torch.cat(parts), whole[label].view(-1), rtol=1e-6, atol=1e-6)


@every
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (1, 1), (1, 7), (7, 1), (2, 2), (3, 0, 2)])
def test_tensors_of_any_shape(name: str, shape: tuple[int, ...]) -> None:
    base = {"w": torch.full(shape, 0.5)}
    parents = [{"w": torch.full(shape, 0.5 + n / 8)} for n in range(3)]
    result = merge_state_dicts(name, base, parents, SETTINGS[name][0])["w"]
    assert result.shape == torch.Size(shape)
    assert result.isfinite().all()


@every
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(name: str, broken: float) -> None:
    base, parents = family()
    parents["1"][MATRIX][0, 0] = broken
    with pytest.raises(NotMergeable, match=f"'{MATRIX}' of parent '1'.* is not finite"):
        merge_state_dicts(name, base, parents, SETTINGS[name][0])


@pytest.mark.parametrize("method", [pytest.param(m, id=m.name) for m in methods])
def test_presets_are_parameters_of_their_method(method: MergeMethod) -> None:
    declaration = method.declaration
    for settings in declaration.presets.values():
        assert declaration.problems(settings, declaration.minimum_parents, prefix="") == []


class Watched(Memo):
    """Tells how many directions of a tensor it was given to keep."""

    def __init__(self) -> None:
        super().__init__()
        self.directions = 0

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        made = super().get(key, make)
        if isinstance(key[0], tuple) and key[0][0] == "directions":
            self.directions = len(made)
        return made


@pytest.mark.parametrize("method", list(methods), ids=lambda method: method.name)
def test_a_method_keeps_as_many_directions_as_it_declares(method: MergeMethod) -> None:
    base, declaration = state(0), method.declaration
    for count in filter(declaration.takes, (1, 2, 3)):
        parents = {f"p{n}": plus(base, state(n + 1, scale=0.1)) for n in range(count)}
        watched = Watched()
        sources = replace(sources_of(base, parents)[MATRIX], memo=watched)
        method.merge(torch.empty_like(sources.base), sources, method.arguments({}, count))
        assert watched.directions == declaration.kept(count)
