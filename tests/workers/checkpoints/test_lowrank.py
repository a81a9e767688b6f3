"""A merge of adapters as an adapter again: what it folds into is what the merge is."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from search.layout import LayerGroups, Segments
from search.problems import Invalid
from search.recipe import Recipe
from tests.workers.conftest import save
from tests.workers.lora import MODULES, factors, save_adapter
from workers.checkpoints.lowrank import MergedAdapter, merge_adapters
from workers.checkpoints.parents import Parents
from workers.checkpoints.writing import write_adapter
from workers.materializer import merged_tensors
from workers.merging.merge_method import NotMergeable
from workers.messages import Zoo

QUERY = "model.layers.0.self_attn.q_proj"
UP = "model.layers.1.mlp.up_proj"
SUM = Recipe(method="task_arithmetic", parents=("p0", "p1"), parameters={"weight": ((0.7, -0.4),)})


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save(tmp_path / "base", "llama", 0, "float32")


def opened(base: Path, *adapters: Path) -> Parents:
    parents = tuple((f"p{number}", str(folder)) for number, folder in enumerate(adapters))
    return Parents(Zoo(str(base), parents, "float32"))


def two(base: Path, folder: Path) -> Parents:
    """Of other ranks and scalings, and with a module that only one of them adapts."""
    mine = factors(seed=1)
    theirs = factors({QUERY: (16, 16), UP: (24, 16)}, rank=3, seed=2, dtype=torch.bfloat16)
    return opened(
        base,
        save_adapter(folder / "one", mine),
        save_adapter(folder / "two", theirs, r=3, lora_alpha=8, use_rslora=True),
    )


def reread(parents: Parents, merged: MergedAdapter, folder: Path) -> dict[str, Tensor]:
    """What the written adapter makes of the base, as our own reader has it."""
    write_adapter(folder, merged.tensors, merged.config, parents.base.path)
    again = opened(parents.base.path, folder)
    return {t.name: again.tensor("p0", t.name).clone() for t in again.layout.tensors}


def assert_close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=2e-5, msg=name)


LINEAR = {"weight": ((0.3, 0.7),)}


@pytest.mark.parametrize(
    "recipe",
    [
        SUM,
        Recipe(method="linear", parents=("p0", "p1"), parameters=LINEAR),
        Recipe(
            method="linear",
            parents=("base", "p1"),
            parameters={"weight": ((0.25, 0.75),), "normalize": False},
        ),
        Recipe(
            method="task_arithmetic",
            parents=("p1", "p0"),
            parameters={"weight": ((0.5, 0.25),), "lambda": (0.5,), "lines_beta": (0.5,)},
        ),
        Recipe(
            method="task_arithmetic",
            parents=("p0", "p1"),
            partition=LayerGroups(layers=1),
            blocks=("embed", "layers.0", "layers.1", "final_norm", "head"),
            parameters={"weight": tuple((0.1 * n, 0.0) for n in range(5))},
        ),
    ],
)
def test_what_it_folds_into_is_the_merge(base: Path, tmp_path: Path, recipe: Recipe) -> None:
    parents = two(base, tmp_path)
    merged = merge_adapters(parents, recipe, base_name="base")
    found = reread(parents, merged, tmp_path / "merged")
    assert_close(found, dict(merged_tensors(parents, recipe)))
    assert merged.errors == {}


def test_ranks_add_up_and_no_scaling_is_left(base: Path, tmp_path: Path) -> None:
    merged = merge_adapters(two(base, tmp_path), SUM, base_name="base")
    ranks = {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): len(tensor)
        for name, tensor in merged.tensors.items()
        if "lora_A" in name
    }
    assert ranks == {QUERY: 5, UP: 3} | {m: 2 for m in MODULES if m != QUERY}
    config = merged.config
    assert (config["r"], config["lora_alpha"]) == (2, 2)
    assert config["rank_pattern"] == config["alpha_pattern"] == {QUERY: 5, UP: 3}
    assert config["base_model_name_or_path"] == "lab/base"


def test_peft_reads_what_we_write(base: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    parents = two(base, tmp_path)
    merged = merge_adapters(parents, SUM, base_name="base")
    write_adapter(tmp_path / "merged", merged.tensors, merged.config, base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PEFT, about transformers
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        folded = PeftModel.from_pretrained(model, tmp_path / "merged").merge_and_unload()
    assert_close(folded.state_dict(), dict(merged_tensors(parents, SUM)))


def test_a_truncation_is_the_best_of_its_rank_and_says_what_it_costs(
    base: Path, tmp_path: Path
) -> None:
    parents = two(base, tmp_path)
    merged = merge_adapters(parents, SUM, base_name="base", rank=2)
    found = reread(parents, merged, tmp_path / "merged")
    expected = dict(merged_tensors(parents, SUM))
    lost = total = 0.0
    for name, error in merged.errors.items():
        change = expected[name] - parents.tensor("base", name)
        values = torch.linalg.svdvals(change.double())
        best = float(values[2:].norm() / values.norm())
        assert error == pytest.approx(best, abs=1e-5)
        measured = float((found[name] - expected[name]).norm() / change.norm())
        assert measured == pytest.approx(best, abs=1e-5)
        lost, total = lost + float(values[2:].square().sum()), total + float(values.square().sum())
    assert merged.errors[f"{QUERY}.weight"] > 0.01
    assert merged.error == pytest.approx((lost / total) ** 0.5, abs=1e-5)
    assert {len(t) for n, t in merged.tensors.items() if "lora_A" in n} == {2}


def test_a_rank_that_is_large_enough_loses_nothing(base: Path, tmp_path: Path) -> None:
    parents = two(base, tmp_path)
    merged = merge_adapters(parents, SUM, base_name="base", rank=64)
    assert max(merged.errors.values()) < 1e-7
    assert_close(reread(parents, merged, tmp_path / "merged"), dict(merged_tensors(parents, SUM)))


def test_modules_that_were_trained_in_full_stay_full(base: Path, tmp_path: Path) -> None:
    head = {"base_model.model.lm_head.weight": torch.randn(32, 16)}
    parents = opened(
        base,
        save_adapter(tmp_path / "one", factors(seed=1) | head, modules_to_save=["lm_head"]),
        save_adapter(tmp_path / "two", factors(seed=2)),
    )
    merged = merge_adapters(parents, SUM, base_name="base")
    assert merged.config["modules_to_save"] == ["lm_head"]
    assert_close(reread(parents, merged, tmp_path / "merged"), dict(merged_tensors(parents, SUM)))


def test_conv1d_and_embeddings_keep_their_orientation(tmp_path: Path) -> None:
    base = save(tmp_path / "base", "gpt2", 0, "float32")
    adapters = []
    for seed in range(2):
        tensors = factors({"transformer.h.0.attn.c_attn": (48, 16)}, seed=seed)
        adapters.append(save_adapter(tmp_path / f"a{seed}", tensors, fan_in_fan_out=True))
    square = factors({"transformer.h.0.attn.c_proj": (16, 16)}, seed=5)
    adapters[1] = save_adapter(tmp_path / "square", square, fan_in_fan_out=False)
    parents = opened(base, *adapters)
    merged = merge_adapters(parents, SUM, base_name="base")
    assert merged.config["fan_in_fan_out"] is True
    assert_close(reread(parents, merged, tmp_path / "merged"), dict(merged_tensors(parents, SUM)))
    llama = save(tmp_path / "llama", "llama", 0, "float32")
    key = "base_model.model.model.embed_tokens.lora_embedding_"
    tables = [{f"{key}A": torch.randn(2, 32), f"{key}B": torch.randn(16, 2)} for _ in range(2)]
    parents = opened(llama, *(save_adapter(tmp_path / f"t{n}", t) for n, t in enumerate(tables)))
    merged = merge_adapters(parents, SUM, base_name="base")
    assert_close(reread(parents, merged, tmp_path / "tables"), dict(merged_tensors(parents, SUM)))


def changed(**fields: Any) -> Recipe:
    return SUM.model_copy(update=fields)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (changed(method="ties"), "'ties' is no weighted sum of adapters"),
        (
            changed(method="linear", parameters={"weight": ((0.5, 0.2),), "normalize": False}),
            "weights sum to 0.7 at 'model.embed_tokens.weight': the base itself would be scaled",
        ),
        (
            changed(
                partition=Segments(boundaries=(0, 100, 5648)),
                blocks=("0:100", "100:5648"),
                parameters={"weight": ((1.0, 0.0), (0.0, 1.0))},
            ),
            "cuts 'model.embed_tokens.weight' in two",
        ),
        (changed(parameters={"weight": ((0.0, 0.0),)}), "change no module"),
    ],
)
def test_what_is_no_adapter_is_refused(
    base: Path, tmp_path: Path, recipe: Recipe, says: str
) -> None:
    with pytest.raises(Invalid, match=says):
        merge_adapters(two(base, tmp_path), recipe, base_name="base")


@pytest.mark.parametrize("key", [f"{QUERY}.lora_B.weight", "lm_head.weight"])
def test_a_result_that_is_not_finite_is_none(base: Path, tmp_path: Path, key: str) -> None:
    head = {"base_model.model.lm_head.weight": torch.ones(32, 16)}
    tensors = factors() | head
    tensors[f"base_model.model.{key}"].fill_(3e38)
    parents = opened(base, save_adapter(tmp_path / "one", tensors, modules_to_save=["lm_head"]))
    recipe = Recipe(method="task_arithmetic", parents=("p0",), parameters={"weight": ((9.0,),)})
    with pytest.raises(NotMergeable, match=f"{key}' is not finite after the merge"):
        merge_adapters(parents, recipe, base_name="base")


def test_a_whole_checkpoint_among_the_parents_is_refused(base: Path, tmp_path: Path) -> None:
    whole = save(tmp_path / "whole", "llama", 1, "float32")
    parents = opened(base, save_adapter(tmp_path / "one", factors()), whole)
    with pytest.raises(Invalid, match="whole checkpoint; only a merge of adapters is an adapter"):
        merge_adapters(parents, SUM, base_name="base")


def test_the_folder_has_all_that_peft_and_people_need(base: Path, tmp_path: Path) -> None:
    merged = merge_adapters(two(base, tmp_path), SUM, base_name="base")
    folder = tmp_path / "out"
    files = write_adapter(
        folder, merged.tensors, merged.config, base, extra={"README.md": "# An adapter"}
    )
    assert set(files) == {path.name for path in folder.iterdir()}
    assert set(files) >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "README.md",
        "SHA256SUMS",
    }
    assert json.loads((folder / "adapter_config.json").read_text()) == merged.config
    assert load_file(folder / "adapter_model.safetensors").keys() == merged.tensors.keys()
