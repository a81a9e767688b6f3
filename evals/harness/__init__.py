"""The one place that knows lm-eval: finds its tasks and turns them into requests and scores.

Everything untyped of lm-eval stays in here.
"""

from evals.harness.aggregation import Measured
from evals.harness.documents import Document, Documents
from evals.harness.draws import Drawn, draw
from evals.harness.loading import Loaded, load
from evals.harness.objectives import (
    TaskInfo,
    catalogue,
    check,
    directions,
    example_count,
    leaderboards,
    references,
    standing_alone,
)
from evals.harness.reading import context_length, rolling_windows
from evals.harness.report import RESAMPLES, Report, report
from evals.harness.task import Task
from evals.harness.task_index import OWN_TASKS, Library

__all__ = [
    "OWN_TASKS",
    "RESAMPLES",
    "Document",
    "Documents",
    "Drawn",
    "Library",
    "Loaded",
    "Measured",
    "Report",
    "Task",
    "TaskInfo",
    "catalogue",
    "check",
    "context_length",
    "directions",
    "draw",
    "example_count",
    "leaderboards",
    "load",
    "references",
    "report",
    "rolling_windows",
    "standing_alone",
]
