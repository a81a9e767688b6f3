"""How differently a model goes on than a reference, beside the same computed in plain torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from evals import harness
from evals.evaluator import Evaluator
from evals.requests import Continuation, Divergence, Text
from evals.suite import Split, Suite
from search.problems import Invalid
from search.spec import Objective

KEYS = ("t_text/kl_to_base", "t_choice/kl_to_base", "t_write/kl_to_base")


def suite(lab: Any, *keys: str, split: Split | None = Split.SEARCH) -> Suite:
    objectives = tuple(Objective(task=k.split("/")[0], metric=k.split("/")[1]) for k in keys)
    return Suite(objectives, split, (str(lab.tasks),))


def change(model: Any, seed: int = 0) -> None:
    """Make the model another one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.05)


def log_probabilities(model: Any, tokens: list[int]) -> Tensor:
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)


def divergence(theirs: Tensor, ours: Tensor) -> float:
    return float((theirs.exp() * (theirs - ours)).sum(-1).mean())


@pytest.fixture
def reference(model_folder: Path) -> Any:
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(model_folder, dtype="float32")


def learned(model: Any, tokenizer: Any, asked: Suite) -> Evaluator:
    """Compares with the model as it is now."""
    evaluator = Evaluator(model, tokenizer, asked)
    for name in evaluator.references:
        evaluator.learn(name)
    return evaluator


def test_a_model_does_not_differ_from_itself(lab: Any, model: Any, tokenizer: Any) -> None:
    scores = learned(model, tokenizer, suite(lab, *KEYS)).score()
    for key in KEYS:
        assert scores[key].value == pytest.approx(0, abs=1e-6)
        assert (scores[key].examples <= 0).all(), "less is better, and nothing is less than 0"


def test_of_texts_it_is_the_mean_over_their_first_tokens(
    lab: Any, model: Any, reference: Any, tokenizer: Any
) -> None:
    asked = suite(lab, KEYS[0])
    evaluator = learned(model, tokenizer, asked)
    change(model)
    score = evaluator.score()[KEYS[0]]
    requests = harness.load(asked, tokenizer).requests
    texts = [request.text for request in requests if isinstance(request, Text)]
    expected = []
    for text in texts:
        tokens = tokenizer(text).input_ids  # a start token comes before all, as for likelihoods
        parts = []
        for before, window in harness.rolling_windows(tokens, 0, 96):
            read = [*before, *window][:-1]
            both = [log_probabilities(one, read)[-len(window) :] for one in (reference, model)]
            parts.append((divergence(*both), len(window)))
        expected.append(sum(d * n for d, n in parts) / sum(n for _, n in parts))
    np.testing.assert_allclose(-score.examples, expected, rtol=1e-3)
    assert score.value == pytest.approx(-np.mean(expected), rel=1e-4)
    assert score.stderr == pytest.approx(np.std(expected, ddof=1) / len(texts) ** 0.5, rel=1e-3)
    assert min(expected) > 0.01, "control: the models do differ"


def test_of_questions_it_is_what_comes_after_them(
    lab: Any, model: Any, reference: Any, tokenizer: Any
) -> None:
    asked = suite(lab, "t_choice/kl_to_base", "t_choice/acc")
    evaluator = learned(model, tokenizer, asked)
    change(model)
    scores = evaluator.score()
    requests = harness.load(asked, tokenizer).requests
    questions = list(
        dict.fromkeys(r.context for r in requests if isinstance(r, Continuation) and r.context)
    )
    expected = []
    for question in questions:
        tokens = tokenizer(question.rstrip()).input_ids
        both = [log_probabilities(one, tokens)[-1:] for one in (reference, model)]
        expected.append(divergence(*both))
    np.testing.assert_allclose(-scores["t_choice/kl_to_base"].examples, expected, rtol=1e-3)
    plain = Evaluator(model, tokenizer, suite(lab, "t_choice/acc")).score()
    assert scores["t_choice/acc"] == plain["t_choice/acc"], "others are what they were"


def test_each_reference_has_a_divergence_of_its_own(lab: Any, model: Any, tokenizer: Any) -> None:
    keys = ("t_text/kl_to_base", "t_text/kl_to_math-7b")
    evaluator = Evaluator(model, tokenizer, suite(lab, *keys))
    assert evaluator.references == ("base", "math-7b")
    evaluator.learn("base")
    change(model)
    evaluator.learn("math-7b")
    scores = evaluator.score()
    assert scores[keys[0]].value < -0.01
    assert scores[keys[1]].value == pytest.approx(0, abs=1e-6)


def test_it_does_not_depend_on_batches_and_divides_as_its_task_does(
    lab: Any, model: Any, tokenizer: Any
) -> None:
    counts = []
    for split in Split:
        evaluator = learned(model, tokenizer, suite(lab, *KEYS, split=split))
        change(model, seed=1)
        together, alone = evaluator.score(), evaluator.score_alone()
        for key in KEYS:
            one, other = together[key], alone[key]
            np.testing.assert_allclose(one.examples, other.examples, rtol=1e-3, atol=1e-6)
            assert one.split is split
        counts.append(together[KEYS[0]].count)
    assert counts == [21, 9, 33]


def test_long_texts_are_compared_as_far_as_there_is_room(
    lab: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first() -> set[int | None]:
        requests = harness.load(suite(lab, KEYS[0]), tokenizer).requests
        return {request.first for request in requests if isinstance(request, Divergence)}

    assert first() == {256}
    monkeypatch.setattr("evals.harness.task._REMEMBERED", 21 * len(tokenizer) * 40)
    assert first() == {40}


def test_it_can_race(lab: Any, tokenizer: Any) -> None:
    asked = suite(lab, *KEYS)
    loaded = harness.load(asked, tokenizer)
    assert all(map(loaded.follows_its_examples, asked.objectives))


def test_without_another_model_something_else_is_asked_of_the_same_task(lab: Any) -> None:
    asked = suite(lab, *KEYS, "t_choice/acc", "weights/sparsity")
    keys = [objective.key for objective in harness.standing_alone(asked)]
    assert keys == ["t_text/bits_per_byte", "t_choice/acc", "t_write/exact_match"]


def test_less_is_better_and_a_wrong_metric_is_still_explained(lab: Any, tokenizer: Any) -> None:
    library = harness.Library([lab.tasks])
    objectives = suite(lab, KEYS[0]).objectives
    assert harness.directions(objectives, library) == {KEYS[0]: False}
    assert harness.references(objectives) == {"objectives[0].metric": "base"}
    with pytest.raises(Invalid, match="no metric 'kl_to_'"):
        harness.load(suite(lab, "t_text/kl_to_"), tokenizer)
