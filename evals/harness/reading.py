"""How lm-eval puts text to a model: its length, windows over a text, its chat template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2
from transformers import PreTrainedTokenizerBase

from search.problems import Invalid, Problem


def rolling_windows(
    tokens: Sequence[int], prefix: int, length: int
) -> list[tuple[list[int], list[int]]]:
    """(context, continuation) windows that cover a text once, as lm-eval cuts them."""
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    windows = get_rolling_token_windows(
        token_list=list(tokens), prefix_token=prefix, max_seq_len=length, context_len=1
    )
    return [make_disjoint_window(window) for window in windows]


def context_length(model_config: object, tokenizer: object) -> int:
    """How many tokens a model reads, by the rules of lm-eval."""
    from lm_eval.models.utils import resolve_max_length

    return int(resolve_max_length(model_config, tokenizer))


def chat_template(tokenizer: PreTrainedTokenizerBase) -> Callable[..., str]:
    """A tokenizer's chat template as lm-eval's HFLM applies it.

    Where the template refuses a system message, it is left out.

    Raises:
        Invalid: when the tokenizer has none.
    """
    if not tokenizer.chat_template:
        message = "the model's tokenizer has no chat template; leave it out"
        raise Invalid([Problem(field="evaluation.apply_chat_template", message=message)])

    def applied(history: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool) -> str:
        text: str = tokenizer.apply_chat_template(  # type: ignore[assignment]  # tokenize=False makes it one text
            [dict(message) for message in history],
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return text

    def apply(history: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True) -> str:
        try:
            return applied(history, add_generation_prompt=add_generation_prompt)
        except jinja2.TemplateError:
            rest = [message for message in history if message["role"] != "system"]
            return applied(rest, add_generation_prompt=add_generation_prompt)

    return apply
