"""What we say of a model is what stock lm-eval says: examples, answers, metrics, aggregates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.harness import Report
from evals.score import report_folder
from evals.suite import Suite
from search.spec import Evaluation
from tests.evals.harness import matrix

# Log-likelihoods in float32, whose sums are taken in another order.
NOISE = 1e-4
RESAMPLES = 200
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
        self, names: Sequence[str], evaluation: Evaluation, limit: float | None = None
    ) -> dict[str, Any]:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        found: dict[str, Any] = lm_eval.simple_evaluate(
            model=HFLM(pretrained=str(self.model), device="cpu", dtype="float32", batch_size=1),
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
        self, names: Sequence[str], evaluation: Evaluation, limit: float | None = None
    ) -> Report:
        suite = Suite(
            (),
            None,
            (str(self.tasks),),
            limit,
            trusted=(str(self.tasks / "python"),),
            evaluation=evaluation,
        )
        return report_folder(self.model, names, suite, "float32", resamples=RESAMPLES)


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
