"""The model's side of an evaluation: log-likelihoods and greedy answers, as HFLM defines them.

Requests are tokenized, shared, sorted and batched once (`Engine.prepare`); `Engine.run` answers
them with whatever weights the model has at that moment.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar, assert_never

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.encoding import EncodedPrompt, Encoder, Pair, Tokens
from evals.generation import Generator
from evals.harness import context_length
from evals.requests import Answer, Continuation, Prompt, Request, Response, Text, Unscorable

Item = TypeVar("Item")
Result = TypeVar("Result")

# How many tokens are in one forward pass. On a CPU more only spoils its caches.
_BATCH_TOKENS = {"cpu": 2048, "cuda": 32_768}
# How many tokens, prompts and answers, have their keys and values in memory at a time.
_CACHED_TOKENS = {"cpu": 16_384, "cuda": 65_536}
# How many logits one forward pass may make: 256 MB in float32.
_BATCH_LOGITS = 2**26


@dataclass(slots=True)
class _Row:
    """One input of a forward pass, shared by every continuation that reads the same tokens.

    ``scored`` holds (unit, continuation) pairs; a continuation is what the last positions predict.
    """

    tokens: Tokens
    scored: list[tuple[int, Tokens]] = field(default_factory=list)

    @property
    def depth(self) -> int:
        """How many of its last positions are projected to the vocabulary."""
        return max(len(continuation) for _, continuation in self.scored)


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """One forward pass.

    Args:
        rows: what it was made from.
        inputs: (rows, length) int64, padded on the right.
        row, column: (positions,) int64, what is projected to the vocabulary.
        position, token, owner, place: (tokens,) int64; of every scored token its index among the
            positions, its id, the index in ``units`` of what it is part of, and its place in that.
        units: of the plan.
        table: number of units, and length of the longest.
    """

    rows: Sequence[_Row]
    inputs: Tensor
    row: Tensor
    column: Tensor
    position: Tensor
    token: Tensor
    owner: Tensor
    place: Tensor
    units: Sequence[int]
    table: tuple[int, int]


@dataclass(slots=True, eq=False)
class Plan:
    """Requests, ready to be answered again and again.

    A unit is a continuation or a window of a text: what has one log-likelihood.

    Args:
        requests: as they came.
        units: of each request that is scored.
        unit_count: of all requests.
        batches: forward passes, the longest rows first; split further when memory runs out.
        prompts: batches of generation; split likewise.
    """

    requests: Sequence[Request]
    units: dict[int, range]
    unit_count: int
    batches: list[_Batch]
    prompts: Sequence[Sequence[EncodedPrompt]]


class Engine:
    """A resident causal language model that answers requests.

    Answers equal those of HFLM but for the order of sums, and for one case that HFLM gets wrong:
    continuations of different length that share context and all but their last token.

    Attributes:
        forward_s: seconds that the last `run` spent in the model.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, device: str = "cpu"
    ) -> None:
        self.forward_s = 0.0
        model.train(mode=False)
        self._model = model
        self._device = torch.device(device)
        self._length = context_length(model.config, tokenizer)
        self._tokenizer = tokenizer
        self._generator = Generator(model, Encoder(tokenizer, self._length), self._device)

    def prepare(self, requests: Sequence[Request]) -> Plan:
        """Tokenize, share, sort and batch.

        Raises:
            Invalid: when a request cannot be put to this model at all.
        """
        encoder = Encoder(self._tokenizer, self._length)
        pairs: list[Pair] = []
        units: dict[int, range] = {}
        prompts: list[EncodedPrompt] = []
        for index, request in enumerate(requests):
            start = len(pairs)
            match request:
                case Continuation():
                    pairs.append(encoder.pair(request))
                case Text():
                    pairs += encoder.windows(request)
                case Prompt():
                    prompts.append(encoder.prompt(index, request))
                case _:
                    assert_never(request)
            units[index] = range(start, len(pairs))
        return Plan(
            requests=tuple(requests),
            units=units,
            unit_count=len(pairs),
            batches=[self._batch(rows) for rows in self._grouped_rows(pairs)],
            prompts=list(self._grouped_prompts(prompts)),
        )

    @torch.inference_mode()
    def run(self, plan: Plan) -> list[Response]:
        """An answer to each request, in their order.

        Raises:
            Unscorable: when the model's outputs are not finite.
            torch.OutOfMemoryError: when not even one row fits.
        """
        start = time.perf_counter()
        answers = self._score(plan)
        texts = self._write(plan)
        self.forward_s = time.perf_counter() - start
        responses: list[Response] = []
        for index, request in enumerate(plan.requests):
            match request:
                case Continuation():
                    responses.append(answers[plan.units[index].start])
                case Text():
                    responses.append(sum(answers[u].loglikelihood for u in plan.units[index]))
                case Prompt():
                    responses.append(texts[index])
                case _:
                    assert_never(request)
        return responses

    def _grouped_rows(self, pairs: Sequence[Pair]) -> Iterator[Sequence[_Row]]:
        """Rows of similar length, the longest first, within the limits of one forward pass."""
        rows: dict[Tokens, _Row] = {}
        for unit, (context, continuation) in enumerate(pairs):
            tokens = (context + continuation[:-1])[-self._length :]
            rows.setdefault(tokens, _Row(tokens)).scored.append((unit, continuation))
        ordered = sorted(rows.values(), key=lambda row: (-len(row.tokens), row.tokens))
        token_limit = _BATCH_TOKENS[self._device.type]
        position_limit = _BATCH_LOGITS // int(self._model.config.get_text_config().vocab_size)

        def fits(group: Sequence[_Row]) -> bool:
            return (
                len(group) * len(group[0].tokens) <= token_limit
                and sum(row.depth for row in group) <= position_limit
            )

        return _within(ordered, fits)

    def _grouped_prompts(
        self, prompts: Sequence[EncodedPrompt]
    ) -> Iterator[Sequence[EncodedPrompt]]:
        """Prompts of similar length that ask for answers of similar length."""
        ordered = sorted(prompts, key=lambda p: (-p.max_tokens, -len(p.tokens), p.tokens))
        limit = _CACHED_TOKENS[self._device.type]

        def fits(group: Sequence[EncodedPrompt]) -> bool:
            longest = max(len(prompt.tokens) for prompt in group)
            return len(group) * (longest + group[0].max_tokens) <= limit

        return _within(ordered, fits)

    def _batch(self, rows: Sequence[_Row]) -> _Batch:
        length = len(rows[0].tokens)
        inputs = [row.tokens + (0,) * (length - len(row.tokens)) for row in rows]
        places: list[tuple[int, int]] = []  # row, column
        tokens: list[tuple[int, int, int, int]] = []  # position, token, owner, place
        units: list[int] = []
        for index, row in enumerate(rows):
            end = len(row.tokens)
            places += ((index, column) for column in range(end - row.depth, end))
            for unit, continuation in row.scored:
                first = len(places) - len(continuation)
                owner = len(units)
                tokens += ((first + i, token, owner, i) for i, token in enumerate(continuation))
                units.append(unit)
        row_of, column_of = torch.tensor(places, device=self._device).unbind(dim=1)
        position, token_of, owner_of, place = torch.tensor(tokens, device=self._device).unbind(1)
        return _Batch(
            rows=rows,
            inputs=torch.tensor(inputs, device=self._device),
            row=row_of,
            column=column_of,
            position=position,
            token=token_of,
            owner=owner_of,
            place=place,
            units=units,
            table=(len(units), max(row.depth for row in rows)),
        )

    def _score(self, plan: Plan) -> list[Answer]:
        """The answer to every unit of the plan."""
        plan.batches, results = _as_memory_allows(plan.batches, self._score_batch, self._halves)
        answers = [Answer(0.0, greedy=False)] * plan.unit_count
        for batch, result in zip(plan.batches, results, strict=True):
            for unit, total, missed in zip(batch.units, *result.tolist(), strict=True):
                if not math.isfinite(total):
                    raise Unscorable("the model's outputs are not finite")
                answers[unit] = Answer(total, greedy=missed == 0)
        return answers

    def _write(self, plan: Plan) -> dict[int, str]:
        """The answer to every prompt, by index of request."""

        def halves(prompts: Sequence[EncodedPrompt]) -> list[Sequence[EncodedPrompt]]:
            return [half for half in _halved(prompts) if half]

        plan.prompts, texts = _as_memory_allows(plan.prompts, self._generator.write, halves)
        return {index: text for batch in texts for index, text in batch.items()}

    def _halves(self, batch: _Batch) -> list[_Batch]:
        return [self._batch(rows) for rows in _halved(batch.rows) if rows]

    def _score_batch(self, batch: _Batch) -> Tensor:
        """(2, units): log-likelihoods, and how many tokens greedy decoding would not have chosen.

        Log-probabilities are rounded to the dtype of the logits, and so are their sums: as in
        lm-eval.
        """
        logits = self._logits(batch)
        logs = torch.log_softmax(logits, dim=-1)
        # Every token at a place of its own, and not added up at once: atomic sums never repeat.
        table = torch.zeros(2, *batch.table, device=logits.device)
        table[0, batch.owner, batch.place] = logs[batch.position, batch.token].float()
        misses = logs.argmax(dim=-1)[batch.position] != batch.token
        table[1, batch.owner, batch.place] = misses.float()
        sums = table.sum(dim=-1)
        sums[0] = sums[0].to(logits.dtype)
        return sums

    def _logits(self, batch: _Batch) -> Tensor:
        """(positions, vocabulary), of the scored positions only."""
        find_head: Callable[[], torch.nn.Module | None] = self._model.get_output_embeddings
        head = find_head()
        if head is None:
            logits: Tensor = self._model(batch.inputs, use_cache=False).logits
            return logits[batch.row, batch.column]
        with _only(head, batch.row, batch.column):
            selected: Tensor = self._model(batch.inputs, use_cache=False).logits
        return selected[0]


@contextmanager
def _only(head: torch.nn.Module, row: Tensor, column: Tensor) -> Iterator[None]:
    """Let the output layer see these positions alone, as one sequence.

    What the model does with its logits afterwards stays the model's.
    """

    def select(_: torch.nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (arguments[0][row, column][None], *arguments[1:])

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def _as_memory_allows(
    batches: Sequence[Item], work: Callable[[Item], Result], halves: Callable[[Item], list[Item]]
) -> tuple[list[Item], list[Result]]:
    """Work on batches one after the other, in halves where memory runs out.

    Returns:
        batches that fit, so that what had to be split stays split, and the result of each.

    Raises:
        torch.OutOfMemoryError: a batch that has no halves does not fit.
    """
    waiting, fitting, results = list(reversed(batches)), [], []
    while waiting:
        batch = waiting.pop()
        try:
            results.append(work(batch))
        except torch.OutOfMemoryError:
            parts = halves(batch)
            if len(parts) < 2:
                raise
            waiting += reversed(parts)
        else:
            fitting.append(batch)
    return fitting, results


def _halved(items: Sequence[Item]) -> tuple[Sequence[Item], Sequence[Item]]:
    middle = len(items) // 2
    return items[:middle], items[middle:]


def _within(
    items: Sequence[Item], fits: Callable[[Sequence[Item]], bool]
) -> Iterator[Sequence[Item]]:
    """Consecutive groups, as large as fits; one item always does."""
    group: list[Item] = []
    for item in items:
        if group and not fits([*group, item]):
            yield group
            group = []
        group.append(item)
    if group:
        yield group
