"""What a candidate is scored on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from search.spec import Evaluation, Objective


class Split(StrEnum):
    """Which examples of a task are used. Only ``search`` scores ever reach an optimizer."""

    SEARCH = "search"
    SELECT = "select"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class Suite:
    """What is asked, of which examples, and where task YAML is found.

    Args:
        objectives: what has a score.
        split: which examples; None for all that lm-eval itself would score.
        folders: searched before lm-eval's own tasks.
        limit: only so many first examples of every task; a share of them below 1, as in lm-eval.
        trusted: the folders whose tasks may bring Python, because the operator put them there.
        evaluation: how all tasks are asked.
    """

    objectives: tuple[Objective, ...]
    split: Split | None
    folders: tuple[str, ...] = ()
    limit: float | None = None
    trusted: tuple[str, ...] = ()
    evaluation: Evaluation = field(default_factory=Evaluation)
