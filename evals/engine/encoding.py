"""Requests as tokens, by the rules of lm-eval's HFLM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from evals.harness import rolling_windows
from evals.requests import Continuation, Divergence, Prompt, Text
from search.problems import Invalid, Problem

Tokens = tuple[int, ...]
# Context and continuation; neither is empty.
Pair = tuple[Tokens, Tokens]


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A prompt as tokens.

    Args:
        index: of the request.
        tokens: its end, where the whole leaves no room for the answer.
        until: what ends the answer; the text of the end-of-text token is among them.
        max_tokens: how long the answer may be.
    """

    index: int
    tokens: Tokens
    until: tuple[str, ...]
    max_tokens: int


class Encoder:
    """Tokenizes for one model.

    Args:
        tokenizer: of the model.
        length: how many tokens the model reads.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, length: int) -> None:
        self.length = length
        self._tokenizer = tokenizer
        self._encoded: dict[str, Tokens] = {}

    def pair(self, request: Continuation) -> Pair:
        """Context and continuation, split where the tokens of the context alone end.

        Spaces between the two belong to the continuation.

        Raises:
            Invalid: when the continuation has no tokens, or more than the model reads.
        """
        context, continuation = request.context, request.continuation
        if context:
            whole = self._encode(context + continuation)
            head = self._encode(context.rstrip())
            pair = head, whole[len(head) :]
        else:
            tokens = tuple(self._tokenizer.encode(continuation, add_special_tokens=False))
            starts_itself = tokens[:1] == (self.prefix,)
            pair = (tokens[:1], tokens[1:]) if starts_itself else ((self.prefix,), tokens)
        if not pair[0] or not 1 <= len(pair[1]) <= self.length:
            message = f"is {len(pair[1])} tokens long; this model scores 1 to {self.length}"
            raise Invalid([Problem(field=f"answer {continuation[:40]!r}", message=message)])
        return pair

    def windows(self, request: Text) -> list[Pair]:
        """The text in windows that the model can read, each token scored once."""
        windows = rolling_windows(self._encode(request.text), self.prefix, self.length)
        return [(tuple(context), tuple(continuation)) for context, continuation in windows]

    def positions(self, request: Divergence) -> list[Pair]:
        """Contexts and continuations whose tokens stand where distributions are compared.

        What comes after a whole text is no matter, and given as one token.
        """
        pairs: list[Pair] = []
        for text in request.texts:
            tokens = self._encode(text)
            if request.first is None:
                pairs.append((tokens or (self.prefix,), (self.prefix,)))
            else:
                windows = rolling_windows(tokens[: request.first], self.prefix, self.length)
                pairs += [(tuple(context), tuple(rest)) for context, rest in windows]
        return pairs

    def prompt(self, index: int, request: Prompt) -> EncodedPrompt:
        """The prompt and what ends its answer.

        Raises:
            Invalid: when the answer alone may be longer than what the model reads.
        """
        room = self.length - request.max_tokens
        if room <= 0:
            message = (
                f"asks for {request.max_tokens} tokens, and the model reads {self.length} in all;"
                " set a smaller max_gen_toks in the task's file"
            )
            raise Invalid([Problem(field="generation_kwargs.max_gen_toks", message=message)])
        start = self._tokenizer.bos_token
        bare = isinstance(start, str) and request.context.startswith(start)
        tokens = self._tokenizer.encode(request.context, add_special_tokens=not bare)
        end = self._text([self.end], skip_special_tokens=False)
        until = tuple(text for text in dict.fromkeys((*request.until, end)) if text)
        return EncodedPrompt(index, tuple(tokens[-room:]), until, request.max_tokens)

    def text(self, tokens: Sequence[int]) -> str:
        """What was written, without special tokens."""
        return self._text(tokens, skip_special_tokens=True)

    def texts(self, answers: Sequence[Sequence[int]]) -> list[str]:
        """Each as `text`, but with special tokens."""
        decoded = self._tokenizer.batch_decode([list(tokens) for tokens in answers])
        return [str(text) for text in decoded]

    def width(self, text: str) -> int:
        """How many tokens a text takes where it stands alone."""
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    @property
    def end(self) -> int:
        """The end-of-text token."""
        if self._tokenizer.eos_token_id is None:
            message = "has no end-of-text token, without which no answer ends"
            raise Invalid([Problem(field="tokenizer", message=message)])
        return int(self._tokenizer.eos_token_id)

    @property
    def prefix(self) -> int:
        """The token that stands before a text without context."""
        start = self._tokenizer.bos_token_id
        return self.end if start is None else int(start)

    @property
    def pad(self) -> int:
        """The token that fills up a row; never looked at."""
        pad = self._tokenizer.pad_token_id
        return self.end if pad is None else int(pad)

    def _encode(self, text: str) -> Tokens:
        """With the tokenizer's special tokens, unless the text itself begins with the first."""
        if text not in self._encoded:
            bare = text.startswith(self._text([self.prefix], skip_special_tokens=False))
            tokens = self._tokenizer.encode(text, add_special_tokens=not bare)
            self._encoded[text] = tuple(tokens)
        return self._encoded[text]

    def _text(self, tokens: Sequence[int], *, skip_special_tokens: bool) -> str:
        return str(self._tokenizer.decode(list(tokens), skip_special_tokens=skip_special_tokens))
