"""Models of random weights to merge: as large as real ones, and made in a minute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from search.spec import BASE
from workers.checkpoints.writing import write_checkpoint
from workers.messages import Zoo

_SPREAD = 0.02  # standard deviation of the base's weights
_CHANGE = 0.002  # and of what a parent adds to them: what a short fine-tuning does
_HEAD = 64  # elements of an attention head


@dataclass(frozen=True, slots=True)
class Size:
    """Of a Llama: layers, width, and how many rows the embedding has.

    Args:
        tied: the embedding is also the head.
    """

    layers: int
    hidden: int
    intermediate: int
    key_value_heads: int
    vocabulary: int = 32_000
    tied: bool = True

    @property
    def config(self) -> LlamaConfig:
        """As transformers wants it."""
        return LlamaConfig(
            architectures=["LlamaForCausalLM"],
            num_hidden_layers=self.layers,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_attention_heads=self.hidden // _HEAD,
            num_key_value_heads=self.key_value_heads,
            vocab_size=self.vocabulary,
            tie_word_embeddings=self.tied,
        )


# By number of parameters.
SIZES = {
    "9M": Size(10, 256, 768, 4, vocabulary=1024, tied=False),
    "138M": Size(12, 768, 3072, 12),
    "1.1B": Size(22, 2048, 5632, 4, tied=False),
}


def write_zoo(folder: Path, size: Size, *, dtype: str, parents: int = 3) -> Zoo:
    """Write a base of normal weights, and parents that differ from it by a little noise.

    Only the weights and the configuration are written: there is nothing to tokenize.

    Args:
        folder: to write to; one folder for each model.
        size: of every model.
        dtype: float32 or bfloat16.
        parents: how many.
    """
    size.config.save_pretrained(folder)
    with torch.device("meta"):
        model = LlamaForCausalLM(size.config)
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    of_dtype: torch.dtype = getattr(torch, dtype)
    elements = sum(weight.numel() for weight in model.parameters())
    names = [BASE, *(f"p{number}" for number in range(1, parents + 1))]
    for number, name in enumerate(names):
        write_checkpoint(
            folder / name,
            _weights(shapes, of_dtype, parent=number),
            folder,
            size_bytes=elements * of_dtype.itemsize,
        )
    return Zoo(str(folder / BASE), tuple((name, str(folder / name)) for name in names[1:]), dtype)


def _weights(
    shapes: dict[str, tuple[int, ...]], dtype: torch.dtype, *, parent: int
) -> Iterator[tuple[str, Tensor]]:
    """The base's weights where ``parent`` is 0; drawn again for every parent, rather than kept."""
    for number, (name, shape) in enumerate(shapes.items()):
        weight = _normal(shape, (number, 0)).mul_(_SPREAD)
        if parent:
            weight.add_(_normal(shape, (number, parent)), alpha=_CHANGE)
        yield name, weight.to(dtype)


def _normal(shape: tuple[int, ...], key: tuple[int, int]) -> Tensor:
    tensor, model = key
    generator = torch.Generator().manual_seed((tensor << 32) + model)
    return torch.randn(shape, generator=generator)
