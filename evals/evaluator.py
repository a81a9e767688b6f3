"""A resident model in, scores out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from evals import harness
from evals.engine import Engine
from evals.requests import Unscorable
from evals.suite import Suite
from search.outcome import Score, Scores


class Evaluator:
    """Scores the model as it is now, as often as its weights change.

    Tasks are loaded and requests tokenized here, once.

    Args:
        model: stays where it is; its weights may be written over between two scorings.
        tokenizer: that the model was trained with.
        suite: what to score it on.
        device: where the model lives, as torch spells it.
        every: tasks to load beyond those of the objectives, for `score_every_metric`.

    Attributes:
        forward_s: seconds that the last scoring spent in the model.
        higher_is_better: of every metric of every task, in the metric's own sign.

    Raises:
        search.problems.Invalid: when a task cannot be used with this model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        suite: Suite,
        device: str = "cpu",
        *,
        every: Sequence[str] = (),
    ) -> None:
        self.forward_s = 0.0
        self._suite = suite
        self._tasks = harness.load(suite, every=every)
        self._engine = Engine(model, tokenizer, device)
        self._plan = self._engine.prepare([r for task in self._tasks for r in task.requests])
        self.higher_is_better: Mapping[str, bool] = {
            f"{task.name}/{metric}": higher
            for task in self._tasks
            for metric, higher in task.metrics.items()
        }

    def score(self) -> Scores:
        """Scores by objective.

        Raises:
            Unscorable: when any of them is not finite.
        """
        wanted: dict[str, list[str]] = {}
        for objective in self._suite.objectives:
            wanted.setdefault(objective.task, []).append(objective.metric)
        return self._score(wanted)

    def score_every_metric(self) -> Scores:
        """Scores of every metric of every task, keyed "task/metric,filter"."""
        return self._score(
            {task.name: [name for name in task.metrics if "," in name] for task in self._tasks}
        )

    def _score(self, metrics: Mapping[str, Sequence[str]]) -> Scores:
        responses = self._engine.run(self._plan)
        self.forward_s = self._engine.forward_s
        scores, start = {}, 0
        for task in self._tasks:
            stop = start + len(task.requests)
            measured = task.measure(responses[start:stop], metrics.get(task.name, ()))
            for metric, result in measured.items():
                key = f"{task.name}/{metric}"
                scores[key] = _score_of(key, result, higher=task.metrics[metric])
            start = stop
        return scores


def _score_of(key: str, measured: harness.Measured, *, higher: bool) -> Score:
    """Higher is better from here on."""
    sign = 1.0 if higher else -1.0
    examples = (sign * measured.examples).astype(np.float32)
    if not np.isfinite(measured.value) or not np.isfinite(examples).all():
        raise Unscorable(f"{key} is not finite ({measured.value})")
    return Score(sign * measured.value, measured.stderr, len(examples), examples)
