"""What a task asks of a model, and what the model answers: plain text in, plain numbers out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Continuation:
    """How likely is ``continuation`` after ``context``? Answered by an `Answer`."""

    context: str
    continuation: str


@dataclass(frozen=True, slots=True)
class Text:
    """How likely is the whole text? Answered by its log-likelihood in nats, a float."""

    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What does the model write after ``context``, greedily? Answered by a str.

    Args:
        context: what comes before.
        until: the answer ends before the first of these strings (and at the end-of-text token).
        max_tokens: and after this many tokens at the latest.
    """

    context: str
    until: tuple[str, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Divergence:
    """How differently does the model go on than a reference? Answered by nats, a float.

    That is KL(reference || model) of the distributions of the next token (Kullback & Leibler 1951,
    eq. 2.5), on average over positions: 0 where the two are the same, and never less.

    Args:
        reference: name of the model that is gone by.
        texts: that both read.
        first: the positions are those of the first so many tokens of each text; None where it is
            what comes after each text alone.
    """

    reference: str
    texts: tuple[str, ...]
    first: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Log-likelihood of a continuation in nats, and whether greedy decoding would write it."""

    loglikelihood: float
    greedy: bool


class Unscorable(Exception):
    """The model has no answer that means anything, now or ever; the message says why."""


Request = Continuation | Text | Prompt | Divergence
Response = Answer | float | str
