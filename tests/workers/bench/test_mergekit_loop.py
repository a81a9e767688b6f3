"""The script that drives mergekit, with a merge that only listens."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from workers.bench.mergekit_loop import serve


def test_what_the_work_tells_is_told_with_its_time() -> None:
    answers = io.StringIO()
    lines = ("{}\n", '{"task": "t"}\n')
    serve(lines, answers, lambda: lambda asked: {"score": float(len(asked["task"]))})
    _, told = map(json.loads, answers.getvalue().splitlines())
    assert set(told) == {"seconds", "cpu_s", "score"}
    assert told["score"] == 1


def test_every_configuration_is_merged_and_answered() -> None:
    prepared: list[dict[str, Any]] = []
    merged: list[dict[str, Any]] = []

    def prepare(**fields: Any) -> Callable[[dict[str, Any]], None]:
        prepared.append(fields)
        return merged.append

    asked = [{"base": "b", "threads": 2}, {"merge_method": "ties"}, {"merge_method": "linear"}]
    answers = io.StringIO()
    serve((json.dumps(line) + "\n" for line in asked), answers, prepare)
    ready, *taken = map(json.loads, answers.getvalue().splitlines())
    assert ready == {}
    assert [set(answer) for answer in taken] == [{"seconds", "cpu_s"}] * 2
    assert all(min(answer.values()) >= 0 for answer in taken)
    assert prepared == asked[:1]
    assert merged == asked[1:]
