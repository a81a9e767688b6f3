"""Layers of other models, in another order: what is evaluated is what is exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoTokenizer

from evals.engine import Engine
from evals.requests import Continuation, Prompt, Request, Text
from search.recipe import Recipe, Step, mixture
from tests.workers.paths.models import ARCHITECTURES, STACKS, TOKENS, load, logits, make_zoo
from workers.checkpoints.parents import Parents
from workers.checkpoints.writing import write_checkpoint
from workers.materializer import Materializer, merged_tensors
from workers.merging.merge_method import NotMergeable
from workers.messages import Zoo
from workers.paths.configuring import saved
from workers.resident import empty_model

# Repeats, a step back, a layer that is skipped, layers of three models and of their merge.
STEPS = (
    Step(model="one", layer=0),
    Step(model="two", layer=1),
    Step(model="one", layer=0),
    Step(layer=3),
    Step(layer=3),
    Step(model="base", layer=1),
)
SCALED = tuple(
    step.model_copy(update={"scale": scale})
    for step, scale in zip(STEPS, (1.0, 1.3, 0.8, 1.0, 1.1, 0.7), strict=True)
)


def recipe(path: tuple[Step, ...] = STEPS) -> Recipe:
    merge = Recipe(
        method="task_arithmetic", parents=("one", "two"), parameters={"weight": ((0.3, 0.6),)}
    )
    return merge.model_copy(update={"path": path})


def export(parents: Parents, given: Recipe, folder: Path) -> Path:
    told = saved(parents, given.path)
    write_checkpoint(
        folder,
        merged_tensors(parents, given),
        parents.base.path,
        config=told.config,
        size_bytes=told.size_bytes,
    )
    return folder


def opened(zoo: Zoo) -> tuple[Parents, Any, Materializer]:
    parents = Parents(zoo)
    model = empty_model(Path(zoo.base), zoo.dtype, "cpu")
    return parents, model, Materializer(parents, model)


@pytest.mark.parametrize("path", [STEPS, SCALED], ids=["plain", "scaled"])
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_model_that_follows_a_path_is_the_exported_one_to_the_bit(
    tmp_path: Path, kind: str, path: tuple[Step, ...]
) -> None:
    parents, model, materializer = opened(make_zoo(tmp_path, kind, "bfloat16"))
    materializer.materialize(recipe(path))
    exported = load(export(parents, recipe(path), tmp_path / "out"), "bfloat16")
    assert exported.config.num_hidden_layers == len(path)
    assert torch.equal(logits(model), logits(exported))
    materializer.materialize(recipe(()))
    assert not torch.equal(logits(model), logits(exported)), "control: without a path"


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_cache_of_keys_and_values_changes_nothing(tmp_path: Path, kind: str) -> None:
    """A layer that comes twice has two places in the cache."""
    _, model, materializer = opened(make_zoo(tmp_path, kind))
    materializer.materialize(recipe())
    whole = logits(model)
    with torch.inference_mode():
        first = model(TOKENS[:, :5], use_cache=True)
        second = model(TOKENS[:, 5:], past_key_values=first.past_key_values, use_cache=True)
    assert_close(torch.cat([first.logits, second.logits], 1), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_the_engine_answers_as_it_does_of_the_exported_folder(tmp_path: Path, kind: str) -> None:
    """It reads beginnings once, and writes token by token, however many layers there are."""
    zoo = make_zoo(tmp_path, kind, **({"sliding_window": 40} if kind == "qwen3" else {}))
    parents, model, materializer = opened(zoo)
    tokenizer = AutoTokenizer.from_pretrained(zoo.base)
    start = "w3 w1 w4 w1 w5 w9 w2 w6 w5 w3 w5"
    asked: list[Request] = [
        *(Continuation(f"{start} w{n}", f" w{m} w7") for n in range(3) for m in (8, 9)),
        Text("w2 w7 w1 w8 w2 w8"),
        *(Prompt(f"{start} w{n}", ("w29",), 6) for n in range(3)),
    ]
    engine = Engine(model, tokenizer)
    plan = engine.prepare(asked)
    assert "contexts shared" in engine.plan_fingerprint
    for path in (STEPS, STEPS[:2], SCALED):
        materializer.materialize(recipe(path))
        exported = load(export(parents, recipe(path), tmp_path / "out"))
        other = Engine(exported, tokenizer)
        assert engine.run(plan) == other.run(other.prepare(asked))
    materializer.materialize(mixture(("two",), (1.0,)))
    plain = Engine(load(dict(zoo.parents)["two"]), tokenizer)
    assert engine.run(plan) == plain.run(plain.prepare(asked))


def test_layers_are_where_their_models_are_and_nothing_is_copied(tmp_path: Path) -> None:
    zoo = make_zoo(tmp_path, "llama")
    parents, model, materializer = opened(zoo)
    own = [layer.mlp.up_proj.weight.data_ptr() for layer in model.model.layers]
    materializer.materialize(recipe())
    found = [layer.mlp.up_proj.weight.data_ptr() for layer in model.model.layers]
    expected = [
        own[step.layer]
        if step.model is None
        else parents.tensor(step.model, f"model.layers.{step.layer}.mlp.up_proj.weight").data_ptr()
        for step in STEPS
    ]
    assert found == expected
    materializer.materialize(recipe(SCALED))
    for place, step in zip(model.model.layers, SCALED, strict=True):
        name = f"model.layers.{step.layer}.self_attn.q_proj.weight"
        if step.model is not None:
            theirs = parents.tensor(step.model, name)
            assert place.self_attn.q_proj.weight.data_ptr() == theirs.data_ptr()


def test_files_of_parents_are_not_written_by_what_comes_after_a_path(tmp_path: Path) -> None:
    zoo = make_zoo(tmp_path, "llama")
    folders = [zoo.base, *(folder for _, folder in zoo.parents)]
    before = [Path(folder, "model.safetensors").read_bytes() for folder in folders]
    _, model, materializer = opened(zoo)
    materializer.materialize(recipe())
    materializer.materialize(recipe(()))
    materializer.materialize(mixture(("one",), (1.0,)))
    assert torch.equal(logits(model), logits(load(dict(zoo.parents)["one"])))
    assert [Path(folder, "model.safetensors").read_bytes() for folder in folders] == before


def test_layers_of_the_merge_are_merged_only_where_the_path_goes(tmp_path: Path) -> None:
    _, model, materializer = opened(make_zoo(tmp_path, "llama"))
    materializer.materialize(mixture(("base",), (1.0,)))
    own = list(model.model.layers)
    before = [layer.mlp.up_proj.weight.clone() for layer in own]
    materializer.materialize(recipe())
    same = [torch.equal(o.mlp.up_proj.weight, b) for o, b in zip(own, before, strict=True)]
    assert same == [True, True, True, False]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_scales_are_those_of_the_states_that_enter_a_layer(tmp_path: Path, kind: str) -> None:
    """Akiba et al. 2024: the input of a layer times its scale. Here the layers do it themselves."""
    _, model, materializer = opened(make_zoo(tmp_path, kind))
    materializer.materialize(recipe(SCALED))
    folded = logits(model)
    materializer.materialize(recipe())
    for layer, step in zip(
        model.get_submodule(STACKS.get(kind, "model.layers")), SCALED, strict=True
    ):
        layer.register_forward_pre_hook(
            lambda _, given, options, by=step.scale: ((given[0] * by, *given[1:]), options),
            with_kwargs=True,
        )
    assert_close(folded, logits(model), atol=2e-4, rtol=2e-4)
    materializer.materialize(recipe())
    assert not torch.allclose(folded, logits(model), atol=2e-3), "control: without scales"


def test_an_exported_folder_says_what_its_layers_are(tmp_path: Path) -> None:
    parents, _, _ = opened(make_zoo(tmp_path, "qwen3"))
    folder = export(parents, recipe(), tmp_path / "out")
    config = json.loads((folder / "config.json").read_text())
    assert config["num_hidden_layers"] == 6
    full, sliding = "full_attention", "sliding_attention"
    # Layers 1 and 3 of the base see everything.
    assert config["layer_types"] == [sliding, full, sliding, full, full, full]


def test_weights_of_a_step_are_multiplied_as_it_says(tmp_path: Path) -> None:
    parents = Parents(make_zoo(tmp_path, "llama"))
    part = "mlp.down_proj.weight"
    path = (Step(model="one", layer=2, weights={part: 0.5}), Step(model="one", layer=1, scale=2.0))
    merged = dict(merged_tensors(parents, recipe(path)))
    first, second = (parents.tensor("one", f"model.layers.{n}.{part}") for n in (2, 1))
    assert torch.equal(merged[f"model.layers.0.{part}"], first / 2)
    assert torch.equal(merged[f"model.layers.1.{part}"], second / 2)
    assert "model.layers.2.mlp.down_proj.weight" not in merged


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ((Step(model="one", layer=4),), r"path\[0\]: there is no layer 4, only 4 layers"),
        ((Step(model="nobody", layer=0),), "no model is called nobody"),
        ((Step(layer=0, weights={"mlp.x": 2.0}),), r"path\[0\]: a layer has no 'mlp\.x'"),
        (
            (Step(model="one", layer=0, weights={"mlp.up_proj.weight": 1e39}),),
            "'model.layers.0.mlp.up_proj.weight' is not finite once it is scaled",
        ),
    ],
)
def test_a_path_that_does_not_fit_is_refused(
    tmp_path: Path, path: tuple[Step, ...], reason: str
) -> None:
    parents, model, materializer = opened(make_zoo(tmp_path, "llama"))
    with pytest.raises(NotMergeable, match=reason):
        materializer.materialize(recipe(path))
    with pytest.raises(NotMergeable, match=reason):
        list(merged_tensors(parents, recipe(path)))
    materializer.materialize(mixture(("base",), (1.0,)))  # the next candidate is not harmed
    assert torch.equal(logits(model), logits(load(parents.zoo.base)))


def test_layers_that_know_their_place_are_refused(tmp_path: Path) -> None:
    zoo = make_zoo(tmp_path, "gpt2", scale_attn_by_inverse_layer_idx=True)
    parents, model, materializer = opened(zoo)
    reason = "layer 1 cannot be layer 0: its attn.scaling follows from its place"
    path = (Step(layer=1),)
    with pytest.raises(NotMergeable, match=reason):
        materializer.materialize(recipe(path))
    with pytest.raises(NotMergeable, match=reason):
        saved(parents, path)
    straight = (Step(layer=0), Step(model="two", layer=1))
    materializer.materialize(recipe(straight))
    exported = load(export(parents, recipe(straight), tmp_path / "out"))
    assert torch.equal(logits(model), logits(exported))


def test_scales_are_refused_where_they_are_no_weights(tmp_path: Path) -> None:
    zoo = make_zoo(tmp_path, "olmo2")
    parents, model, materializer = opened(zoo)
    with pytest.raises(NotMergeable, match="cannot be folded into weights of 'olmo2'"):
        materializer.materialize(recipe(SCALED))
    materializer.materialize(recipe())
    exported = load(export(parents, recipe(), tmp_path / "out"))
    assert torch.equal(logits(model), logits(exported))


def test_parents_in_another_dtype_are_rounded_as_the_export_rounds_them(tmp_path: Path) -> None:
    zoo = make_zoo(tmp_path, "llama")
    rounded = Zoo(zoo.base, zoo.parents, "bfloat16")
    parents, model, materializer = opened(rounded)
    materializer.materialize(recipe(SCALED))
    exported = load(export(parents, recipe(SCALED), tmp_path / "out"), "bfloat16")
    assert torch.equal(logits(model), logits(exported))


def test_a_layer_of_a_broken_model_is_not_written(tmp_path: Path) -> None:
    zoo = make_zoo(tmp_path, "llama")
    file = Path(dict(zoo.parents)["two"], "model.safetensors")
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"][0, 0] = torch.nan
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(NotMergeable, match=r"layers\.1\.mlp\.up_proj\.weight' of 'two' is not fin"):
        list(merged_tensors(Parents(zoo), recipe()))
