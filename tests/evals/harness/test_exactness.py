"""What we say of a model is what stock lm-eval says: examples, answers, metrics, aggregates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.harness import Report, load
from evals.playground import Playground
from evals.requests import Answer
from evals.score import report_folder
from evals.suite import Suite
from search.outcome import Scores
from search.spec import Evaluation, Objective
from tests.evals.harness import matrix

# Log-likelihoods in float32, whose sums are taken in another order.
NOISE = 1e-4
RESAMPLES = 20
NAMES = [*matrix.TASKS, "f_python"]
EVALUATIONS = {
    "as written": {},
    "told": {"system_instruction": "Be brief.", "num_fewshot": 1},
    "in turns": {"apply_chat_template": True, "num_fewshot": 2, "system_instruction": "Be kind."},
    "in one turn": {"apply_chat_template": True, "fewshot_as_multiturn": False},
}


@dataclass(frozen=True)
class Bench:
    """A model folder, tasks, and both ways to score them."""

    model: Path
    tasks: Path

    def stock(
        self,
        names: Sequence[str],
        evaluation: Evaluation,
        limit: float | None = None,
        dtype: str = "float32",
    ) -> dict[str, Any]:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        found: dict[str, Any] = lm_eval.simple_evaluate(
            model=HFLM(pretrained=str(self.model), device="cpu", dtype=dtype, batch_size=1),
            tasks=list(names),
            task_manager=TaskManager(include_path=str(self.tasks), include_defaults=False),
            num_fewshot=evaluation.num_fewshot,
            limit=limit,
            bootstrap_iters=RESAMPLES,
            system_instruction=evaluation.system_instruction,
            apply_chat_template=evaluation.apply_chat_template,
            fewshot_as_multiturn=evaluation.as_turns,
        )
        return found

    def ours(
        self,
        names: Sequence[str],
        evaluation: Evaluation,
        limit: float | None = None,
        dtype: str = "float32",
    ) -> Report:
        suite = Suite(
            (),
            None,
            (str(self.tasks),),
            limit,
            trusted=(str(self.tasks / "python"),),
            evaluation=evaluation,
        )
        return report_folder(self.model, names, suite, dtype, resamples=RESAMPLES)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Bench:
    import shutil

    import datasets
    from transformers import AutoTokenizer

    root = tmp_path_factory.mktemp("exactness")
    datasets.config.HF_DATASETS_CACHE = root / "cache"
    (root / "tasks").mkdir()
    shutil.copytree(model_folder, root / "model")
    tokenizer = AutoTokenizer.from_pretrained(root / "model")
    tokenizer.chat_template = matrix.CHAT_TEMPLATE
    tokenizer.save_pretrained(root / "model")
    return Bench(root / "model", matrix.write(root / "tasks"))


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISABLE_MULTIPROC", "1")  # lm-eval resamples in a pool otherwise


def assert_alike(mine: Any, theirs: Any, where: str) -> None:
    """Equal, and floats that are no counts within the noise."""
    match theirs:
        case dict():
            assert isinstance(mine, Mapping), where
            assert set(mine) == set(theirs), where
            for key, value in theirs.items():
                assert_alike(mine[key], value, f"{where}.{key}")
        case list() | tuple() | np.ndarray():
            assert len(mine) == len(theirs), where
            for index, value in enumerate(theirs):
                assert_alike(mine[index], value, f"{where}[{index}]")
        case float() | np.floating() if theirs not in (0, 1):
            assert mine == pytest.approx(theirs, rel=NOISE, abs=NOISE, nan_ok=True), where
        case _:
            assert mine == theirs, where


def assert_same(ours: Report, stock: Mapping[str, Any]) -> None:
    for key in ("results", "groups", "group_subtasks", "versions", "n-shot", "higher_is_better"):
        assert_alike(ours.results.get(key), stock.get(key), key)
    assert_alike(ours.results["n-samples"], stock["n-samples"], "n-samples")
    assert ours.samples.keys() == stock["samples"].keys()
    for task, samples in stock["samples"].items():
        assert_alike(list(ours.samples[task]), samples, task)


@pytest.mark.parametrize("settings", EVALUATIONS)
def test_every_kind_of_task_is_scored_as_stock_lm_eval_scores_it(
    bench: Bench, settings: str
) -> None:
    evaluation = Evaluation.model_validate(EVALUATIONS[settings])
    stock = bench.stock(NAMES, evaluation)
    assert_same(bench.ours(NAMES, evaluation), stock)


def test_in_bfloat16_log_likelihoods_are_within_its_resolution(bench: Bench) -> None:
    """A number has 8 bits there: 2 % of a log-likelihood and 0.1 nats, for one more rounding."""
    names = ["m_every_metric", "m_one_token", "l_last_word", "r_texts"]
    stock = bench.stock(names, Evaluation(), dtype="bfloat16")
    ours = bench.ours(names, Evaluation(), dtype="bfloat16")
    compared = 0
    for name in names:
        for mine, theirs in zip(ours.samples[name], stock["samples"][name], strict=True):
            pairs = zip(mine["resps"], theirs["resps"], strict=True)
            for found, expected in map(_likelihoods, pairs):
                assert found == pytest.approx(expected, rel=0.02, abs=0.1), name
                compared += 1
    assert compared == 6 * (4 + 4 + 4 + 1 + 1)  # four more without the context


def _likelihoods(pair: tuple[Any, Any]) -> list[float]:
    return [answer[0] if isinstance(answer, tuple) else answer for (answer,) in pair]


@pytest.mark.parametrize("limit", [None, 3, 0.4])
def test_groups_and_tags_are_put_together_and_averaged_as_by_stock_lm_eval(
    bench: Bench, limit: float | None
) -> None:
    names = ["all_by_size", "no_average"]
    stock = bench.stock(names, Evaluation(), limit)
    ours = bench.ours(names, Evaluation(), limit)
    assert_same(ours, stock)
    assert ours.results["group_subtasks"]["some_alike"] == [
        "m_tagged_1",
        "m_tagged_2",
        "some_alike::inner",
    ]
    assert set(ours.results["groups"]) == {"all_by_size", "some_alike"}


def test_a_tag_is_its_tasks(bench: Bench) -> None:
    assert_same(bench.ours(["m_tagged"], Evaluation()), bench.stock(["m_tagged"], Evaluation()))


def test_tables_are_those_that_stock_lm_eval_prints(bench: Bench) -> None:
    from lm_eval.utils import make_table

    names = ["all_by_size", "w_filters", "m_never_shots"]
    stock = bench.stock(names, Evaluation(num_fewshot=1))
    found = bench.ours(names, Evaluation(num_fewshot=1)).table
    assert found == make_table(stock) + "\n" + make_table(stock, "groups")


def test_the_comparison_notices_another_example(bench: Bench) -> None:
    ours = bench.ours(["m_described"], Evaluation(num_fewshot=1))
    with pytest.raises(AssertionError):
        assert_same(ours, bench.stock(["m_described"], Evaluation()))


def objectives(bench: Bench, *keys: str) -> tuple[Scores, Report]:
    """What an optimizer is told of all examples, and the report of the same."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    from evals.evaluator import Evaluator

    wanted = tuple(Objective(task=k.split("/")[0], metric=k.split("/")[1]) for k in keys)
    suite = Suite(wanted, None, (str(bench.tasks),), trusted=(str(bench.tasks / "python"),))
    model = LlamaForCausalLM.from_pretrained(bench.model, dtype="float32")
    scores = Evaluator(model, AutoTokenizer.from_pretrained(bench.model), suite).score()
    return scores, bench.ours([objective.task for objective in wanted], Evaluation())


def test_scores_of_objectives_are_the_reports(bench: Bench) -> None:
    keys = [
        "m_every_metric/acc_norm,none",
        "w_filters/exact_match,flexible-extract",
        "m_two_choices/mcc,none",
        "all_by_size/acc,none",
        "some_alike/acc,none",
        "f_python/starts,reversed",
    ]
    scores, report = objectives(bench, *keys)
    for key in keys:
        task, metric = key.split("/")
        row = report.results["results"][task]
        assert scores[key].value == pytest.approx(row[metric], abs=1e-12), key
        stderr = row[metric.replace(",", "_stderr,")]
        if "mcc" not in metric:  # resampled less often for an optimizer
            assert scores[key].stderr == pytest.approx(stderr), key
        if "mcc" not in metric and task != "some_alike":
            assert scores[key].value == pytest.approx(scores[key].examples.mean())


def test_examples_of_tasks_that_count_alike_are_scaled_to_their_groups_mean(bench: Bench) -> None:
    scores, report = objectives(bench, "some_alike/acc", "m_few/acc")
    group = scores["some_alike/acc"]
    assert group.count == 18  # three tasks of six
    assert group.value == pytest.approx(group.examples.mean())
    values = [report.results["results"][t]["acc,none"] for t in ("m_tagged_1", "m_tagged_2")]
    inner = report.results["results"]["m_one_token"]["acc,none"]
    assert group.value == pytest.approx(np.mean([*values, inner]))


def test_a_metric_that_is_smaller_when_better_is_negated_for_python_too(bench: Bench) -> None:
    scores, report = objectives(bench, "f_python/length")
    total = report.results["results"]["f_python"]["length,reversed"]
    assert scores["f_python/length"].value == -total
    assert total > 0


@pytest.mark.parametrize("name", [name for name in matrix.TASKS if name.startswith("m_")])
def test_accuracies_of_all_examples_at_once_are_those_of_one_after_the_other(
    bench: Bench, tokenizer: Any, name: str
) -> None:
    rng = np.random.default_rng(5)
    (task,) = load(Suite((), None, (str(bench.tasks),)), tokenizer, names=[name]).tasks
    metrics = [m for m in ("acc", "acc_norm", "acc_bytes") if m in task.metrics]
    for _ in range(20):
        # Few different values: the first of several best choices counts.
        likelihoods = rng.integers(-6, 0, len(task.requests)) / 2
        answers: list[Any] = [Answer(value, greedy=False) for value in likelihoods.tolist()]
        found = task.measure(answers, metrics)
        task.answer(answers)
        results = task.results("none")
        for metric in metrics:
            assert found[metric].examples.tolist() == [result[metric] for result in results]


@pytest.mark.playground
@pytest.mark.xdist_group("playground")  # trained once
def test_the_playground_is_scored_as_stock_lm_eval_scores_it(trained: Playground) -> None:
    names = ["nm_arith", "nm_string", "nm_facts", "nm_text"]
    for model in (trained.base, trained.parents["string"]):
        playground = Bench(model, trained.tasks)
        ours = playground.ours(names, Evaluation(), limit=40)
        assert_same(ours, playground.stock(names, Evaluation(), limit=40))
        assert ours.results["n-samples"]["nm_string"]["effective"] == 40
