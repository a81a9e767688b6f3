"""Training on a mixture of lessons, in a minute or so on two cores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from evals.playground.families import Lesson

_IGNORED = -100

# Tokens and labels, each (rows, length).
_Stack = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast a model learns: AdamW, linear warm-up, cosine down to zero."""

    steps: int
    rate: float
    warm_up: int = 10
    batch: int = 128


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
        lengths: (lessons,) tokens in each row.
    """

    def __init__(self, lessons: Sequence[Lesson], tokenizer: PreTrainedTokenizerFast) -> None:
        prompts = tokenizer([lesson.prompt for lesson in lessons]).input_ids
        wholes = tokenizer([lesson.prompt + lesson.answer for lesson in lessons]).input_ids
        start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
        rows = [
            [*whole, end] if prompt else [start, *whole, end]
            for prompt, whole in zip(prompts, wholes, strict=True)
        ]
        self.lengths = np.array([len(row) for row in rows])
        shape = (len(rows), int(self.lengths.max()))
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
    progress: Callable[[int], None],
) -> None:
    """Train in place; the weights stay float32, the arithmetic is bfloat16 where that is fast.

    ``seed`` determines the batches; ``progress`` is called with the number of steps done.
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
        loss = _loss(model, _batch(pools, counts, rng))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        progress(step + 1)
    model.train(mode=False)


def _schedule(step: int, course: Course) -> float:
    warm = min(1.0, (step + 1) / course.warm_up)
    return warm * 0.5 * (1 + math.cos(math.pi * step / course.steps))


def _batch(
    pools: Sequence[_Encoded], counts: Sequence[int], rng: np.random.Generator
) -> list[_Stack]:
    """Rows of every pool, at random, as one or two stacks."""
    drawn = [
        (pool, int(row))
        for pool, count in zip(pools, counts, strict=True)
        for row in rng.integers(len(pool.lengths), size=count)
    ]
    drawn.sort(key=_length)
    cut = _cut(np.array([_length(row) for row in drawn]))
    return [_stack(part) for part in (drawn[:cut], drawn[cut:]) if part]


def _length(row: tuple[_Encoded, int]) -> int:
    return int(row[0].lengths[row[1]])


def _stack(rows: Sequence[tuple[_Encoded, int]]) -> _Stack:
    """Tokens and labels, cut to the longest row, which is the last."""
    longest = _length(rows[-1])
    tokens, labels = (
        torch.full((len(rows), longest), fill, dtype=torch.int64) for fill in (0, _IGNORED)
    )
    for place, (pool, row) in enumerate(rows):
        length = pool.lengths[row]
        tokens[place, :length] = pool.tokens[row, :length]
        labels[place, :length] = pool.labels[row, :length]
    return tokens, labels


def _cut(lengths: NDArray[np.int64]) -> int:
    """Where to part rows, sorted by length, so that least is padded; 0 where it saves little."""
    total, longest = len(lengths), int(lengths[-1])
    area = np.arange(1, total + 1) * lengths + np.arange(total)[::-1] * longest
    return int(area.argmin()) + 1 if area.min() < 0.85 * total * longest else 0


def _loss(model: LlamaForCausalLM, stacks: Sequence[_Stack]) -> torch.Tensor:
    """Mean cross entropy of the labelled tokens; logits are computed for these alone.

    No mask is needed: padding is on the right, and attention looks left.
    """
    losses = []
    for tokens, labels in stacks:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_is_fast()):
            hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state[:, :-1]
            wanted = labels[:, 1:]
            learned = wanted != _IGNORED
            logits = model.lm_head(hidden[learned])
        losses.append(cross_entropy(logits.float(), wanted[learned], reduction="none"))
    return torch.cat(losses).mean()


def bfloat16_is_fast() -> bool:
    """Whether this processor multiplies bfloat16 matrices itself; emulation would be slow."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads, whatever the process used before: sums depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
