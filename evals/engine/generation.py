"""Greedy answers, token by token, in batches whose rows leave as they finish."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache, LogitsProcessor, PreTrainedModel, StoppingCriteria

from evals.engine.batches import halved
from evals.engine.encoding import EncodedPrompt, Encoder, Tokens
from evals.engine.stems import Stems, room
from evals.requests import Unscorable

# What a generation config may say without changing a greedy answer.
_HARMLESS = frozenset(
    {"bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"}
    | {"transformers_version", "_from_model_config", "use_cache", "max_length", "max_new_tokens"}
    | {"do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p"}
    | {"return_dict_in_generate", "output_scores", "output_logits"}
    | {"output_attentions", "output_hidden_states"}
)
_ARGUMENTS = frozenset({"position_ids", "past_key_values", "logits_to_keep"})


@dataclass(frozen=True, slots=True)
class Writing:
    """Prompts that are answered together.

    Args:
        stem: what all of them begin with, whose keys and values are computed before.
        prompts: each with at least one token more.
    """

    stem: Tokens
    prompts: Sequence[EncodedPrompt]

    @property
    def capacity(self) -> int:
        """Of the longest row, answer counted."""
        longest = max(len(prompt.tokens) for prompt in self.prompts)
        return longest + max(prompt.max_tokens for prompt in self.prompts)

    def halves(self) -> list[Writing]:
        """Two that do the same; itself alone when there is one prompt."""
        return [Writing(self.stem, part) for part in halved(self.prompts)]


class Generator:
    """Lets a model write.

    Answers are those of HFLM with a batch of one: there, a batch goes on until its slowest row is
    done, and what a row writes after its stop string is cut off afterwards.

    Args:
        model: that writes.
        encoder: of its tokenizer.
        device: where it lives.
        shareable: how long a text may be whose first tokens were read for another.
    """

    def __init__(
        self, model: PreTrainedModel, encoder: Encoder, device: torch.device, *, shareable: int
    ) -> None:
        self._model = model
        self._shareable = shareable
        self._encoder = encoder
        self._device = device

    @property
    def takes_stems(self) -> bool:
        """Whether `Writing` may have a stem now; the generation config may forbid it."""
        return bool(self._shareable) and self._is_plain()

    def write(self, writing: Writing, stems: Stems) -> dict[int, str]:
        """Answers by index of request, each cut at its first stop string.

        Raises:
            Unscorable: when a logit is not finite.
        """
        texts = {}
        plain = self._is_plain()
        answers = self._greedy(writing, stems) if plain else self._by_transformers(writing.prompts)
        for prompt, tokens in zip(writing.prompts, answers, strict=True):
            text = self._encoder.text(tokens)
            for stop in prompt.until:
                text = text.split(stop)[0]
            texts[prompt.index] = text
        return texts

    def _is_plain(self) -> bool:
        """Whether the likeliest token is always next, and the model takes what `_greedy` gives."""
        config = self._model.generation_config
        options = config.to_diff_dict().keys() if config is not None else set()
        arguments = inspect.signature(self._model.forward).parameters.keys()
        return options <= _HARMLESS and arguments >= _ARGUMENTS

    def _greedy(self, writing: Writing, stems: Stems) -> list[list[int]]:
        """Tokens of each answer, the one that ended it included."""
        prompts = writing.prompts
        start = len(writing.stem)
        inputs, mask = self._padded(prompts, start)
        mask = torch.cat([mask.new_ones(len(prompts), start), mask], dim=-1)
        places = (mask.cumsum(-1) - 1).clamp(min=0)[:, start:]
        answers: list[list[int]] = [[] for _ in prompts]
        ending = _Ending(self._encoder, prompts, self._end_tokens())
        alive = list(range(len(prompts)))
        cache = self._cache(writing, stems)
        while True:
            output = self._model(
                inputs,
                attention_mask=mask,
                position_ids=places,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            tokens = _likeliest(output.logits[:, -1])
            for row, token in zip(alive, tokens.tolist(), strict=True):
                answers[row].append(token)
            over = ending.reached([(row, answers[row]) for row in alive])
            if all(over):
                return answers
            if any(over):
                kept = torch.tensor([i for i, done in enumerate(over) if not done])
                kept = kept.to(self._device)
                alive = [row for row, done in zip(alive, over, strict=True) if not done]
                cache.batch_select_indices(kept)
                tokens, mask, places = tokens[kept], mask[kept], places[kept]
            inputs = tokens[:, None]
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=-1)
            places = places[:, -1:] + 1

    def _cache(self, writing: Writing, stems: Stems) -> Cache | None:
        """Ours where every layer sees the whole text; else the model makes its own."""
        if writing.capacity > self._shareable:
            return None
        return room(
            stems[writing.stem] if writing.stem else (),
            rows=len(writing.prompts),
            layers=int(self._model.config.get_text_config().num_hidden_layers),
            capacity=writing.capacity,
        )

    def _by_transformers(self, prompts: Sequence[EncodedPrompt]) -> list[list[int]]:
        """The same by ``generate``, for a generation config that changes the logits."""
        inputs, mask = self._padded(prompts)
        length = inputs.shape[1]
        criterion = _StopRows(
            _Ending(self._encoder, prompts, self._end_tokens()), prompt_length=length
        )
        output = self._model.generate(  # type: ignore[operator]  # a method, typed as a submodule
            input_ids=inputs,
            attention_mask=mask,
            max_length=length + max(prompt.max_tokens for prompt in prompts),
            stopping_criteria=[criterion],
            logits_processor=[_FiniteOnly()],
            pad_token_id=self._encoder.pad,
            use_cache=True,
            do_sample=False,
            num_beams=1,
        )
        answers: list[list[int]] = output[:, length:].tolist()
        return [answer[:count] for answer, count in zip(answers, criterion.lengths, strict=True)]

    def _padded(self, prompts: Sequence[EncodedPrompt], start: int = 0) -> tuple[Tensor, Tensor]:
        """(prompts, length) tokens from ``start`` on, padded on the left, and their mask."""
        length = max(len(prompt.tokens) for prompt in prompts) - start
        spare = [length - len(prompt.tokens) + start for prompt in prompts]
        inputs = [
            [self._encoder.pad] * free + list(prompt.tokens[start:])
            for free, prompt in zip(spare, prompts, strict=True)
        ]
        mask = [[0] * free + [1] * (length - free) for free in spare]
        return torch.tensor(inputs, device=self._device), torch.tensor(mask, device=self._device)

    def _end_tokens(self) -> frozenset[int]:
        """Tokens after which the model writes no more."""
        config = self._model.generation_config
        ends = config.eos_token_id if config is not None else None
        listed = ends if isinstance(ends, list) else [] if ends is None else [ends]
        return frozenset((*listed, self._encoder.end))


class _Ending:
    """Tells which answers are complete."""

    def __init__(
        self, encoder: Encoder, prompts: Sequence[EncodedPrompt], end_tokens: frozenset[int]
    ) -> None:
        self._encoder = encoder
        self._prompts = prompts
        self._end_tokens = end_tokens
        stops = {stop for prompt in prompts for stop in prompt.until}
        # Two tokens more than the stop string has: a model may spell it otherwise.
        widths = {stop: encoder.width(stop) + 2 for stop in stops}
        self._widths = [max(widths[stop] for stop in prompt.until) for prompt in prompts]

    def reached(self, answers: Sequence[tuple[int, Sequence[int]]]) -> list[bool]:
        """Whether each (row, answer so far) is complete with its last token."""
        tails = self._encoder.texts([answer[-self._widths[row] :] for row, answer in answers])
        return [
            answer[-1] in self._end_tokens
            or len(answer) >= self._prompts[row].max_tokens
            or any(stop in tail for stop in self._prompts[row].until)
            for (row, answer), tail in zip(answers, tails, strict=True)
        ]


class _StopRows(StoppingCriteria):
    """`_Ending` as transformers wants it; ``lengths`` are those of the complete answers."""

    def __init__(self, ending: _Ending, *, prompt_length: int) -> None:
        self._ending = ending
        self._prompt_length = prompt_length
        self.lengths: list[int] = []

    def __call__(self, input_ids: Tensor, scores: object, **_: object) -> torch.BoolTensor:  # noqa: ARG002  # called by name
        answers = input_ids[:, self._prompt_length :].tolist()
        self.lengths = self.lengths or [0] * len(answers)
        unfinished = [row for row, length in enumerate(self.lengths) if length == 0]
        over = self._ending.reached([(row, answers[row]) for row in unfinished])
        for row, done in zip(unfinished, over, strict=True):
            self.lengths[row] = len(answers[row]) if done else 0
        stopped: torch.BoolTensor = torch.tensor(self.lengths, device=input_ids.device) > 0  # type: ignore[assignment]  # a comparison of tensors is one of bools
        return stopped


class _FiniteOnly(LogitsProcessor):
    """Changes nothing, and stops at logits that say nothing."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002  # likewise
        _likeliest(scores)
        return scores


def _likeliest(logits: Tensor) -> Tensor:
    """(rows,) the token that greedy decoding writes next."""
    best, tokens = logits.float().max(dim=-1)
    if not bool(best.isfinite().all()):
        raise Unscorable("the model's outputs are not finite")
    return tokens
