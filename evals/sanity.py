"""A look at a model that takes no time, to tell a broken one from a bad one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from evals.engine import Engine
from evals.requests import Continuation, Divergence, Prompt, Request, Text

Item = TypeVar("Item")

# A merge may find the tasks' own questions so much less likely than the worse of base and best
# parent, in nats per token. On the playground task arithmetic with weights from 0 to 5 is within
# 1.1, whether it still answers anything or not; plain sums whose weights add up to 2, which answer
# nothing, are 24 away.
MARGIN_NATS = 5.0
# Whoever answers in a loop repeats itself at least over so many characters, and over half of all.
LOOP_CHARACTERS = 48

_TEXTS, _TEXT_CHARACTERS = 8, 400
_PROMPTS, _ANSWER_TOKENS = 4, 128
_LONGEST_PERIOD = 32


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a look at a model says.

    Args:
        nats_per_token: how unlikely it finds the tasks' own questions.
        loops: of some prompts, whether the answer ends in a loop; empty where no task lets write.
    """

    nats_per_token: float
    loops: tuple[bool, ...] = ()


class Examination:
    """Some of a suite's own questions, of which every tokenizer and language has the right ones.

    Args:
        engine: that will answer.
        tokenizer: of its model.
        requests: of the suite.
    """

    def __init__(
        self, engine: Engine, tokenizer: PreTrainedTokenizerBase, requests: Sequence[Request]
    ) -> None:
        texts = list(dict.fromkeys(filter(None, map(_shown, requests))))
        self._texts = [Text(text) for text in _spread(texts, _TEXTS)]
        written = dict.fromkeys(request for request in requests if isinstance(request, Prompt))
        self._prompts = [
            Prompt(prompt.context, prompt.until, min(prompt.max_tokens, _ANSWER_TOKENS))
            for prompt in _spread(list(written), _PROMPTS)
        ]
        encoded = (tokenizer.encode(text.text, add_special_tokens=False) for text in self._texts)
        self._tokens = max(1, sum(map(len, encoded)))
        self._engine = engine
        self._plan = engine.prepare([*self._texts, *self._prompts])

    def vitals(self) -> Vitals:
        """Of the model as it is now.

        Raises:
            Unscorable: when its outputs are not finite.
        """
        responses = self._engine.run(self._plan)
        likelihoods = (response for response in responses if isinstance(response, float))
        answers = (response for response in responses if isinstance(response, str))
        return Vitals(-sum(likelihoods) / self._tokens, tuple(map(is_loop, answers)))


def ailment(merge: Vitals, base: Vitals | None, parents: Sequence[Vitals]) -> str | None:
    """Why a merge is broken, for the user to read; None where it may be scored.

    Args:
        merge: what was seen of it.
        base: of the base; None where it has no finite outputs.
        parents: of those that have.
    """
    models = list(filter(None, (base, *parents)))
    if not models:
        return None
    best = min((parent.nats_per_token for parent in parents), default=models[0].nats_per_token)
    reference = best if base is None else max(best, base.nats_per_token)
    if not merge.nats_per_token <= reference + MARGIN_NATS:
        return (
            f"the merge lost its language: the tasks' own questions cost it "
            f"{merge.nats_per_token:.1f} nats per token, the worse of base and best parent "
            f"{reference:.1f}; the bound is {MARGIN_NATS:g} more"
        )
    fair = [not any(seen) for seen in zip(*(model.loops for model in models), strict=True)]
    judged = [looped for looped, counts in zip(merge.loops, fair, strict=True) if counts]
    if len(judged) > 1 and all(judged):
        return (
            f"the merge repeats itself without end: it answers each of {len(judged)} prompts in "
            "a loop, and neither base nor any parent does"
        )
    return None


def is_loop(text: str) -> bool:
    """Whether a text ends in one piece after another of the same, and is mostly that."""
    length = max(LOOP_CHARACTERS, (len(text) + 1) // 2)
    tail = text[-length:]
    if len(tail) < length:
        return False
    periods = range(1, min(_LONGEST_PERIOD, length // 3) + 1)
    return any(tail[period:] == tail[:-period] for period in periods)


def _shown(request: Request) -> str:
    """What a model reads before it answers; of a text that it only reads, the start."""
    match request:
        case Continuation(context=context, continuation=continuation):
            return context[-_TEXT_CHARACTERS:] or continuation[:_TEXT_CHARACTERS]
        case Prompt(context=context):
            return context[-_TEXT_CHARACTERS:]
        case Text(text=text):
            return text[:_TEXT_CHARACTERS]
        case Divergence():  # of what others ask already
            return ""


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most so many, from all over."""
    stride = max(1, len(items) // count)
    return list(items[::stride])[:count]
