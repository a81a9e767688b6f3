"""Whether a model can read many texts as one tree: by its configuration, and by trying."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedConfig, PreTrainedModel

from evals.engine.batches import batch_of
from evals.engine.encoding import Tokens
from evals.engine.packing import Row
from evals.engine.scoring import Scorer
from evals.engine.stems import Stems
from evals.engine.trees import Reading, readings, tree

# Log-likelihoods of a tree and of its rows may differ by this much in float32, in nats.
TOLERANCE = 1e-3

_ARGUMENTS = frozenset({"attention_mask", "position_ids", "past_key_values"})
# These take a mask as it is given.
_ATTENTION = ("sdpa", "eager")
_LAYERS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
# Names of how far some layers look back.
_WINDOWS = ("sliding_window", "window_size", "attention_chunk_size")
# Rotations that depend on how long the whole input is.
_STRETCHED = ("dynamic", "longrope")
_VOCABULARY = 512
# What a model raises that was not made for masks, caches or positions that we give.
_FAULTS = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, NotImplementedError)

_verdicts: dict[tuple[str, str, str], int] = {}


def shareable_length(model: PreTrainedModel, device: torch.device) -> int:
    """How long a reading may be that shares its first tokens with others; 0 when none may.

    Beyond what every layer sees, and beyond what rotations were made for, a tree would not be what
    its rows are. Within that, a few rows of random tokens are put through the model with random
    weights in float32, as a tree and each on its own: log-likelihoods must agree to ``TOLERANCE``.
    """
    config = model.config.get_text_config()
    length = _told(model, config)
    if not length:
        return 0
    key = (type(model).__qualname__, config.to_json_string(use_diff=False), str(device))
    if key not in _verdicts:
        _verdicts[key] = length if _agrees(model, config, device) else 0
    return _verdicts[key]


def _told(model: PreTrainedModel, config: PreTrainedConfig) -> int:
    """As far as the configuration tells."""
    if not inspect.signature(model.forward).parameters.keys() >= _ARGUMENTS:
        return 0
    if getattr(config, "_attn_implementation", None) not in _ATTENTION:
        return 0
    kinds = set(getattr(config, "layer_types", None) or ())
    if not kinds <= _LAYERS:
        return 0
    limits = [2**31]
    if kinds != {"full_attention"}:
        found = (getattr(config, name, None) for name in _WINDOWS)
        limits += [window for window in found if isinstance(window, int)]
    rotation = getattr(config, "rope_parameters", None) or {}
    if rotation.get("rope_type") in _STRETCHED:
        known = rotation.get("original_max_position_embeddings")
        limits.append(int(known or config.max_position_embeddings))
    return min(limits)


def _agrees(model: PreTrainedModel, config: PreTrainedConfig, device: torch.device) -> bool:
    generator = torch.Generator().manual_seed(0)
    weights = dict(_random_weights(model, config, device, generator))
    high = min(_VOCABULARY, int(config.vocab_size))
    drawn: Tokens = tuple(torch.randint(high, (64,), generator=generator).tolist())
    trunk, branches = (
        drawn[:16],
        (drawn[16:20], drawn[20:22], drawn[22:30], drawn[16:18] + drawn[30:32]),
    )
    found = readings([(trunk, branch) for branch in branches], len(drawn))

    def forward(*arguments: Any, **options: Any) -> Any:
        return functional_call(model, weights, arguments, options)

    scorer = Scorer(model, dtype=torch.float32, forward=forward)

    def scored(rows: list[Row], stem: Tokens = ()) -> Tensor:
        batch = batch_of(rows, stem, device)
        totals = scorer.score(batch, stems)[0]
        return totals[torch.tensor(batch.units, device=device).argsort()]

    stems = Stems()
    together = [Row(found, len(tree(found).tokens))]
    with torch.inference_mode():
        try:
            apart = scored([Row([reading], len(reading.tokens)) for reading in found])
            for stem in (trunk[:5], trunk[:11]):  # the second continues the first
                scorer.read(stem, stems, device)
            ways = [scored(together, stem) for stem in ((), trunk[:5], trunk[:11])]
            ways.append(scored(_in_two(found), trunk[:11]))
        except _FAULTS:
            return False
    return all(bool((way - apart).abs().max() <= TOLERANCE) for way in ways)


def _in_two(found: list[Reading]) -> list[Row]:
    """Two rows of different width, so that one is padded."""
    return [Row(part, len(tree(part).tokens)) for part in (found[:1], found[1:])]


def _random_weights(
    model: PreTrainedModel,
    config: PreTrainedConfig,
    device: torch.device,
    generator: torch.Generator,
) -> Iterator[tuple[str, Tensor]]:
    """Weights under which every token counts, whatever the model's own are now.

    All are views of the same numbers, and of a small vocabulary, so that they need little memory.
    """
    vocabulary = int(config.vocab_size)
    padding = getattr(config, "pad_token_id", None) or 0
    rows = min(vocabulary, max(_VOCABULARY, int(padding) + 1))
    shapes: Mapping[str, torch.Size] = {
        name: torch.Size((rows, *weight.shape[1:]))
        if weight.shape[0] == vocabulary
        else weight.shape
        for name, weight in model.named_parameters()
        if weight.is_floating_point() and weight.ndim
    }
    # Of stacked experts all are the same.
    sizes = {name: math.prod(shape[-2:]) for name, shape in shapes.items()}
    spread = 1 / math.sqrt(int(config.hidden_size))
    numbers = torch.randn(max(sizes.values()) + len(sizes), generator=generator)
    numbers = numbers.mul_(spread).to(device)
    for index, (name, shape) in enumerate(shapes.items()):
        weight = numbers[index : index + sizes[name]].view(shape[-2:])
        if len(shape) == 1 and not name.endswith("bias"):
            weight = 1 + weight
        yield name, weight.expand(shape)
