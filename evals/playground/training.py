"""Training on a mixture of lessons, in a minute or so on two cores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy, pad
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from evals.playground.families import Lesson

_IGNORED = -100


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast a model learns: AdamW, linear warm-up, cosine down to zero."""

    steps: int
    rate: float
    warm_up: int = 10
    batch: int = 96


@dataclass(frozen=True, slots=True)
class Share:
    """Lessons that make up a fraction of every batch."""

    lessons: Sequence[Lesson]
    fraction: float


class _Encoded:
    """Lessons as padded token rows.

    Attributes:
        tokens: (lessons, longest) int64, padded on the right.
        labels: the same, with ``_IGNORED`` where nothing is to be learned.
    """

    def __init__(self, lessons: Sequence[Lesson], tokenizer: PreTrainedTokenizerFast) -> None:
        prompts = tokenizer([lesson.prompt for lesson in lessons]).input_ids
        wholes = tokenizer([lesson.prompt + lesson.answer for lesson in lessons]).input_ids
        start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
        rows = [
            [*whole, end] if prompt else [start, *whole, end]
            for prompt, whole in zip(prompts, wholes, strict=True)
        ]
        shape = (len(rows), max(map(len, rows)))
        self.tokens = torch.full(shape, tokenizer.pad_token_id, dtype=torch.int64)
        self.labels = torch.full(shape, _IGNORED, dtype=torch.int64)
        for place, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
            given = len(prompt) or 1
            self.tokens[place, : len(row)] = torch.tensor(row)
            self.labels[place, given : len(row)] = torch.tensor(row[given:])


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    mixture: Sequence[Share],
    course: Course,
    *,
    seed: Sequence[int],
    progress: Callable[[], None],
) -> None:
    """Train in place; the weights stay float32, the arithmetic is bfloat16 where that is fast.

    ``seed`` determines the batches; ``progress`` is called after every step.
    """
    pools = [_Encoded(share.lessons, tokenizer) for share in mixture]
    counts = [round(share.fraction * course.batch) for share in mixture]
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=course.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    model.train(mode=True)
    for step in range(course.steps):
        for group in optimizer.param_groups:
            group["lr"] = course.rate * _schedule(step, course)
        loss = _loss(model, *_batch(pools, counts, rng))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        progress()
    model.train(mode=False)


def _schedule(step: int, course: Course) -> float:
    warm = min(1.0, (step + 1) / course.warm_up)
    return warm * 0.5 * (1 + math.cos(math.pi * step / course.steps))


def _batch(
    pools: Sequence[_Encoded], counts: Sequence[int], rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random rows of every pool: tokens and labels, (batch, length).

    The length is always that of the longest row of all pools: kernels are compiled anew for every
    shape, which costs more than padding.
    """
    length = max(pool.tokens.shape[1] for pool in pools)
    tokens, labels = [], []
    for pool, count in zip(pools, counts, strict=True):
        drawn = torch.from_numpy(rng.integers(len(pool.tokens), size=count))
        missing = (0, length - pool.tokens.shape[1])
        tokens.append(pad(pool.tokens[drawn], missing))
        labels.append(pad(pool.labels[drawn], missing, value=_IGNORED))
    return torch.cat(tokens), torch.cat(labels)


def _loss(model: LlamaForCausalLM, tokens: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy of the labelled tokens.

    No mask is needed: padding is on the right, and attention looks left.
    """
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_is_fast()):
        logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
    return cross_entropy(logits.float().flatten(0, 1), labels[:, 1:].flatten())


def bfloat16_is_fast() -> bool:
    """Whether this processor multiplies bfloat16 matrices itself; emulation would be slow."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, in this thread and those it starts, whatever it was before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
