"""Every published case of the reference implementations, to their tolerance."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close

from tests.workers.mergekit.folders import merged_from, save_models
from workers import merge_state_dicts
from workers.merging.spellings import in_our_words
from workers.methods.consensus import tall_masks

ORACLES = Path(__file__).parents[2] / "oracles"
CASES: dict[str, dict[str, Any]] = {
    case["id"]: case for case in json.loads((ORACLES / "manifest.json").read_text())["cases"]
}
CONFIGS = [name for name, case in CASES.items() if case["method"].startswith("mergekit_config")]
PARTS = ("tall_mask",)
EXACT = [
    name
    for name, case in CASES.items()
    if case["check"] == "allclose"
    and name not in CONFIGS
    and not case.get("extra", {}).get("do_not_match")
    and case["method"] not in PARTS
]
STATISTICAL = [name for name, case in CASES.items() if case["check"] == "statistical"]

Models = dict[str, dict[str, Tensor]]


def inputs(case: dict[str, Any]) -> Models:
    models: Models = {}
    for key, tensor in load_file(ORACLES / case["inputs"]).items():
        model, _, name = key.partition("/")
        models.setdefault(model, {})[name] = tensor
    return models


def merge(case: dict[str, Any], **overruled: Any) -> dict[str, Tensor]:
    models = inputs(case)
    base = models.pop("base", None)
    settings = dict(case["params"])
    if "router_logits" in models:  # what twin takes is the router's answer
        settings["weight"] = models.pop("router_logits")[""].softmax(0).tolist()
    return merge_state_dicts(case["method"], base, models, settings | overruled)


def cases_of(part: str) -> list[str]:
    return [name for name, case in CASES.items() if case["method"] == part]


def compare(case: dict[str, Any], merged: dict[str, Tensor]) -> None:
    expected = load_file(ORACLES / case["expected"])
    expected = {name: tensor for name, tensor in expected.items() if "/" not in name}
    extra = case.get("extra", {})
    skipped = {*extra.get("skip_exact", ()), *extra.get("gamma_zero_bug", ())}
    assert merged.keys() - extra.get("reference_failures", {}).keys() == expected.keys()
    assert all(tensor.isfinite().all() for tensor in merged.values())
    for name in expected.keys() - skipped:
        theirs = expected[name]
        # SCE of mergekit returns one copy per model where it selects nothing.
        ours = merged[name].expand_as(theirs)
        if "max_mismatch_fraction" in extra:
            close = torch.isclose(ours, theirs, **case["tolerance"])
            assert ours.dtype == theirs.dtype
            assert (~close).float().mean() <= extra["max_mismatch_fraction"], name
        else:
            assert_close(ours, theirs, **case["tolerance"], msg=lambda m, n=name: f"{n}: {m}")


def test_the_manifest_names_cases_of_every_kind() -> None:
    assert len(EXACT) >= 50
    assert len(CONFIGS) == 6
    assert len(STATISTICAL) == 4


@pytest.mark.parametrize("identifier", EXACT)
def test_a_merge_equals_the_reference(identifier: str) -> None:
    compare(CASES[identifier], merge(CASES[identifier]))


@pytest.mark.parametrize("identifier", EXACT)
def test_the_comparison_notices_a_slightly_different_merge(identifier: str) -> None:
    case = CASES[identifier]
    merged = merge(case)
    with pytest.raises(AssertionError):
        compare(case, {name: tensor * 1.02 + 0.01 for name, tensor in merged.items()})


@pytest.mark.parametrize("identifier", cases_of("tall_mask"))
def test_tall_masks_equal_the_reference(identifier: str) -> None:
    case = CASES[identifier]
    models = inputs(case)
    base = models.pop("base")
    expected = load_file(ORACLES / case["expected"])
    wrong = 0
    for name, tensor in base.items():
        deltas = torch.stack([parent[name] - tensor for parent in models.values()])
        masks = tall_masks(deltas, deltas.sum(0), [case["params"]["lambda"]] * len(models))
        for number, mask in enumerate(masks):
            wrong += int((mask != expected[f"mask{number}/{name}"].bool()).count_nonzero())
    size = sum(mask.numel() for mask in expected.values())
    assert wrong <= case["extra"]["max_mismatch_fraction"] * size


def test_what_twin_adds_of_a_parent_equals_the_reference() -> None:
    case = CASES["twin_magnitude_d0.1"]
    expected = load_file(ORACLES / case["expected"])
    shared = merge(case, weight=0.0)
    for number in range(3):
        merged = merge(case, weight=[float(number == i) for i in range(3)])
        for name, tensor in merged.items():
            own = expected[f"exclusive{number}/{name}"]
            assert_close(tensor - shared[name], own, **case["tolerance"])


def test_a_gamma_that_drops_nothing_drops_nothing() -> None:
    case = CASES["breadcrumbs_mergekit_gamma_bug"]
    models = inputs(case)
    base = models.pop("base")
    _, given = in_our_words("breadcrumbs", case["params"])
    merged = merge_state_dicts("breadcrumbs", base, models, given)
    del given["gamma"]
    ties = merge_state_dicts("breadcrumbs", base, models, {**given, "gamma": 0.0})
    assert all(torch.equal(merged[name], ties[name]) for name in base)
    assert not any(torch.equal(merged[name], base[name]) for name in base)


@pytest.mark.parametrize("identifier", [n for n in STATISTICAL if CASES[n]["method"] == "della"])
def test_magnitudes_decide_probabilities_as_in_the_reference(identifier: str) -> None:
    case = CASES[identifier]
    per_entry = case["params"]["rescale"] != "l1"
    delta, seeds = inputs(case)["delta"][""], case["extra"]["seeds"]
    probability = load_file(ORACLES / case["expected"])["keep_prob"]
    kept, mean = torch.zeros_like(delta), torch.zeros_like(delta)
    base = {"delta": torch.zeros_like(delta)}
    for seed in range(seeds):
        merged = merge_state_dicts(
            "della_linear", base, [{"delta": delta}], case["params"], seed=seed
        )
        survivors = merged["delta"] != 0
        factor = merged["delta"][survivors] / delta[survivors]
        if per_entry:
            assert_close(factor, 1 / probability[survivors], rtol=1e-5, atol=0)
        else:
            assert_close(merged["delta"].abs().sum(), delta.abs().sum(), rtol=1e-5, atol=0)
            assert_close(factor, factor[:1].expand_as(factor), rtol=1e-5, atol=0)
        kept += survivors
        mean += merged["delta"] / seeds
    spread = (probability * (1 - probability) / seeds).sqrt()
    assert ((kept / seeds - probability).abs() < 4.5 * spread).all()
    if per_entry:
        assert ((mean - delta).abs() <= 5 * delta.abs() * spread / probability + 1e-6).all()


@pytest.mark.parametrize("identifier", [n for n in STATISTICAL if CASES[n]["method"] == "dare"])
def test_random_masks_have_the_statistics_of_the_reference(identifier: str) -> None:
    case = CASES[identifier]
    density, rescale = case["params"]["density"], case["params"]["rescale"]
    delta = inputs(case)["delta"][""] if "delta" in inputs(case) else None
    assert delta is not None
    seeds = case["extra"]["seeds"]
    kept, mean = torch.zeros_like(delta), torch.zeros_like(delta)
    base = {"delta": torch.zeros_like(delta)}
    for seed in range(seeds):
        merged = merge_state_dicts(
            "dare_linear", base, [{"delta": delta}], case["params"], seed=seed
        )["delta"]
        survivors = merged != 0
        factor = merged[survivors] / delta[survivors]
        if rescale == "l1":
            assert_close(merged.abs().sum(), delta.abs().sum(), rtol=1e-5, atol=0)
            assert_close(factor, factor[:1].expand_as(factor), rtol=1e-5, atol=0)
        else:
            assert_close(factor, torch.full_like(factor, 1 / density), rtol=1e-6, atol=0)
        kept += survivors
        mean += merged / seeds
    assert (kept / seeds - density).abs().max() < 4.5 * math.sqrt(density * (1 - density) / seeds)
    spread = delta.abs() * math.sqrt((1 - density) / density / seeds)
    assert ((mean - delta).abs() <= 5 * spread + 1e-6).all()


@pytest.mark.parametrize("identifier", CONFIGS)
def test_a_mergekit_config_equals_the_reference(identifier: str, tmp_path: Path) -> None:
    case = CASES[identifier]
    folders = save_models(tmp_path, inputs(case))
    called = case["params"]["name_map"]
    places = folders | {there: folders[name] for there, name in called.items() if name in folders}
    compare(case, merged_from(case["params"]["config"], places))
