"""What our engine says is what stock lm-eval says, request by request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from evals.engine import Engine
from evals.requests import Answer, Continuation, Prompt, Request, Response, Text

# Sums of a hundred float32 logarithms in another order.
NOISE = 1e-4

ODD: list[Request] = [
    Continuation("", "abc"),
    Continuation("", "<s>abc"),
    Continuation("  ", "abc"),
    Continuation("cab ", "the"),
    Continuation("cab   ", " the"),
    Continuation("<s>cab", " the end"),
    Continuation("c", "dx"),  # its first token merges with the context's last
    Continuation("x" * 200, " y"),
    Continuation("x" * 90, "y" * 20),
    Continuation("a", "b" * 94),
    Continuation("same", " a"),
    Continuation("same", " c"),
    Continuation("same", " c"),
    Continuation("naïve ✓", " é✓"),
    Text("abc"),
    Text("<s>abc"),
    Text("the cab " * 60),
    Text("x" * 96),
    Text(""),
    Prompt("the ", ("a", "q"), 20),
    Prompt("<s>the ", ("a", "q"), 20),
    Prompt("x" * 300, ("\n",), 30),
    Prompt("ab", ("never written",), 95),
    Prompt("cd", (), 1),
    Prompt("héé ✓", ("th", "er e"), 24),
]


def hflm(model: Any, tokenizer: Any, batch_size: int) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", batch_size=batch_size)


def stock_answers(lm: Any, requests: Sequence[Request]) -> list[Response]:
    """Each request put to HFLM on its own."""
    from lm_eval.api.instance import Instance

    def ask(kind: str, *arguments: object) -> Any:
        instance = Instance(request_type=kind, doc={}, arguments=arguments, idx=0)
        (answer,) = getattr(lm, kind)([instance], disable_tqdm=True)
        return answer

    answers: list[Response] = []
    for request in requests:
        match request:
            case Continuation(context, continuation):
                answers.append(Answer(*ask("loglikelihood", context, continuation)))
            case Text(text):
                answers.append(ask("loglikelihood_rolling", text))
            case Prompt(context, until, max_tokens):
                options = {"until": list(until), "max_gen_toks": max_tokens, "do_sample": False}
                answers.append(ask("generate_until", context, options))
    return answers


def our_answers(model: Any, tokenizer: Any, requests: Sequence[Request]) -> list[Response]:
    engine = Engine(model, tokenizer)
    return engine.run(engine.prepare(requests))


def assert_same(ours: Sequence[Response], stock: Sequence[Response]) -> None:
    for mine, theirs in zip(ours, stock, strict=True):
        match mine, theirs:
            case Answer(), Answer():
                assert mine.loglikelihood == pytest.approx(theirs.loglikelihood, abs=NOISE)
                assert mine.greedy == theirs.greedy
            case str(), _:
                assert mine == theirs
            case _:
                assert mine == pytest.approx(theirs, abs=NOISE)


def test_odd_requests_are_answered_as_hflm_answers_them(model: Any, tokenizer: Any) -> None:
    ours = our_answers(model, tokenizer, ODD)
    assert_same(ours, stock_answers(hflm(model, tokenizer, 1), ODD))
    texts = {answer for answer in ours if isinstance(answer, str)}
    assert len(texts) > 3  # the model does write different things


def test_the_comparison_notices_a_model_that_is_slightly_different(
    model: Any, tokenizer: Any
) -> None:
    stock = stock_answers(hflm(model, tokenizer, 1), ODD[:4])
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.mul_(1.01)
    with pytest.raises(AssertionError):
        assert_same(our_answers(model, tokenizer, ODD[:4]), stock)


def test_a_generation_config_that_changes_logits_is_obeyed(model: Any, tokenizer: Any) -> None:
    prompts = [request for request in ODD if isinstance(request, Prompt)]
    plain = our_answers(model, tokenizer, prompts)
    model.generation_config.repetition_penalty = 1.5
    ours = our_answers(model, tokenizer, prompts)
    assert ours == stock_answers(hflm(model, tokenizer, 1), prompts)
    assert ours != plain


def test_every_end_token_of_the_generation_config_ends_an_answer(
    model: Any, tokenizer: Any
) -> None:
    prompts = [Prompt("ab", ("never written",), 60)]
    (long,) = our_answers(model, tokenizer, prompts)
    assert isinstance(long, str)
    (last,) = tokenizer.encode(long[-1], add_special_tokens=False)
    model.generation_config.eos_token_id = [1, last]
    ours = our_answers(model, tokenizer, prompts)
    assert ours == stock_answers(hflm(model, tokenizer, 1), prompts)
    assert len(str(ours[0])) < len(long)


@pytest.mark.parametrize("add_bos", [True, False])
def test_tokenizers_with_and_without_a_start_token_agree(
    model: Any, model_folder: Path, *, add_bos: bool
) -> None:
    from tokenizers import processors
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    if not add_bos:
        tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
        tokenizer.bos_token = None
    # Without a start token a context of spaces has no tokens, and HFLM stops at an assertion.
    requests = [request for request in ODD if add_bos or request != Continuation("  ", "abc")]
    stock = stock_answers(hflm(model, tokenizer, 1), requests)
    assert_same(our_answers(model, tokenizer, requests), stock)
