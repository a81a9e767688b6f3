"""Checkpoint folders of a few kilobytes: some with every part of a real one, some that run."""

import json
from collections.abc import Sequence
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


TASK = """\
task: nm_pairs
dataset_path: json
output_type: multiple_choice
training_split: search
validation_split: select
test_split: report
doc_to_text: "{{q}}"
doc_to_target: 0
doc_to_choice: ["a", "b"]
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""


def make_home(home: Path) -> Path:
    """A home with a base and two parents, ``add`` and ``reverse``, and the task ``nm_pairs``."""
    for name in ("base", "add", "reverse"):
        make_model(home / "models" / name)
    (home / "tasks").mkdir()
    (home / "tasks" / "nm_pairs.yaml").write_text(TASK)
    return home


def save_llama(
    folder: Path,
    *,
    seed: int,
    dtype: str = "float32",
    reads: int = 64,
    spread: float = 0.3,
    merges: Sequence[tuple[str, str]] = (),
    starts: bool = False,
    learned: int | None = None,
) -> None:
    """A random Llama with a byte-level tokenizer; the embedding is tied to the head.

    Args:
        folder: is written.
        seed: of the weights.
        dtype: they are stored in.
        reads: how many tokens at most.
        spread: of the weights.
        merges: of the tokenizer, in order.
        starts: whether it writes a start token before everything.
        learned: seed of what it has learned since, a tenth of its weights; nothing when None.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = ["<s>", "</s>", "<pad>", *alphabet, *(left + right for left, right in merges)]
    vocabulary = {token: index for index, token in enumerate(letters)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    if starts:
        core.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=reads,
        tie_word_embeddings=True,
        initializer_range=spread,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    model = LlamaForCausalLM(config)
    if learned is not None:
        torch.manual_seed(learned)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight), alpha=0.1 * float(weight.std()))
    model.to(getattr(torch, dtype)).save_pretrained(folder)
