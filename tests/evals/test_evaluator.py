"""One evaluator scores whatever its model has become."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from evals import harness
from evals.engine import Engine
from evals.evaluator import Evaluator
from evals.requests import Continuation, Prompt, Request, Text, Unscorable
from evals.suite import Split, Suite
from search.outcome import Score
from search.problems import Invalid
from search.racing import Belief, Course, Incumbent, Race
from search.spec import Objective

KEYS = ("t_choice/acc", "t_text/bits_per_byte", "t_filters/exact_match,flexible-extract")


def suite(lab: Any, *keys: str, split: Split = Split.SEARCH, limit: int | None = None) -> Suite:
    objectives = tuple(Objective(task=k.split("/")[0], metric=k.split("/")[1]) for k in keys)
    return Suite(objectives, split, (str(lab.tasks),), limit)


def mixed() -> list[Request]:
    return [
        *(Continuation("a" * n, f" {c}") for n in (3, 30, 60) for c in ("b", "cd", "the")),
        *(Text("the cab " * n) for n in (1, 20)),
        *(Prompt("b" * n, ("e",), 8) for n in (2, 5, 40)),
    ]


def test_scores_are_keyed_by_objective_with_one_value_per_example(
    lab: Any, model: Any, tokenizer: Any
) -> None:
    evaluator = Evaluator(model, tokenizer, suite(lab, *KEYS))
    scores = evaluator.score()
    assert tuple(scores) == KEYS
    for score in scores.values():
        assert isinstance(score, Score)
        assert (score.count, score.examples.shape) == (21, (21,))
        assert score.examples.dtype == np.float32
    assert scores[KEYS[0]].value == pytest.approx(scores[KEYS[0]].examples.mean())
    assert evaluator.forward_s > 0


def test_a_minimized_metric_is_flipped(lab: Any, model: Any, tokenizer: Any) -> None:
    evaluator = Evaluator(model, tokenizer, suite(lab, *KEYS))
    score = evaluator.score()["t_text/bits_per_byte"]
    assert score.value < 0
    assert (score.examples < 0).all()
    assert not evaluator.higher_is_better["t_text/bits_per_byte"]


def test_perplexity_examples_are_log_likelihoods(lab: Any, model: Any, tokenizer: Any) -> None:
    score = Evaluator(model, tokenizer, suite(lab, "t_continue/perplexity")).score()
    (perplexity,) = score.values()
    expected = -math.exp(-perplexity.examples.astype(float).mean())
    assert perplexity.value == pytest.approx(expected, rel=1e-5)
    assert perplexity.stderr > 0


def test_the_length_of_answers_is_a_metric_of_every_task_that_has_them_written(
    lab: Any, model: Any, tokenizer: Any
) -> None:
    asked = suite(lab, "t_filters/output_tokens", "t_filters/exact_match,flexible-extract")
    evaluator = Evaluator(model, tokenizer, asked)
    score = evaluator.score()["t_filters/output_tokens"]
    requests = harness.load(asked, tokenizer).requests
    engine = Engine(model, tokenizer, "cpu")
    answers = engine.run(engine.prepare(requests))
    tokens = [len(tokenizer(answer, add_special_tokens=False).input_ids) for answer in answers]
    assert len(set(tokens)) > 1
    assert score.examples.tolist() == [-float(count) for count in tokens], "fewer are better"
    assert score.value == pytest.approx(-np.mean(tokens))
    assert score.stderr == pytest.approx(np.std(tokens, ddof=1) / math.sqrt(len(tokens)))
    assert not evaluator.higher_is_better["t_filters/output_tokens"]


def test_choices_have_no_length(lab: Any, model: Any, tokenizer: Any) -> None:
    with pytest.raises(Invalid, match="task 't_choice' has no metric 'output_tokens'"):
        Evaluator(model, tokenizer, suite(lab, "t_choice/output_tokens"))


def test_weights_written_over_are_seen_and_nothing_is_remembered(
    lab: Any, model: Any, tokenizer: Any
) -> None:
    evaluator = Evaluator(model, tokenizer, suite(lab, *KEYS))
    before = evaluator.score()
    weight = model.model.layers[0].self_attn.q_proj.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.copy_(kept.flip(0) * 3)
    changed = evaluator.score()
    assert changed == Evaluator(model, tokenizer, suite(lab, *KEYS)).score()
    assert changed["t_text/bits_per_byte"] != before["t_text/bits_per_byte"]
    with torch.no_grad():
        weight.copy_(kept)
    assert evaluator.score() == before


def test_splits_are_scored_apart(lab: Any, model: Any, tokenizer: Any) -> None:
    counts = [
        Evaluator(model, tokenizer, suite(lab, *KEYS[:1], split=s)).score()[KEYS[0]].count
        for s in Split
    ]
    assert counts == [21, 9, 33]


def test_a_limit_scores_the_first_examples(lab: Any, model: Any, tokenizer: Any) -> None:
    whole = Evaluator(model, tokenizer, suite(lab, *KEYS)).score()
    few = Evaluator(model, tokenizer, suite(lab, *KEYS, limit=4)).score()
    for key in KEYS:
        np.testing.assert_allclose(few[key].examples, whole[key].examples[:4], rtol=1e-4)


@pytest.mark.parametrize("key", ["t_choice/acc", "t_text/bits_per_byte", "t_write/exact_match"])
@pytest.mark.parametrize("penalty", [None, 1.5])
def test_a_model_that_says_nothing_is_unscorable(
    lab: Any, model: Any, tokenizer: Any, key: str, penalty: float | None
) -> None:
    evaluator = Evaluator(model, tokenizer, suite(lab, key))
    model.generation_config.repetition_penalty = penalty
    evaluator.score()
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    with pytest.raises(Unscorable, match="not finite"):
        evaluator.score()


def test_a_score_beyond_all_numbers_is_unscorable(lab: Any, model: Any, tokenizer: Any) -> None:
    evaluator = Evaluator(model, tokenizer, suite(lab, "t_continue/perplexity"))
    with torch.no_grad():
        model.model.norm.weight.mul_(1e4)
    with pytest.raises(Unscorable, match=r"t_continue/perplexity is not finite \(inf\)"):
        evaluator.score()


def test_all_problems_of_a_suite_come_together(lab: Any, model: Any, tokenizer: Any) -> None:
    with pytest.raises(Invalid) as caught:
        Evaluator(model, tokenizer, suite(lab, "t_choice/ac", "t_letter/acc"))
    assert len(caught.value.problems) >= 2


def test_requests_that_the_model_cannot_read_are_problems(model: Any, tokenizer: Any) -> None:
    engine = Engine(model, tokenizer)
    for request, expected in (
        (Continuation("a", "x" * 97), "97 tokens long"),
        (Continuation("a", ""), "0 tokens long"),
        (Continuation("c", "d"), "0 tokens long"),  # one token with the context
        (Prompt("a", ("b",), 96), "max_gen_toks"),
    ):
        with pytest.raises(Invalid, match=expected):
            engine.prepare([request])


def test_answers_do_not_depend_on_how_requests_are_batched(model: Any, tokenizer: Any) -> None:
    engine = Engine(model, tokenizer)
    together = engine.run(engine.prepare(mixed()))
    engine = Engine(model, tokenizer, token_limit=1)
    plan = engine.prepare(mixed())
    assert all(len(batch.rows) == 1 for batch in plan.batches)
    assert all(len(writing.prompts) == 1 for writing in plan.writings)
    for one, other in zip(engine.run(plan), together, strict=True):
        one, other = (getattr(a, "loglikelihood", a) for a in (one, other))
        assert one == (other if isinstance(one, str) else pytest.approx(other, abs=1e-4))


def test_batches_are_halved_when_memory_runs_out_and_stay_small(model: Any, tokenizer: Any) -> None:
    engine = Engine(model, tokenizer)
    requests = [request for request in mixed() if not isinstance(request, Prompt)]
    plenty = engine.run(engine.prepare(requests))
    plan = engine.prepare(requests)
    failures = []

    def only_two_rows(_: object, arguments: tuple[torch.Tensor, ...]) -> None:
        if len(arguments[0]) > 2:
            failures.append(len(arguments[0]))
            raise torch.OutOfMemoryError

    handle = model.register_forward_pre_hook(only_two_rows)
    scarce = [getattr(a, "loglikelihood", a) for a in engine.run(plan)]
    assert failures
    assert scarce == pytest.approx([getattr(a, "loglikelihood", a) for a in plenty], abs=1e-4)
    failures.clear()
    engine.run(plan)
    assert not failures
    handle.remove()
    model.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError))
    with pytest.raises(torch.OutOfMemoryError):
        engine.run(plan)


def test_answers_are_written_in_smaller_batches_when_memory_runs_out(
    model: Any, tokenizer: Any
) -> None:
    engine = Engine(model, tokenizer)
    requests = [Prompt(text, ("e",), 6) for text in ("ab", "cd", "abcd th", "er", "a", "b")]
    plenty = engine.run(engine.prepare(requests))
    plan = engine.prepare(requests)
    failures = []

    def only_two_rows(_: object, arguments: tuple[torch.Tensor, ...]) -> None:
        if len(arguments[0]) > 2:
            failures.append(len(arguments[0]))
            raise torch.OutOfMemoryError

    model.register_forward_pre_hook(only_two_rows)
    assert engine.run(plan) == plenty
    assert failures
    failures.clear()
    engine.run(plan)
    assert not failures


def test_only_scored_positions_reach_the_output_layer(model: Any, tokenizer: Any) -> None:
    seen = []
    model.lm_head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    engine = Engine(model, tokenizer)
    engine.run(engine.prepare([Continuation("a" * 50, " b"), Continuation("a" * 50, " c")]))
    # Both continuations are a space and a letter, and share their row.
    assert seen == [2]


def forty(folder: Path) -> Path:
    """A task with search examples enough for two rungs, 16 and 40."""
    rows = [{"question": "ab" * (n % 7 + 1), "answer": n % 2} for n in range(40)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    files = {str(split): str(folder / f"{split}.jsonl") for split in Split}
    for file in files.values():
        Path(file).write_text(lines)
    task = {
        "task": "forty",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "training_split": "search",
        "validation_split": "select",
        "test_split": "report",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": ["c", "d"],
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"splits": {"search": "training", "select": "validation", "report": "test"}},
    }
    (folder / "forty.yaml").write_text(yaml.safe_dump(task))
    return folder


def race(key: str, quality: float) -> Race:
    """Against one that is known to have this quality."""
    nothing, prior = np.zeros(40), Belief(0.5, 0.04)
    course = Course(((1.0, prior),), (prior,), 0.0, 0.25, nothing, nothing)
    return Race({key: course}, (Incumbent(0, {key: Belief(quality, 1e-6)}),), 0.05)


def test_a_candidate_that_is_behind_is_scored_on_the_first_rung_only(
    tmp_path: Path, model: Any, tokenizer: Any
) -> None:
    objective = Objective(task="forty", metric="acc")
    work = Suite((objective,), Split.SEARCH, (str(forty(tmp_path)),))
    evaluator = Evaluator(model, tokenizer, work)
    whole = evaluator.score()[objective.key]
    assert (whole.count, evaluator.left_early) == (40, False)
    kept_up = evaluator.score(race(objective.key, 0.0))[objective.key]
    assert not evaluator.left_early
    assert kept_up == whole, "a race that is not lost changes nothing"
    early = evaluator.score(race(objective.key, 1.0))[objective.key]
    assert evaluator.left_early
    assert (early.count, early.examples.shape) == (16, (16,))
    np.testing.assert_array_equal(early.examples, whole.examples[:16])
    assert evaluator.score()[objective.key] == whole


def test_the_first_examples_score_alike_whoever_has_scored_fewer_of_them(
    lab: Any, model: Any, tokenizer: Any
) -> None:
    """A task with 9 examples is whole before one with 12; groups and perplexities come along."""
    keys = (*KEYS, "t_continue/perplexity")
    work = suite(lab, *keys, split=Split.SELECT)
    remembering, forgetful = (Evaluator(model, tokenizer, work) for _ in range(2))
    whole = forgetful.score()
    for rungs in ((2,), (2, 4), (2, 4, 9)):
        found = remembering.score_first(rungs, of="one")
        assert found == forgetful.score_first(rungs, of=f"another {rungs}")
        assert {score.count for score in found.values()} == {rungs[-1]}
        for key, score in found.items():
            np.testing.assert_allclose(
                score.examples, whole[key].examples[: rungs[-1]], rtol=1e-4, atol=1e-5
            )
            assert score.split is Split.SELECT
    for key, score in found.items():
        assert score.value == pytest.approx(whole[key].value, rel=1e-4)


def test_who_comes_again_is_asked_only_what_is_new(
    lab: Any, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = Evaluator(model, tokenizer, suite(lab, KEYS[0], split=Split.SELECT))
    asked: list[int] = []
    run = Engine.run

    def counting(engine: Engine, plan: Any, stems: Any = None) -> Any:
        found = run(engine, plan, stems)
        asked.append(len(found) // 8)  # four choices, asked with and without their context
        return found

    monkeypatch.setattr(Engine, "run", counting)
    evaluator.score_first((2,), of="one")
    evaluator.score_first((2,), of="two")
    evaluator.score_first((2, 4), of="one")
    evaluator.score_first((2, 4, 9), of="three")
    assert asked == [2, 2, 2, 2, 2, 5]


def test_perplexities_do_not_race(lab: Any, tokenizer: Any) -> None:
    keys = {"t_choice/acc": True, "t_text/bits_per_byte": True, "t_continue/perplexity": False}
    work = suite(lab, *keys)
    loaded = harness.load(work, tokenizer)
    follows = [loaded.follows_its_examples(objective) for objective in work.objectives]
    assert follows == list(keys.values())
