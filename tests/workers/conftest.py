"""Tiny checkpoints of three architectures, made on the spot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from workers.messages import Zoo

VOCABULARY = 32
SIZE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": VOCABULARY}


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZE, **HEADS, tie_word_embeddings=False))


def qwen2() -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(**SIZE, **HEADS, tie_word_embeddings=True))


def gpt2() -> PreTrainedModel:
    config = GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=24, vocab_size=VOCABULARY)
    return GPT2LMHeadModel(config)


ARCHITECTURES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": llama,
    "qwen2": qwen2,
    "gpt2": gpt2,
}


def tokenizer() -> PreTrainedTokenizerFast:
    words = {f"w{number}": number for number in range(VOCABULARY - 2)} | {"<s>": 30, "</s>": 31}
    words = {"[UNK]": 0} | {word: number for word, number in words.items() if number}
    fast = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    fast.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=fast, bos_token="<s>", eos_token="</s>", unk_token="[UNK]"
    )


def save(folder: Path, architecture: str, seed: int, dtype: str, **options: Any) -> Path:
    torch.manual_seed(seed)
    model = ARCHITECTURES[architecture]().to(getattr(torch, dtype))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.save_pretrained(folder, **options)
    tokenizer().save_pretrained(folder)
    return folder


MakeZoo = Callable[..., Zoo]


@pytest.fixture
def make_zoo(tmp_path: Path) -> MakeZoo:
    """Builds a base and two parents, named one and two."""

    def make(architecture: str = "llama", dtype: str = "float32", **options: Any) -> Zoo:
        folders = [
            save(tmp_path / name, architecture, seed, dtype, **options)
            for seed, name in enumerate(("base", "one", "two"))
        ]
        parents = (("one", str(folders[1])), ("two", str(folders[2])))
        return Zoo(base=str(folders[0]), parents=parents, dtype=dtype)

    return make


@pytest.fixture
def edit_json() -> Callable[..., None]:
    """Sets keys of a JSON file; None removes one."""

    def edit(path: Path, **changes: Any) -> None:
        document = json.loads(path.read_text()) | changes
        kept = {key: value for key, value in document.items() if value is not None}
        path.write_text(json.dumps(kept))

    return edit


@pytest.fixture
def edit_weights() -> Callable[..., None]:
    """Rewrites a folder's single weight file through a function of its state dict."""

    def edit(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    return edit
