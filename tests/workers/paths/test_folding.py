from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM

from search.layout import Layout
from search.layout import Tensor as Stored
from search.recipe import Step
from workers.paths.folding import folded, obstacle
from workers.paths.route import route

ORACLES = Path(__file__).parents[2] / "oracles"


def test_states_scaled_along_a_path_are_an_ordinary_checkpoint() -> None:
    """The oracle multiplies states, in float64; the checkpoint has other weights instead."""
    cases = json.loads((ORACLES / "manifest.json").read_text())["cases"]
    (case,) = (case for case in cases if case["id"] == "dfs_scale_folding")
    inputs, expected = (load_file(ORACLES / case[key]) for key in ("inputs", "expected"))
    scales = inputs["scales"].tolist()
    path = [
        Step(layer=layer, scale=scale)
        for layer, scale in zip(case["params"]["path"], scales, strict=True)
    ]
    for steps, name in (
        (path, "logits_with_scales"),
        ([Step(layer=step.layer) for step in path], "logits_without_scales"),
    ):
        found = _model(case["params"], inputs, steps)(inputs["ids"][None]).logits[0]
        # transformers takes norms and rotations in float32.
        assert_close(found, expected[name], rtol=1e-4, atol=1e-5)
    gap = (expected["logits_with_scales"] - expected["logits_without_scales"]).abs().max()
    assert gap > 1e-2, "control: scales matter"


def _model(params: dict, inputs: dict[str, Tensor], steps: list[Step]) -> LlamaForCausalLM:
    size = params["config"]
    stored = {n.removeprefix("m0/"): t for n, t in inputs.items() if n.startswith("m0/")}
    layout = Layout.of(Stored(name=n, shape=tuple(t.shape), dtype="F64") for n, t in stored.items())
    way = route(layout, steps)
    state = {n: t for n, t in stored.items() if "layers" not in n}
    for name, place, part in way.tensors():
        change = place.changes.get(part)
        weight = stored[way.stack.tensor(place.layer, part)]
        state[name] = weight if change is None else weight * change.factor + change.shift
    config = LlamaConfig(
        hidden_size=size["hidden"],
        intermediate_size=size["inter"],
        num_hidden_layers=len(steps),
        num_attention_heads=size["heads"],
        num_key_value_heads=size["kv"],
        head_dim=size["head_dim"],
        vocab_size=size["vocab"],
        rms_norm_eps=params["rms_eps"],
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config).to(torch.float64)
    model.load_state_dict(state)
    return model


def test_only_what_a_layer_adds_is_divided() -> None:
    parts = ("mlp.down_proj.weight", "mlp.up_proj.weight", "self_attn.o_proj.bias", "norm.weight")
    changes = folded(parts, 4.0)
    assert {part: change.factor for part, change in changes.items()} == {
        "mlp.down_proj.weight": 0.25,
        "self_attn.o_proj.bias": 0.25,
    }


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "llama"}, None),
        ({"model_type": "opt", "do_layer_norm_before": True}, None),
        ({"model_type": "opt", "do_layer_norm_before": False}, "normalizes behind each block"),
        ({"model_type": "mamba"}, "cannot be folded into weights of 'mamba'"),
        ({}, "cannot be folded"),
    ],
)
def test_architectures_that_lose_a_scale_are_told(config: dict, reason: str | None) -> None:
    found = obstacle(config)
    assert (found is None) == (reason is None)
    assert reason is None or reason in str(found)
