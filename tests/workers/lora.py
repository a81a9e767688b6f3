"""Adapter folders as PEFT writes them, made by hand: two files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "lab/base",
    "bias": "none",
    "fan_in_fan_out": False,
    "init_lora_weights": True,
    "r": 2,
    "lora_alpha": 3,
    "use_rslora": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
}

# Of the tiny Llama, by module: (out, in).
MODULES = {
    "model.layers.0.self_attn.q_proj": (16, 16),
    "model.layers.0.self_attn.v_proj": (8, 16),
    "model.layers.1.mlp.down_proj": (16, 24),
}


def factors(
    modules: Mapping[str, tuple[int, int]] = MODULES,
    *,
    rank: int = 2,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Random A and B for some modules, under PEFT's names."""
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for module, (out, inside) in modules.items():
        for part, shape in (("A", (rank, inside)), ("B", (out, rank))):
            value = torch.randn(shape, generator=draw).to(dtype)
            tensors[f"base_model.model.{module}.lora_{part}.weight"] = value
    return tensors


def save_adapter(folder: Path, tensors: Mapping[str, Tensor], **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    save_file(dict(tensors), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def fold(base: Path, folder: Path, tensors: Mapping[str, Tensor], scaling: float) -> Path:
    """A copy of a checkpoint with an adapter of ``MODULES`` folded in, in float32."""
    folder.mkdir(parents=True)
    for file in base.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    state = {name: t.float() for name, t in load_file(base / "model.safetensors").items()}
    for module in MODULES:
        a, b = (tensors[f"base_model.model.{module}.lora_{part}.weight"].float() for part in "AB")
        state[f"{module}.weight"].addmm_(b * scaling, a)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
