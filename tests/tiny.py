"""Checkpoint folders of a few kilobytes that have every part of a real one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "vocab_size": 32,
    "tie_word_embeddings": False,
}


def tensors(rows: int = 32, value: float = 0.0) -> dict[str, Any]:
    shapes = {
        "model.embed_tokens.weight": (rows, 8),
        "lm_head.weight": (rows, 8),
        "model.norm.weight": (8,),
    }
    for layer in range(2):
        for part in "qkvo":
            shapes[f"model.layers.{layer}.self_attn.{part}_proj.weight"] = (8, 8)
        shapes[f"model.layers.{layer}.mlp.up_proj.weight"] = (16, 8)
        shapes[f"model.layers.{layer}.mlp.gate_proj.weight"] = (16, 8)
        shapes[f"model.layers.{layer}.mlp.down_proj.weight"] = (8, 16)
        shapes[f"model.layers.{layer}.input_layernorm.weight"] = (8,)
        shapes[f"model.layers.{layer}.post_attention_layernorm.weight"] = (8,)
    return {name: np.full(shape, value, np.float32) for name, shape in shapes.items()}


def make_model(folder: Path, *, rows: int = 32, value: float = 0.0, **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "vocab_size": rows, **config}))
    save_file(tensors(rows, value), folder / "model.safetensors", metadata={"format": "pt"})
    vocabulary = {f"t{i}": i for i in range(rows)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "t0"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder
