"""The script that drives mergekit, with a merge that only listens."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

from workers.bench.mergekit_loop import serve


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
    assert [set(answer) for answer in taken] == [{"seconds"}, {"seconds"}]
    assert all(answer["seconds"] >= 0 for answer in taken)
    assert prepared == asked[:1]
    assert merged == asked[1:]
