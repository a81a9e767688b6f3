"""Small models of many architectures as checkpoint folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from tests.workers.conftest import tokenizer
from workers.messages import Zoo

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [30, 7, 1, 8, 2, 8, 1, 31]])
LAYERS = 4
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "vocab_size": 32,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": 30,
    "eos_token_id": 31,
}
MIXED = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
WINDOWS = {"sliding_window": 4, "layer_types": MIXED}
OLD = {"n_embd": 16, "n_layer": LAYERS, "n_head": 2, "n_positions": 64, "vocab_size": 32}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": SMALL,
    "mistral": SMALL,
    "qwen2": SMALL | {"tie_word_embeddings": True},
    "qwen3": SMALL | WINDOWS | {"use_sliding_window": True},
    "phi3": {k: v for k, v in SMALL.items() if k != "head_dim"},
    "gemma": SMALL,
    "gemma2": SMALL | WINDOWS,
    "gemma3_text": SMALL | WINDOWS,
    "phi": {k: v for k, v in SMALL.items() if k != "head_dim"},
    "gpt2": OLD,
    "opt": {k: SMALL[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    | {"ffn_dim": 24, "vocab_size": 32, "max_position_embeddings": 64, "word_embed_proj_dim": 16},
}


# Where layers are in a model, if not in ``model.layers``.
STACKS = {"gpt2": "transformer.h", "opt": "model.decoder.layers"}


def save(folder: Path, kind: str, seed: int, dtype: str, **options: Any) -> str:
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, **(ARCHITECTURES.get(kind, SMALL) | options))
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def make_zoo(root: Path, kind: str, dtype: str = "float32", **options: Any) -> Zoo:
    """A base and two parents, named one and two."""
    base, one, two = (
        save(root / name, kind, seed, dtype, **options)
        for seed, name in enumerate(("base", "one", "two"))
    )
    return Zoo(base, (("one", one), ("two", two)), dtype)


def load(folder: str | Path, dtype: str = "float32") -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()


def logits(model: Any, **options: Any) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(TOKENS, use_cache=False, **options).logits
    return found
