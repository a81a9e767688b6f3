"""The one place that knows lm-eval: finds its tasks and turns them into requests and scores.

Everything untyped of lm-eval stays in here.
"""

from evals.harness.aggregation import Measured
from evals.harness.finding import OWN_TASKS, find
from evals.harness.objectives import TaskInfo, catalogue, check, directions, example_count
from evals.harness.reading import context_length, rolling_windows
from evals.harness.task import Task, load

__all__ = [
    "OWN_TASKS",
    "Measured",
    "Task",
    "TaskInfo",
    "catalogue",
    "check",
    "context_length",
    "directions",
    "example_count",
    "find",
    "load",
    "rolling_windows",
]
