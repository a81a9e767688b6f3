"""A search is held to the examples that it began with."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals import harness
from evals.suite import Draw, Split, Suite
from search.problems import Invalid
from search.spec import Objective

Add = Callable[..., Path]


def suite(folder: Path, *tasks: str, split: Split = Split.SEARCH, seed: int = 0) -> Suite:
    objectives = tuple(Objective(task=task, metric="acc") for task in tasks)
    return Suite(objectives, split, (str(folder),), seed=seed)


# No task here has a chat template.
ANY: Any = None


def draw(given: Suite) -> harness.Drawn:
    return harness.draw(given, ANY)


def load(given: Suite) -> Sequence[harness.Task]:
    return harness.load(given, ANY).tasks


def held_to(given: Suite, draws: tuple[Draw, ...]) -> Suite:
    digests = tuple((d.task, d.digest) for d in draws if d.split is given.split)
    return replace(given, digests=digests)


def test_a_draw_counts_every_split_and_tells_it_from_others(add_task: Add) -> None:
    folder = add_task()
    drawn = draw(suite(folder, "t_own"))
    assert [(d.task, d.split) for d in drawn.draws] == [("t_own", split) for split in Split]
    assert [d.count for d in drawn.draws] == [16, 7, 10]
    assert len({d.digest for d in drawn.draws}) == 3
    assert drawn == draw(suite(folder, "t_own"))
    assert drawn != draw(suite(folder, "t_own", seed=1))
    assert drawn.warnings == ()


def test_examples_are_as_many_as_were_drawn_and_in_an_order_of_their_own(add_task: Add) -> None:
    folder = add_task()
    drawn = draw(suite(folder, "t_own"))
    for found in drawn.draws:
        (task,) = load(held_to(suite(folder, "t_own", split=found.split), drawn.draws))
        assert len(task) == found.count
    (one,), (other,) = (load(suite(folder, "t_own", seed=seed)) for seed in (0, 1))
    assert one.requests != other.requests


@pytest.mark.parametrize("what", ["data", "file"])
def test_examples_that_changed_are_refused(
    add_task: Add, lab: Any, tmp_path: Path, what: str
) -> None:
    data = tmp_path / "own.jsonl"
    lines = (lab.data / "report.jsonl").read_text(encoding="utf-8").splitlines()
    data.write_text("\n".join(lines) + "\n", encoding="utf-8")
    own = {"dataset_kwargs": {"data_files": {"test": str(data)}}}
    given = held_to(suite(add_task(**own), "t_own"), draw(suite(add_task(**own), "t_own")).draws)
    load(given)
    if what == "data":
        rows = [json.loads(line) for line in lines]
        texts = (json.dumps({**row, "label": (row["label"] + 1) % 4}) + "\n" for row in rows)
        data.write_text("".join(texts), encoding="utf-8")
    else:
        add_task(**own, doc_to_text="{{question}}?")
    with pytest.raises(Invalid, match=r"t_own: its search examples .* no longer those"):
        load(given)


def test_a_task_that_brings_an_example_to_two_of_its_splits_is_told_of(
    add_task: Add, lab: Any, tmp_path: Path
) -> None:
    seen = (lab.data / "search.jsonl").read_text(encoding="utf-8").splitlines()
    leaky = tmp_path / "leaky.jsonl"
    others = (lab.data / "report.jsonl").read_text(encoding="utf-8").splitlines()
    leaky.write_text("\n".join([*others, *seen[:2]]) + "\n", encoding="utf-8")
    files = {s: str(lab.data / f"{s}.jsonl") for s in ("search", "select")}
    folder = add_task(
        dataset_kwargs={"data_files": {**files, "report": str(leaky)}},
        training_split="search",
        validation_split="select",
        test_split="report",
    )
    ((task, text),) = draw(suite(folder, "t_own")).warnings
    assert task == "t_own"
    assert text == "2 of its 35 report examples are also among those that the search sees"
