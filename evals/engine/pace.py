"""How many tokens a forward pass should take, by a short measurement of the model itself."""

from __future__ import annotations

import statistics
import time

import torch
from transformers import PreTrainedModel

# The first is taken unless another is clearly faster.
_CHOICES = {"cpu": (1024, 512, 2048, 4096), "cuda": (32_768, 8192, 65_536)}
# A wrong choice costs less than results that differ between two workers.
_CLEARLY = 0.85
_ROW = 64
_REPEATS = 3
# A model this slow keeps its processor busy with any of them.
_PATIENCE_S = 0.5

_measured: dict[tuple[str, str, int], int] = {}


def token_limit(model: PreTrainedModel, device: torch.device) -> int:
    """Tokens of a forward pass, padding counted; measured once for a shape of model.

    Another choice than the usual has to be 15 % faster: then the same machine chooses the same
    again, and results are the same to the last bit.
    """
    shape = model.config.to_json_string(use_diff=False) + str(model.dtype)
    key = (shape, str(device), torch.get_num_threads())
    if key not in _measured:
        _measured[key] = _fastest(model, device)
    return _measured[key]


@torch.inference_mode()
def _fastest(model: PreTrainedModel, device: torch.device) -> int:
    usual, *others = _CHOICES[device.type]
    seconds = {usual: _seconds_per_token(model, device, usual)}
    if seconds[usual] * usual > _PATIENCE_S:
        return usual
    for choice in others:
        try:
            seconds[choice] = _seconds_per_token(model, device, choice)
        except torch.OutOfMemoryError:
            continue
    best = min(seconds, key=lambda choice: seconds[choice])
    return best if seconds[best] < _CLEARLY * seconds[usual] else usual


def _seconds_per_token(model: PreTrainedModel, device: torch.device, tokens: int) -> float:
    """The median of a few passes through all layers; of processor time where there is no device."""
    inputs = torch.zeros(max(tokens // _ROW, 1), _ROW, dtype=torch.long, device=device)
    taken = []
    for _ in range(_REPEATS + 1):
        start = _now(device)
        model.base_model(inputs, use_cache=False)
        taken.append(_now(device) - start)
        if taken[0] > _PATIENCE_S:
            break
    return statistics.median(taken[1:] or taken) / inputs.numel()


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()
