"""Tasks are found, checked and divided before anything is scored."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import pytest

from evals import harness
from evals.requests import Continuation, Text
from evals.suite import Split, Suite
from evals.task_files import TaskFile
from evals.task_names import names_in
from search.problems import Invalid
from search.spec import Objective

# No task here asks for a chat template.
ANY: Any = None


def objective(key: str) -> Objective:
    task, metric = key.split("/")
    return Objective(task=task, metric=metric)


def complaints(folder: Path, *keys: str) -> list[str]:
    problems = harness.check([objective(key) for key in keys], harness.Library([folder]))
    return [f"{problem.field}: {problem.message}" for problem in problems]


def load(folder: Path, name: str, split: Split | None, limit: int | None = None) -> harness.Task:
    (task,) = harness.load(Suite((), split, (str(folder),), limit), ANY, names=[name]).tasks
    return task


def found(folder: Path, name: str) -> TaskFile:
    task_file = harness.Library([folder]).find(name)
    assert isinstance(task_file, TaskFile)
    return task_file


def contexts(task: harness.Task) -> list[str]:
    return [r.context for r in task.requests if isinstance(r, Continuation)]


def test_the_catalogue_lists_tasks_with_metrics_directions_and_counts(lab: Any) -> None:
    infos = {info.name: info for info in harness.catalogue(harness.Library([lab.tasks]))}
    assert infos["t_text"].metrics == {"bits_per_byte": False, "word_perplexity": False}
    assert infos["t_text"].output_type == "loglikelihood_rolling"
    assert infos["t_text"].examples == {"search": 21, "select": 9, "report": 33}
    assert infos["t_letters"].metrics == {"acc": True, "acc_norm": True}  # lm-eval's defaults
    assert list(infos["t_filters"].metrics) == [
        "exact_match,strict-match",
        "exact_match,flexible-extract",
        "output_tokens",
    ]


def test_examples_are_counted_once_a_task_and_guessed_where_nobody_knows(lab: Any) -> None:
    def count(*keys: str) -> int:
        return harness.example_count([objective(key) for key in keys], harness.Library([lab.tasks]))

    assert count("t_text/bits_per_byte", "t_text/word_perplexity") == 21
    assert count("t_text/bits_per_byte", "t_nowhere/acc") == 1021


def test_the_catalogue_leaves_unusable_files_out(add_task: Callable[..., Path]) -> None:
    add_task("t_bad", unsafe_code=True)
    names = [info.name for info in harness.catalogue(harness.Library([add_task("t_good")]))]
    assert "t_good" in names
    assert "t_bad" not in names


def test_every_task_of_our_own_is_usable_as_it_lies() -> None:
    *listed, weights = harness.catalogue(harness.Library([]))
    assert weights.metrics == {"delta_norm": False, "sparsity": True}
    infos = {info.name: info for info in listed}
    assert set(infos) == set(names_in(harness.OWN_TASKS))
    for name, info in infos.items():
        for split in Split:
            assert len(load(harness.OWN_TASKS, name, split)) == info.examples[split]


def test_a_folder_that_is_not_there_has_no_tasks(tmp_path: Path) -> None:
    missing = harness.catalogue(harness.Library([tmp_path / "missing"]))
    assert missing == harness.catalogue(harness.Library([]))


def test_an_empty_text_says_nothing(add_task: Callable[..., Path]) -> None:
    changes = {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{ '' if label else question }}",
    }
    task = load(add_task(**changes), "t_own", None)
    responses = [-2.0 * len(r.text.encode()) for r in task.requests if isinstance(r, Text)]
    measured = task.measure(responses, ["bits_per_byte", "byte_perplexity"])
    bits = measured["bits_per_byte"]
    assert set(bits.examples.round(6)) == {0.0, round(2 / math.log(2), 6)}
    assert bits.value == pytest.approx(2 / math.log(2))
    assert set(measured["byte_perplexity"].examples) == {0.0, 2.0}


def test_good_objectives_have_no_problems(lab: Any) -> None:
    keys = ["t_choice/acc", "t_filters/exact_match", "t_filters/exact_match,flexible-extract"]
    assert complaints(lab.tasks, *keys) == []


def test_unknown_names_are_reported_together_with_near_matches(lab: Any) -> None:
    found = complaints(lab.tasks, "t_choise/acc", "t_choice/ac", "t_choice/acc,none", "t_text/acc")
    assert found == [
        "objectives[0].task: unknown task 't_choise'; did you mean 't_choice'?",
        "objectives[1].metric: task 't_choice' has no metric 'ac'; did you mean 'acc'?",
        "objectives[3].metric: task 't_text' has no metric 'acc'; known: bits_per_byte,"
        " word_perplexity",
    ]


def test_tasks_of_lm_eval_are_found_after_all_folders(add_task: Callable[..., Path]) -> None:
    folder = add_task("hellaswag")
    assert found(folder, "hellaswag").path == folder / "hellaswag.yaml"
    assert found(folder, "arc_easy").trusted
    assert complaints(folder, "arc_easy/acc_norm") == []


def test_tasks_of_lm_eval_that_run_code_are_refused(tmp_path: Path) -> None:
    (found,) = complaints(tmp_path, "humaneval/pass_at_k")
    assert "unsafe_code" in found


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"unsafe_code": True}, "unsafe_code"),
        ({"class": "tasks.Own"}, "class"),
        ({"custom_dataset": "own.load"}, "custom_dataset"),
        ({"use_prompt": "promptsource:x"}, "use_prompt"),
        ({"doc_to_image": "image"}, "doc_to_image"),
        ({"test_split": None}, "test_split is required"),
        (
            {"dataset_kwargs": {"trust_remote_code": True}},
            "dataset_kwargs.trust_remote_code",
        ),
        (
            {"dataset_kwargs": {"data_files": {"test": "missing.jsonl"}}},
            "there is no file",
        ),
        (
            {"metric_list": [{"metric": "exact_matsch"}]},
            "metric_list[0].metric lm-eval has no 'exact_matsch'; did you mean 'exact_match'?",
        ),
        ({"metric_list": [{"metric": "acc", "hf_evaluate": True}]}, "metric_list[0].hf_evaluate"),
        ({"metric_list": [{"metric": "acc", "aggregation": "own"}]}, "metric_list[0].aggregation"),
        (
            {"filter_list": [{"name": "a", "filter": [{"function": "own"}]}]},
            "filter_list[0].filter[0].function",
        ),
        ({"metric_list": [{"metric": "likelihood"}]}, "is a pair, which lm-eval cannot average"),
        ({"generation_kwargs": {"do_sample": True}}, "set do_sample: false"),
        ({"generation_kwargs": {"temperature": 0.7}}, "set do_sample: false"),
        ({"generation_kwargs": {"num_beams": 3}}, "generation_kwargs.num_beams"),
        ({"metadata": {"splits": {"search": "test"}}}, "metadata.splits"),
    ],
)
def test_what_a_task_file_must_not_do_is_named(
    add_task: Callable[..., Path], changes: dict[str, Any], expected: str
) -> None:
    (found,) = complaints(add_task(**changes), "t_own/acc")
    assert found.startswith("objectives[0].task: ")
    assert "t_own.yaml" in found
    assert expected in found


def test_directions_follow_the_metric_and_refuse_bad_objectives(lab: Any) -> None:
    keys = ["t_choice/acc", "t_choice/brier_score", "t_text/bits_per_byte"]
    found = harness.directions([objective(key) for key in keys], harness.Library([lab.tasks]))
    assert found == {keys[0]: True, keys[1]: False, keys[2]: False}
    with pytest.raises(Invalid, match="t_choice"):
        harness.directions([objective("t_choice/nothing")], harness.Library([lab.tasks]))


def test_templates_cannot_reach_python(add_task: Callable[..., Path]) -> None:
    template = "{{ cycler.__init__.__globals__ }}"
    with pytest.raises(Invalid, match="SecurityError"):
        load(add_task(doc_to_text=template), "t_own", Split.SEARCH)
    outside = jinja2.Environment().from_string(template)  # the control
    assert "__builtins__" in outside.render()


def test_a_template_that_names_no_column_is_a_problem_of_the_task(
    add_task: Callable[..., Path],
) -> None:
    with pytest.raises(Invalid, match=r"t_own: cannot be built from .*'nothing' is undefined"):
        load(add_task(doc_to_text="{{nothing}}"), "t_own", Split.SEARCH)


def test_splits_of_a_task_that_names_them_are_its_own(lab: Any) -> None:
    for split in Split:
        lines = (lab.data / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        questions = [json.loads(line)["question"] for line in lines]
        task = load(lab.tasks, "t_letters", split)
        asked = contexts(task)[::4]
        assert sorted(asked) == sorted(f"{question} answer:" for question in questions)


def test_one_split_is_divided_into_three_without_overlap(add_task: Callable[..., Path]) -> None:
    folder = add_task()
    parts = [set(contexts(load(folder, "t_own", split))) for split in Split]
    assert all(parts)
    assert sum(len(part) for part in parts) == len(set.union(*parts)) == 33
    again = [set(contexts(load(folder, "t_own", split))) for split in Split]
    assert again == parts


def test_a_limit_keeps_the_first_examples(lab: Any) -> None:
    whole, few = (load(lab.tasks, "t_shots", Split.REPORT, limit) for limit in (None, 5))
    assert len(few) == 5
    assert few.requests == whole.requests[:20]


def test_report_answers_are_never_shown_in_front_of_other_questions(
    add_task: Callable[..., Path],
) -> None:
    shots = {
        "num_fewshot": 3,
        "fewshot_split": "test",
        "doc_to_text": "<{{question}}>",
        "fewshot_delimiter": "\n",
    }
    folder = add_task(**shots)
    asked = {
        split: {text.rpartition("\n")[2] for text in contexts(load(folder, "t_own", split))}
        for split in Split
    }
    for split in Split:
        for context in contexts(load(folder, "t_own", split)):
            *shown, question = context.split("\n")
            assert len(shown) == 3
            assert all(text.rpartition(">")[0] + ">" in asked[Split.SEARCH] for text in shown)
            assert not any(text.startswith(question) for text in shown)


def test_few_shot_examples_from_the_report_split_are_refused(add_task: Callable[..., Path]) -> None:
    splits = {"training_split": "a", "validation_split": "b", "test_split": "c"}
    mapping = {"splits": {"search": "training", "select": "validation", "report": "test"}}
    leak = splits | {"metadata": mapping, "num_fewshot": 1, "fewshot_split": "c"}
    (found,) = complaints(add_task(**leak), "t_own/acc")
    assert "fewshot_split is the report split" in found
    assert complaints(add_task(**leak | {"fewshot_split": "a"}), "t_own/acc") == []


def test_a_split_without_examples_is_a_problem(add_task: Callable[..., Path], lab: Any) -> None:
    one, *_ = (lab.data / "report.jsonl").read_text(encoding="utf-8").splitlines()
    folder = add_task(dataset_kwargs={"data_files": {"test": "one.jsonl"}})
    (folder / "one.jsonl").write_text(one + "\n", encoding="utf-8")
    assert len(load(folder, "t_own", Split.SEARCH)) == 1
    with pytest.raises(Invalid, match="t_own: has no report examples"):
        load(folder, "t_own", Split.REPORT)
