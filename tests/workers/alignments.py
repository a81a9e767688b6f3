"""The oracle cases of models that compute what a fine-tune does and do not merge."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from workers.doctor.diagnosis import Diagnosis, Examination
from workers.doctor.sites import Heads

ORACLES = Path(__file__).parents[1] / "oracles"
CASES: dict[str, dict[str, Any]] = {
    case["id"]: case
    for case in json.loads((ORACLES / "manifest.json").read_text())["cases"]
    if case["method"] == "weight_alignment"
}

State = dict[str, Tensor]


@dataclass(frozen=True)
class Alignment:
    """A base, an honest fine-tune ``m1``, and another (``original``) that became ``m0``."""

    models: dict[str, State]
    original: State
    ids: Tensor
    logits: Tensor
    heads: Heads
    case: dict[str, Any]


def alignment(identifier: str) -> Alignment:
    case = CASES[identifier]
    given = load_file(ORACLES / case["inputs"])
    expected = load_file(ORACLES / case["expected"])
    config = case["params"]["config"]
    return Alignment(
        {model: _under(model, given) for model in ("base", "m0", "m1")},
        _under("m0_original", expected),
        given["ids"],
        expected["logits"],
        Heads(config["heads"], config["kv"], config["head_dim"]),
        case,
    )


def diagnose(models: dict[str, State], heads: Heads | None) -> dict[str, Diagnosis]:
    readers = {name: partial(dict.__getitem__, state) for name, state in models.items()}
    found = Examination(readers, heads).walk(models["base"])
    return {diagnosis.name: diagnosis for diagnosis in found}


def llama(case: dict[str, Any], state: State) -> LlamaForCausalLM:
    """transformers' own model with these weights, in their precision."""
    config, params = case["params"]["config"], case["params"]
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config["vocab"],
            hidden_size=config["hidden"],
            intermediate_size=config["inter"],
            num_hidden_layers=config["layers"],
            num_attention_heads=config["heads"],
            num_key_value_heads=config["kv"],
            head_dim=config["head_dim"],
            rms_norm_eps=params["rms_eps"],
            rope_parameters={"rope_type": "default", "rope_theta": params["rope_theta"]},
            tie_word_embeddings=False,
        )
    )
    model.to(next(iter(state.values())).dtype).load_state_dict(state)
    return model.eval()


@torch.no_grad()
def logits(case: dict[str, Any], state: State, ids: Tensor) -> Tensor:
    return llama(case, state)(ids[None]).logits[0]


def _under(model: str, tensors: State) -> State:
    prefix = f"{model}/"
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
