"""Tasks, groups and tags are found by name, and put together before any of their Python runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evals import harness
from evals.harness import Library
from evals.requests import Answer
from evals.suite import Split, Suite
from evals.task_files import Group, TaskFile
from search.problems import Invalid
from search.spec import Evaluation, Objective

# No task here asks for a chat template.
ANY: Any = None


def write(folder: Path, name: str, **config: Any) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def group(folder: Path, name: str) -> Group:
    found = Library([folder]).find(name)
    assert isinstance(found, Group)
    return found


def shots(item: TaskFile | Group) -> dict[str, int | None]:
    return {leaf.name: leaf.config.num_fewshot for leaf in item.leaves}


def complaint(act: Callable[[], object]) -> str:
    with pytest.raises(Invalid) as caught:
        act()
    return " ".join(f"{problem.field} {problem.message}" for problem in caught.value.problems)


@pytest.fixture
def folder(add_task: Callable[..., Path]) -> Path:
    """Two tasks of one tag."""
    add_task("t_one", tag="t_tag", num_fewshot=4)
    return add_task("t_two", tag="t_tag")


def test_a_group_overrides_its_tasks_and_is_overridden_from_above(folder: Path) -> None:
    write(folder, "inner", group="inner", task=["t_one", {"task": "t_two", "num_fewshot": 3}])
    write(folder, "outer", group="outer", task=["inner"], num_fewshot=2)
    assert shots(group(folder, "inner")) == {"t_one": 4, "t_two": 3}
    # An entry of a list counts for more than what comes from above, a file for less.
    assert shots(group(folder, "outer")) == {"t_one": 2, "t_two": 3}


def test_a_group_of_one_name_instead_of_a_list_has_that_task(folder: Path) -> None:
    write(folder, "single", group="single", task="t_one")
    assert shots(group(folder, "single")) == {"t_one": 4}


def test_a_task_named_twice_in_a_group_counts_once(folder: Path) -> None:
    task = [{"task": "t_one", "num_fewshot": 1}, "t_two", "t_tag"]
    write(folder, "twice", group="twice", task=task)
    assert [leaf.name for leaf in group(folder, "twice").leaves] == ["t_one", "t_two"]
    assert shots(group(folder, "twice"))["t_one"] == 4


def test_a_group_named_as_a_task_with_overrides_keeps_its_tasks_apart(folder: Path) -> None:
    """Stock lm-eval gives them all the group's name, and scores the last."""
    from lm_eval.tasks import TaskManager

    write(folder, "inner", group="inner", task=["t_one", "t_two"])
    write(folder, "outer", group="outer", task=[{"task": "inner", "num_fewshot": 1}])
    assert shots(group(folder, "outer")) == {"t_one": 1, "t_two": 1}
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    assert list(manager.load(["outer"])["tasks"]) == ["inner"]


def test_shots_of_an_evaluation_count_except_where_a_file_says_none(folder: Path) -> None:
    write(folder, "never", **{**dict(Library([folder]).find("t_one").raw), "task": "t_never"})  # type: ignore[union-attr]  # a task
    text = (folder / "never.yaml").read_text().replace("num_fewshot: 4", "num_fewshot: 0")
    (folder / "never.yaml").write_text(text)
    library = Library([folder], evaluation=Evaluation(num_fewshot=1))
    assert [shots(library.find(name)) for name in ("t_one", "t_two", "t_never")] == [
        {"t_one": 1},
        {"t_two": 1},
        {"t_never": 0},
    ]


def test_the_groups_of_lm_eval_are_found_with_their_tasks(folder: Path) -> None:
    found = group(folder, "mmlu")
    assert len(found.leaves) == 57
    assert [member.name for member in found.members] == [
        "mmlu_stem",
        "mmlu_other",
        "mmlu_social_sciences",
        "mmlu_humanities",
    ]
    objectives = [Objective(task="mmlu", metric="acc")]
    assert harness.directions(objectives, Library([folder])) == {"mmlu/acc": True}


def test_what_has_no_score_is_no_objective(folder: Path) -> None:
    write(folder, "bare", group="bare", task=["t_one", "t_two"])
    objectives = [Objective(task=name, metric="acc") for name in ("t_tag", "bare")]
    tag, bare = harness.check(objectives, Library([folder]))
    assert "is a tag, which has no score; name one of its tasks: t_one, t_two" in tag.message
    assert "group 'bare' averages no metric of its tasks" in bare.message


def test_a_group_lists_only_metrics_that_all_its_tasks_mean_alike(
    folder: Path, add_task: Callable[..., Path]
) -> None:
    add_task("t_odd", metric_list=[{"metric": "acc", "higher_is_better": False}])
    average = [{"metric": "acc"}, {"metric": "acc_norm"}]
    write(folder, "mixed", group="mixed", task=["t_one", "t_odd"], aggregate_metric_list=average)
    info = {info.name: info for info in harness.catalogue(Library([folder]))}["mixed"]
    assert (info.output_type, dict(info.metrics)) == ("group", {"acc_norm": True})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"task": ["t_on"]}, "unknown task 't_on'; did you mean 't_one'?"),
        ({"task": []}, "names no task"),
        ({"task": [{"num_fewshot": 2}]}, "every entry is a name, or a mapping"),
        ({"task": ["g"]}, "is a group within itself"),
        ({"task": ["arc_easy"], "metadata": 1, "unsafe_code": True}, "unsafe_code must not be"),
        (
            {"task": [{"task": "arc_easy", "process_docs": "os.system"}]},
            "process_docs must not be changed in a task that brings Python",
        ),
        (
            {"task": ["t_one"], "aggregate_metric_list": [{"metric": "acc", "aggregation": "max"}]},
            "lm-eval averages groups with mean",
        ),
    ],
)
def test_what_is_wrong_with_a_group_is_named(
    folder: Path, config: dict[str, Any], expected: str
) -> None:
    write(folder, "g", group="g", **config)
    assert expected in complaint(lambda: Library([folder]).find("g"))


def test_a_task_asked_in_two_ways_at_once_is_a_problem(folder: Path) -> None:
    write(folder, "g", group="g", task=["t_one"], num_fewshot=1)
    suite = Suite((), Split.SEARCH, (str(folder),))
    message = complaint(lambda: harness.load(suite, ANY, names=["g", "t_one"]))
    assert message.startswith("t_one is asked in two ways")
    assert len(harness.load(suite, ANY, names=["t_tag", "t_one"]).tasks) == 2


def test_python_runs_only_from_trusted_folders_and_those_below(
    folder: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    (folder / "own.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\ndef same(documents):\n"
        "    return documents\n"
    )
    path = folder / "t_two.yaml"
    path.write_text(path.read_text() + "process_docs: !function own.same\n")
    message = complaint(lambda: Library([folder]).find("t_two"))
    assert "process_docs is Python (!function own.same), which only the task folders" in message
    suite = Suite((), Split.SEARCH, (str(folder),), trusted=(str(folder.parent),))
    assert isinstance(Library.of(suite).find("t_two"), TaskFile)
    assert not marker.exists()
    assert harness.load(suite, ANY, names=["t_two"]).tasks
    assert marker.exists()


def test_a_function_written_as_a_mapping_is_never_followed(folder: Path) -> None:
    disguise = {"reference": "os.getcwd", "folder": "/"}
    average = [{"metric": "acc", "aggregation": disguise}]
    write(folder, "g", group="g", task=["t_one"], aggregate_metric_list=average)
    suite = Suite((), Split.SEARCH, (str(folder),), limit=1)
    loaded = harness.load(suite, ANY, names=["g"])
    answers: Any = [Answer(-1.0, greedy=False)] * len(loaded.requests)
    assert "g" in harness.report(loaded, answers, resamples=0).results["groups"]


def test_a_chat_template_that_a_tokenizer_lacks_is_a_problem(folder: Path, tokenizer: Any) -> None:
    suite = Suite((), Split.SEARCH, (str(folder),), evaluation=Evaluation(apply_chat_template=True))
    message = complaint(lambda: harness.load(suite, tokenizer, names=["t_two"]))
    assert "evaluation.apply_chat_template the model's tokenizer has no chat template" in message
