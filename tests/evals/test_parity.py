"""What our engine says is what stock lm-eval says, request by request."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evals.engine import Engine
from evals.evaluator import Evaluator
from evals.harness import load
from evals.requests import Answer, Continuation, Prompt, Request, Response, Text
from evals.suite import Split, Suite
from search.outcome import Scores

TASKS = ["t_choice", "t_continue", "t_filters", "t_letters", "t_shots", "t_text", "t_write"]
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


@pytest.fixture(scope="module")
def stock(lab: Any, model_folder: Path) -> dict[str, Any]:
    """Every task scored by stock lm-eval."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    return lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(model_folder), device="cpu", dtype="float32", batch_size=8),
        tasks=TASKS,
        task_manager=TaskManager(include_path=str(lab.tasks), include_defaults=False),
        bootstrap_iters=0,
    )


@pytest.fixture(scope="module")
def ours(lab: Any, model_folder: Path, tokenizer: Any) -> tuple[Scores, dict[str, bool]]:
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(model_folder, dtype="float32")
    suite = Suite((), Split.REPORT, (str(lab.tasks),))
    evaluator = Evaluator(model, tokenizer, suite, every=TASKS)
    return evaluator.score_every_metric(), dict(evaluator.higher_is_better)


def stock_samples(stock: dict[str, Any], task: str) -> Iterator[dict[str, Any]]:
    seen = set()
    for sample in stock["samples"][task]:
        if sample["doc_id"] not in seen:  # once more for every filter
            seen.add(sample["doc_id"])
            yield sample


@pytest.mark.parametrize("task", TASKS)
def test_requests_and_answers_are_those_of_stock_lm_eval(
    lab: Any, stock: dict[str, Any], model: Any, tokenizer: Any, task: str
) -> None:
    (loaded,) = load(Suite((), Split.REPORT, (str(lab.tasks),)), every=[task])
    arguments = [args for s in stock_samples(stock, task) for args in s["arguments"]]
    for request, args in zip(loaded.requests, arguments, strict=True):
        match request:
            case Continuation(context, continuation):
                assert (context, continuation) == args
            case Text(text):
                assert (text,) == args
            case Prompt(context, until, _):
                assert context == args[0]
                assert list(until) == args[1]["until"]
    answers = [resps[0] for s in stock_samples(stock, task) for resps in s["resps"]]
    as_ours = [Answer(*a) if isinstance(a, tuple) else a for a in answers]
    assert_same(our_answers(model, tokenizer, loaded.requests), as_ours)


def test_every_metric_of_every_task_has_stock_lm_evals_value(
    stock: dict[str, Any], ours: tuple[Scores, dict[str, bool]]
) -> None:
    scores, higher = ours
    compared = 0
    for task in TASKS:
        for metric, value in stock["results"][task].items():
            if not isinstance(value, float) or "_stderr" in metric:
                continue
            key = f"{task}/{metric}"
            mine = scores[key].value if higher[key] else -scores[key].value
            if "acc" in metric or "exact" in metric:
                assert mine == value, key
            else:
                assert mine == pytest.approx(value, rel=NOISE), key
            compared += 1
    assert compared == len(scores) == 17


def test_examples_are_those_that_stock_lm_eval_logs(
    stock: dict[str, Any], ours: tuple[Scores, dict[str, bool]]
) -> None:
    for name in ("strict-match", "flexible-extract"):
        logged = [
            sample["exact_match"]
            for sample in stock["samples"]["t_filters"]
            if sample["filter"] == name
        ]
        assert list(ours[0][f"t_filters/exact_match,{name}"].examples) == logged
    bits = [
        sample["bits_per_byte"][0] / sample["bits_per_byte"][1] / math.log(2)
        for sample in stock_samples(stock, "t_text")
    ]
    found = ours[0]["t_text/bits_per_byte,none"].examples
    np.testing.assert_allclose(found, bits, rtol=NOISE)


def test_accuracies_have_the_standard_error_of_a_mean(
    ours: tuple[Scores, dict[str, bool]],
) -> None:
    score = ours[0]["t_letters/acc,none"]
    expected = np.std(score.examples, ddof=1) / math.sqrt(33)
    assert 0 < score.value < 1
    assert score.stderr == pytest.approx(expected)
    assert math.isnan(ours[0]["t_text/bits_per_byte,none"].stderr)
