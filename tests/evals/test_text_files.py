"""A text file is a task by its name alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from evals import harness
from evals.engine import Engine
from evals.evaluator import Evaluator
from evals.requests import Text
from evals.suite import Split, Suite
from search.problems import Invalid
from search.spec import Objective

PARAGRAPHS = [f"the cab {word} a bed\nand a {word}" for word in ("had", "fed", "dab", "egg")] * 5


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts = [f"{paragraph} {n}" for n, paragraph in enumerate(PARAGRAPHS)]
    (tmp_path / "notes.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    (tmp_path / "more").mkdir()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    (tmp_path / "more/notes.jsonl").write_text(lines, encoding="utf-8")
    return tmp_path


def suite(folder: Path, task: str, metric: str = "bits_per_byte", split: Any = None) -> Suite:
    return Suite((Objective(task=task, metric=metric),), split, (str(folder),))


@pytest.mark.parametrize("task", ["text:notes.txt", "text:more/notes.jsonl"])
def test_paragraphs_or_lines_are_the_examples(folder: Path, tokenizer: Any, task: str) -> None:
    requests = harness.load(suite(folder, task), tokenizer).requests
    assert all(isinstance(request, Text) for request in requests)
    assert [r.text.rsplit(" ", 1)[1].strip() for r in requests if isinstance(r, Text)] == [
        str(n) for n in range(len(PARAGRAPHS))
    ]


def test_the_score_is_that_of_the_whole_text(folder: Path, model: Any, tokenizer: Any) -> None:
    scores = Evaluator(model, tokenizer, suite(folder, "text:notes.txt")).score()
    requests = harness.load(suite(folder, "text:notes.txt"), tokenizer).requests
    engine = Engine(model, tokenizer, "cpu")
    nats = sum(float(answer) for answer in engine.run(engine.prepare(requests)))  # type: ignore[arg-type]  # of texts
    size = sum(len(r.text.encode()) for r in requests if isinstance(r, Text))
    score = scores["text:notes.txt/bits_per_byte"]
    assert score.value == pytest.approx(nats / size / math.log(2), rel=1e-6), "fewer are better"
    assert score.count == len(PARAGRAPHS)


def test_a_text_is_divided_like_any_task(folder: Path, tokenizer: Any) -> None:
    parts = [
        {
            r.text
            for r in harness.load(suite(folder, "text:notes.txt", split=s), tokenizer).requests
            if isinstance(r, Text)
        }
        for s in Split
    ]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts)) == len(PARAGRAPHS)


@pytest.mark.parametrize(
    ("task", "metric", "message"),
    [
        ("text:note.txt", "bits_per_byte", "unknown text file 'text:note.txt'; did you mean"),
        ("text:../notes.txt", "bits_per_byte", "unknown text file"),
        ("text:more", "bits_per_byte", "unknown text file"),
        ("text:notes.txt", "acc", "has no metric 'acc'; known: bits_per_byte, byte_perplexity"),
    ],
)
def test_a_wrong_name_is_explained(
    folder: Path, tokenizer: Any, task: str, metric: str, message: str
) -> None:
    inner = folder / "more" if task.startswith("text:..") else folder
    with pytest.raises(Invalid) as caught:
        harness.load(suite(inner, task, metric), tokenizer)
    assert message in str(caught.value)


def test_less_is_better_in_every_metric_of_a_text(folder: Path) -> None:
    objectives = suite(folder, "text:notes.txt", "word_perplexity").objectives
    library = harness.Library([folder])
    assert harness.directions(objectives, library) == {"text:notes.txt/word_perplexity": False}
