"""Requests in, answers out: tokenized and laid out once, answered with whatever weights there are.

Requests are tokenized, shared, sorted and batched once (`Engine.prepare`); `Engine.run` answers
them with whatever weights the model has at that moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, assert_never

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.engine.batches import Batch, batches
from evals.engine.encoding import EncodedPrompt, Encoder, Pair, Tokens
from evals.engine.generation import Generator
from evals.engine.pace import token_limit as _token_limit
from evals.engine.packing import Cost, Group, Row, packed
from evals.engine.scoring import Scorer
from evals.engine.sharing import shareable_length
from evals.engine.stems import Stems
from evals.engine.trees import Reading, readings
from evals.harness import context_length
from evals.requests import Answer, Continuation, Prompt, Request, Response, Text, Unscorable

Item = TypeVar("Item")
Result = TypeVar("Result")

# How many tokens, prompts and answers, have their keys and values in memory at a time, for each
# token of a forward pass: when all are being written, a step reads them all for few new ones.
_CACHED = 16
# How many logits one forward pass may make: 256 MB in float32.
_BATCH_LOGITS = 2**26


@dataclass(slots=True, eq=False)
class _Section:
    """Forward passes behind one stem; split further when memory runs out."""

    stem: Tokens
    batches: list[Batch]


@dataclass(slots=True, eq=False)
class Plan:
    """Requests, ready to be answered again and again.

    A unit is a continuation or a window of a text: what has one log-likelihood.

    Args:
        requests: as they came.
        units: of each request that is scored.
        unit_count: of all requests.
        sections: forward passes, each after those whose stem its own continues.
        prompts: batches of generation; split likewise.
    """

    requests: Sequence[Request]
    units: Sequence[range]
    unit_count: int
    sections: Sequence[_Section]
    prompts: Sequence[Sequence[EncodedPrompt]]

    @property
    def batches(self) -> list[Batch]:
        """All forward passes that score."""
        return [batch for section in self.sections for batch in section.batches]


class Engine:
    """A resident causal language model that answers requests.

    Answers equal those of HFLM but for the order of sums, for softmax and sums in float32 where it
    takes them in the model's dtype, and for one case that HFLM gets wrong: continuations of
    different length that share context and all but their last token.

    Args:
        model: stays where it is; its weights may be written over between runs.
        tokenizer: of the model.
        device: where the model lives, as torch spells it.
        token_limit: of a forward pass; measured when None.

    Attributes:
        forward_s: seconds that the last `run` spent in the model.
        plan_fingerprint: what decides in which order numbers are added up: dtype, device, form of
            attention, whether contexts are shared, tokens of a pass, threads.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        device: str = "cpu",
        *,
        token_limit: int | None = None,
    ) -> None:
        self.forward_s = 0.0
        model.train(mode=False)
        self._model = model
        self._device = torch.device(device)
        self._length = context_length(model.config, tokenizer)
        self._encoder = Encoder(tokenizer, self._length)
        self._shareable = shareable_length(model, self._device)
        self._token_limit = token_limit or _token_limit(model, self._device)
        self._scorer = Scorer(model, dtype=model.dtype)
        self._generator = Generator(model, self._encoder, self._device)
        self.plan_fingerprint = ", ".join(
            (
                str(model.dtype).removeprefix("torch."),
                self._device.type,
                str(getattr(model.config, "_attn_implementation", "own attention")),
                f"contexts shared up to {self._shareable}" if self._shareable else "one row each",
                f"{self._token_limit} tokens",
                f"{torch.get_num_threads()} threads",
            )
        )

    def prepare(self, requests: Sequence[Request]) -> Plan:
        """Tokenize, share, sort and batch; what was tokenized before is remembered.

        Raises:
            Invalid: when a request cannot be put to this model at all.
        """
        pairs: list[Pair] = []
        units: list[range] = []
        prompts: list[EncodedPrompt] = []
        for index, request in enumerate(requests):
            start = len(pairs)
            match request:
                case Continuation():
                    pairs.append(self._encoder.pair(request))
                case Text():
                    pairs += self._encoder.windows(request)
                case Prompt():
                    prompts.append(self._encoder.prompt(index, request))
                case _:
                    assert_never(request)
            units.append(range(start, len(pairs)))
        return Plan(
            requests=tuple(requests),
            units=units,
            unit_count=len(pairs),
            sections=[self._section(group) for group in self._groups(pairs)],
            prompts=list(self._grouped_prompts(prompts)),
        )

    @torch.inference_mode()
    def run(self, plan: Plan, stems: Stems | None = None) -> list[Response]:
        """An answer to each request, in their order.

        Args:
            plan: of this engine.
            stems: what these weights have read in earlier runs, and are to remember for later
                ones: for plans that begin alike, such as parts of one task.

        Raises:
            Unscorable: when the model's outputs are not finite.
            torch.OutOfMemoryError: when not even one row fits.
        """
        start = time.perf_counter()
        answers = self._score(plan, stems)
        texts = self._write(plan)
        self.forward_s = time.perf_counter() - start
        responses: list[Response] = []
        for index, (request, units) in enumerate(zip(plan.requests, plan.units, strict=True)):
            match request:
                case Continuation():
                    responses.append(answers[units.start])
                case Text():
                    responses.append(sum(answers[unit].loglikelihood for unit in units))
                case Prompt():
                    responses.append(texts[index])
                case _:
                    assert_never(request)
        return responses

    def _groups(self, pairs: Sequence[Pair]) -> list[Group]:
        """What is read together; what must not be shared is read on its own."""
        every = readings(pairs, self._length)
        shareable: list[Reading] = []
        alone: list[Reading] = []
        for reading in every:
            (shareable if len(reading.tokens) <= self._shareable else alone).append(reading)
        width = int(self._model.config.get_text_config().hidden_size)
        groups = packed(shareable, Cost(width))
        if alone:
            groups.append(Group((), [Row([reading], len(reading.tokens)) for reading in alone]))
        return groups

    def _section(self, group: Group) -> _Section:
        vocabulary = int(self._model.config.get_text_config().vocab_size)
        return _Section(
            group.stem,
            list(
                batches(
                    group.rows,
                    group.stem,
                    self._device,
                    token_limit=self._token_limit,
                    position_limit=_BATCH_LOGITS // vocabulary,
                )
            ),
        )

    def _grouped_prompts(
        self, prompts: Sequence[EncodedPrompt]
    ) -> Iterator[Sequence[EncodedPrompt]]:
        """Prompts of similar length that ask for answers of similar length."""
        ordered = sorted(prompts, key=lambda p: (-p.max_tokens, -len(p.tokens), p.tokens))
        limit = _CACHED * self._token_limit

        def fits(group: Sequence[EncodedPrompt]) -> bool:
            longest = max(len(prompt.tokens) for prompt in group)
            return len(group) * (longest + group[0].max_tokens) <= limit

        return _within(ordered, fits)

    def _score(self, plan: Plan, stems: Stems | None) -> list[Answer]:
        """The answer to every unit of the plan."""
        known = Stems() if stems is None else stems
        answers = [Answer(0.0, greedy=False)] * plan.unit_count
        for section in plan.sections:
            if stems is None:
                known.keep_beginnings(section.stem)
            self._scorer.read(section.stem, known, self._device)
            section.batches, results = _as_memory_allows(
                section.batches, lambda batch: self._scorer.score(batch, known), Batch.halves
            )
            for batch, result in zip(section.batches, results, strict=True):
                if not bool(result.isfinite().all()):
                    raise Unscorable("the model's outputs are not finite")
                for unit, total, missed in zip(batch.units, *result.tolist(), strict=True):
                    answers[unit] = Answer(total, greedy=missed == 0)
        return answers

    def _write(self, plan: Plan) -> dict[int, str]:
        """The answer to every prompt, by index of request."""

        def halves(prompts: Sequence[EncodedPrompt]) -> list[Sequence[EncodedPrompt]]:
            return [half for half in _halved(prompts) if half]

        plan.prompts, texts = _as_memory_allows(plan.prompts, self._generator.write, halves)
        return {index: text for batch in texts for index, text in batch.items()}


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
