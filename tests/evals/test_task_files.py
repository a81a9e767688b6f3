"""Task files are read without running what they mention."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from evals.suite import Split
from evals.task_files import read_task
from search.problems import Invalid

GOOD = "task: good\noutput_type: multiple_choice\ntest_split: test\n"


def written(folder: Path, text: str, name: str = "task.yaml") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def complaint(path: Path) -> str:
    with pytest.raises(Invalid) as caught:
        read_task(path)
    return str(caught.value)


@pytest.fixture
def marked(tmp_path: Path) -> tuple[Path, Path]:
    """A task whose Python leaves a marker when it is imported, and the marker."""
    marker = tmp_path / "ran"
    (tmp_path / "tricks.py").write_text(
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\ndef text(doc): return ''\n",
        encoding="utf-8",
    )
    return written(tmp_path, GOOD + "doc_to_text: !function tricks.text\n"), marker


def test_a_function_is_refused_by_key_and_its_file_is_not_run(marked: tuple[Path, Path]) -> None:
    path, marker = marked
    message = complaint(path)
    assert f"{path}: doc_to_text" in message
    assert "!function tricks.text" in message
    assert not marker.exists()


def test_the_marker_shows_when_a_file_is_run(marked: tuple[Path, Path]) -> None:
    from lm_eval.tasks._yaml_loader import load_yaml

    path, marker = marked
    load_yaml(path)
    assert marker.exists()


def test_a_function_deep_inside_and_in_an_included_file_is_found(tmp_path: Path) -> None:
    written(tmp_path, "metric_list: [{metric: !function m.f}]\n", "shared.yaml")
    path = written(tmp_path, GOOD + "include: shared.yaml\nmetadata: {a: [1, !function m.g]}\n")
    message = complaint(path)
    assert "metric_list[0].metric" in message
    assert "metadata.a[1]" in message


def test_other_tags_are_errors_with_their_line(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD + "metadata: !!python/object/apply:os.getcwd []\n")
    assert "line 4" in complaint(path)


def test_aliases_are_refused_before_they_multiply(tmp_path: Path) -> None:
    laughs = ["metadata:", "  a0: &a0 [ha, ha]"]
    laughs += [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert "aliases" in complaint(written(tmp_path, GOOD + "\n".join(laughs) + "\n"))


@pytest.mark.parametrize("brackets", [40, 20_000])
def test_deep_nesting_is_refused(tmp_path: Path, brackets: int) -> None:
    path = written(tmp_path, GOOD + "metadata: " + "[" * brackets)
    assert str(path) in complaint(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n- b\n", "not a mapping"),
        ("task: [", "line"),
        ("1: 2\n", "not a mapping"),
        ("task: a\nnum_fewshot: -1\n", "num_fewshot"),
        ("task: a\noutput_type: guess\n", "output_type"),
        ("task: a\ninclude: task.yaml\n", "includes itself"),
        ("task: a\ninclude: missing.yaml\n", "cannot be read"),
        ("task: a\nmetric_list: 3\n", "metric_list"),
        ("task: a\nmetadata: '" + "x" * (1 << 20) + "'\n", "1 MiB"),
    ],
)
def test_each_broken_file_gives_one_clear_problem(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(text, encoding="utf-8")
    assert expected in complaint(path)


def test_own_keys_win_over_included_ones(tmp_path: Path) -> None:
    written(tmp_path, "num_fewshot: 3\ntraining_split: train\n", "shared.yaml")
    config = read_task(written(tmp_path, GOOD + "include: shared.yaml\nnum_fewshot: 1\n")).config
    assert (config.num_fewshot, config.training_split) == (1, "train")


def test_relative_data_files_lie_beside_the_task(tmp_path: Path) -> None:
    files = "dataset_kwargs: {data_files: {test: [a.jsonl, 'hub://x/b.jsonl', /data/c.jsonl]}}\n"
    raw = read_task(written(tmp_path, GOOD + files)).raw
    expected = [str(tmp_path / "a.jsonl"), "hub://x/b.jsonl", "/data/c.jsonl"]
    assert raw["dataset_kwargs"]["data_files"]["test"] == expected


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ("", None),
        (
            "training_split: train\nvalidation_split: dev\n"
            "metadata: {splits: {search: training, select: validation, report: test}}\n",
            ("train", "dev", "test"),
        ),
        (
            "training_split: train\nvalidation_split: dev\n"
            "metadata: {splits: {search: test, select: validation, report: training}}\n",
            ("test", "dev", "train"),
        ),
    ],
)
def test_splits_are_what_the_file_says(
    tmp_path: Path, extra: str, expected: tuple[str, ...] | None
) -> None:
    splits = read_task(written(tmp_path, GOOD + extra)).config.splits
    assert splits == (dict(zip(Split, expected, strict=True)) if expected else None)


def test_splits_called_by_our_names_need_no_metadata(tmp_path: Path) -> None:
    text = "task: a\ntraining_split: report\nvalidation_split: select\ntest_split: search\n"
    splits = read_task(written(tmp_path, text)).config.splits
    assert splits == {split: str(split) for split in Split}


@pytest.mark.parametrize(
    "splits",
    [
        "{search: training}",
        "{search: test, select: test, report: test}",
        "{search: train, select: validation, report: test}",
        "yes",
    ],
)
def test_senseless_splits_are_errors(tmp_path: Path, splits: str) -> None:
    config = read_task(written(tmp_path, GOOD + f"metadata: {{splits: {splits}}}\n")).config
    with pytest.raises(ValueError, match=r"search, select and report|roles that have"):
        _ = config.splits
