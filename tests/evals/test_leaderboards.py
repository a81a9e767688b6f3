from pathlib import Path

import pytest

from evals import harness
from evals.harness import Library
from evals.leaderboards import ranked_by
from evals.task_files import TaskConfig
from search.spec import Objective


@pytest.mark.parametrize(
    "task",
    [
        "mmlu",
        "mmlu_anatomy",
        "gsm8k",
        "hellaswag",
        "arc_challenge",
        "truthfulqa_mc1",
        "winogrande",
        "leaderboard_bbh_navigate",
        "leaderboard_gpqa_main",
        "leaderboard_musr_team_allocation",
        "leaderboard_mmlu_pro",
        "leaderboard_math_algebra_hard",
        "leaderboard_ifeval",
    ],
)
def test_the_test_sets_of_leaderboards_are_known_by_lm_evals_own_files(task: str) -> None:
    ((field, message),) = (
        (problem.field, problem.message)
        for problem in harness.leaderboards([Objective(task=task, metric="acc")], Library([]))
    )
    assert field == "objectives[0].task"
    assert "ranks models by" in message
    assert "allow_leaderboards: true" in message


def test_mmlu_is_known_by_its_dataset_whatever_the_task_is_called() -> None:
    for dataset in ("cais/mmlu", "hails/mmlu_no_train", "my-copy/MMLU"):
        assert ranked_by(TaskConfig(task="mine", dataset_path=dataset, test_split="test"))
        assert not ranked_by(TaskConfig(task="mine", dataset_path=dataset, test_split="auxiliary"))


def test_other_tasks_are_not(tmp_path: Path) -> None:
    objectives = [Objective(task=name, metric="acc") for name in ("sciq", "piqa", "unheard_of")]
    assert harness.leaderboards(objectives, Library([tmp_path])) == []


def test_to_search_on_the_training_set_and_report_on_the_test_set_is_fine() -> None:
    file = {
        "task": "mine",
        "dataset_path": "someone/GSM8K",
        "training_split": "train",
        "validation_split": "mine",
        "test_split": "test",
    }
    splits = {"search": "training", "select": "validation", "report": "test"}
    assert ranked_by(TaskConfig(**file)) is not None
    assert ranked_by(TaskConfig(**file, metadata={"splits": splits})) is None
    swapped = splits | {"select": "test", "report": "validation"}
    assert ranked_by(TaskConfig(**file, metadata={"splits": swapped})) is not None
