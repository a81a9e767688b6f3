"""How lm-eval puts text to a model: the length it reads, and windows over a text."""

from __future__ import annotations

from collections.abc import Sequence


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
