"""What a candidate is scored on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from search.spec import Objective


class Split(StrEnum):
    """Which examples of a task are used. Only ``search`` scores ever reach an optimizer."""

    SEARCH = "search"
    SELECT = "select"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class Suite:
    """The objectives, the split to score them on, and where their task YAML is found.

    ``folders`` are searched before lm-eval's own tasks; ``limit`` keeps only the first examples of
    every task.
    """

    objectives: tuple[Objective, ...]
    split: Split
    folders: tuple[str, ...] = ()
    limit: int | None = None
