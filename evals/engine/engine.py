"""Requests in, answers out: tokenized and laid out once, answered with whatever weights there are.

Requests are tokenized, shared, sorted and batched once (`Engine.prepare`); `Engine.run` answers
them with whatever weights the model has at that moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, assert_never

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals.engine.batches import Batch, batches
from evals.engine.encoding import EncodedPrompt, Encoder, Pair, Tokens
from evals.engine.generation import Generator, Writing
from evals.engine.packing import Cost, Group, Row, packed
from evals.engine.scoring import Scorer
from evals.engine.sharing import shareable_length
from evals.engine.stems import Stems
from evals.engine.trees import Reading, readings
from evals.harness import context_length
from evals.requests import (
    Answer,
    Continuation,
    Divergence,
    Prompt,
    Request,
    Response,
    Text,
    Unscorable,
)

Item = TypeVar("Item")
Result = TypeVar("Result")

# How many tokens are in one forward pass, where nobody has measured what is best. On a CPU more
# only spoils its caches.
PASS_TOKENS = {"cpu": 1024, "cuda": 32_768}
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
        compared: of each unit whose distributions are compared, the reference and what is read.
        sections: forward passes, each after those whose stem its own continues.
        writings: batches of generation; split likewise.
    """

    requests: Sequence[Request]
    units: Sequence[range]
    unit_count: int
    compared: Mapping[int, tuple[str, Pair]]
    sections: Sequence[_Section]
    writings: Sequence[Writing]

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
        token_limit: of a forward pass, padding counted; the usual for the device when None. All
            that score for one search need the same, or sums differ in their last bits.

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
        self._shareable = min(shareable_length(model, self._device), self._length)
        self._token_limit = token_limit or PASS_TOKENS[self._device.type]
        self._position_limit = _BATCH_LOGITS // int(model.config.get_text_config().vocab_size)
        self._scorer = Scorer(model, dtype=model.dtype)
        self._generator = Generator(model, self._encoder, self._device, shareable=self._shareable)
        self._learned: dict[tuple[str, Pair], Tensor] = {}
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
        compared: dict[int, tuple[str, Pair]] = {}
        units: list[range] = []
        prompts: list[EncodedPrompt] = []
        for index, request in enumerate(requests):
            start = len(pairs)
            match request:
                case Continuation():
                    pairs.append(self._encoder.pair(request))
                case Text():
                    pairs += self._encoder.windows(request)
                case Divergence(reference=reference):
                    pairs += self._encoder.positions(request)
                    for unit in range(start, len(pairs)):
                        compared[unit] = reference, pairs[unit]
                case Prompt():
                    prompts.append(self._encoder.prompt(index, request))
                case _:
                    assert_never(request)
            units.append(range(start, len(pairs)))
        return Plan(
            requests=tuple(requests),
            units=units,
            unit_count=len(pairs),
            compared=compared,
            sections=[self._section(group) for group in self._groups(pairs)],
            writings=list(self._writings(prompts)),
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
        answers, divergences = self._score(plan, stems)
        texts = self._write(plan, stems)
        self.forward_s = time.perf_counter() - start
        responses: list[Response] = []
        for index, (request, units) in enumerate(zip(plan.requests, plan.units, strict=True)):
            match request:
                case Continuation():
                    responses.append(answers[units.start])
                case Text():
                    responses.append(sum(answers[unit].loglikelihood for unit in units))
                case Divergence():
                    tokens = sum(len(plan.compared[unit][1][1]) for unit in units)
                    responses.append(sum(divergences[unit] for unit in units) / tokens)
                case Prompt():
                    responses.append(texts[index])
                case _:
                    assert_never(request)
        return responses

    @torch.inference_mode()
    def learn(self, requests: Sequence[Divergence]) -> None:
        """Take the model as it is now for the reference of these, and remember what it says.

        That is the whole distribution at every position, in float32.

        Raises:
            Unscorable: when the model's outputs are not finite.
        """
        plan = self.prepare(requests)
        stems = Stems()
        for section in plan.sections:
            self._scorer.read(section.stem, stems, self._device)
            _, found = _as_memory_allows(
                section.batches, lambda batch: self._learn(plan, batch, stems), Batch.halves
            )
            for known in found:
                self._learned |= known

    def _learn(self, plan: Plan, batch: Batch, stems: Stems) -> dict[tuple[str, Pair], Tensor]:
        every = self._scorer.log_probabilities(batch, stems, range(len(batch.units)))
        if any(bool(one.isnan().any()) for one in every.values()):
            raise Unscorable("the model's outputs are not finite")
        return {plan.compared[batch.units[owner]]: one for owner, one in every.items()}

    def _groups(self, pairs: Sequence[Pair]) -> list[Group]:
        """What is read together; what must not be shared is read on its own."""
        every = readings(pairs, self._length)
        shareable: list[Reading] = []
        alone: list[Reading] = []
        for reading in every:
            (shareable if len(reading.tokens) <= self._shareable else alone).append(reading)
        width = int(self._model.config.get_text_config().hidden_size)
        groups = packed(shareable, Cost(width, self._token_limit, self._position_limit))
        if alone:
            groups.append(Group((), [Row([reading], len(reading.tokens)) for reading in alone]))
        return groups

    def _section(self, group: Group) -> _Section:
        return _Section(
            group.stem,
            list(
                batches(
                    group.rows,
                    group.stem,
                    self._device,
                    token_limit=self._token_limit,
                    position_limit=self._position_limit,
                )
            ),
        )

    def _writings(self, prompts: Sequence[EncodedPrompt]) -> Iterator[Writing]:
        """Prompts of similar length that ask for answers of similar length."""
        begun: dict[Tokens, list[EncodedPrompt]] = {}
        stems = self._prompt_stems(prompts)
        for prompt in prompts:
            begun.setdefault(stems.get(prompt.tokens, ()), []).append(prompt)
        limit = _CACHED * self._token_limit
        for stem in sorted(begun, key=len):
            group: list[EncodedPrompt] = []
            for prompt in sorted(
                begun[stem], key=lambda p: (-p.max_tokens, -len(p.tokens), p.tokens)
            ):
                one_more = Writing(stem, [*group, prompt])
                if group and len(one_more.prompts) * one_more.capacity > limit:
                    yield Writing(stem, group)
                    group = []
                group.append(prompt)
            yield Writing(stem, group)

    def _prompt_stems(self, prompts: Sequence[EncodedPrompt]) -> dict[Tokens, Tokens]:
        """Of prompts, the first tokens that it pays to read once."""
        if not self._generator.takes_stems:
            return {}
        pairs = [
            (prompt.tokens, (0,))
            for prompt in prompts
            if len(prompt.tokens) + prompt.max_tokens <= self._shareable
        ]
        width = int(self._model.config.get_text_config().hidden_size)
        groups = packed(readings(pairs, self._length), Cost(width, tokens=0, positions=0))
        return {
            reading.tokens: group.stem
            for group in groups
            for row in group.rows
            for reading in row.readings
        }

    def _score(self, plan: Plan, stems: Stems | None) -> tuple[list[Answer], list[float]]:
        """The answer to every unit of the plan, and how far it is from its reference."""
        known = Stems() if stems is None else stems
        answers = [Answer(0.0, greedy=False)] * plan.unit_count
        divergences = [0.0] * plan.unit_count
        for section in plan.sections:
            if stems is None:
                known.keep_beginnings(section.stem)
            self._scorer.read(section.stem, known, self._device)
            section.batches, results = _as_memory_allows(
                section.batches,
                lambda batch: self._scorer.score(batch, known, self._references(plan, batch)),
                Batch.halves,
            )
            for batch, result in zip(section.batches, results, strict=True):
                if not bool(result.isfinite().all()):
                    raise Unscorable("the model's outputs are not finite")
                for unit, total, missed, far in zip(batch.units, *result.tolist(), strict=True):
                    answers[unit] = Answer(total, greedy=missed == 0)
                    divergences[unit] = far
        return answers, divergences

    def _references(self, plan: Plan, batch: Batch) -> dict[int, Tensor]:
        """By place among the units of a batch."""
        return {
            owner: self._learned[plan.compared[unit]]
            for owner, unit in enumerate(batch.units)
            if unit in plan.compared
        }

    def _write(self, plan: Plan, stems: Stems | None) -> dict[int, str]:
        """The answer to every prompt, by index of request."""
        known = Stems() if stems is None else stems

        def write(writing: Writing) -> dict[int, str]:
            if stems is None:
                known.keep_beginnings(writing.stem)
            self._scorer.read(writing.stem, known, self._device)
            return self._generator.write(writing, known)

        plan.writings, texts = _as_memory_allows(plan.writings, write, Writing.halves)
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
