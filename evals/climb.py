"""Answer a suite rung after rung: first a few examples of every task, then more."""

from __future__ import annotations

from collections.abc import Sequence

from evals.engine import Engine
from evals.engine.stems import Stems
from evals.harness import Loaded
from evals.requests import Request, Response


class Ladder:
    """The examples of all tasks in rungs, tokenized and batched once.

    Args:
        loaded: tasks with all their examples.
        engine: that answers.
        ends: how many examples of each task there are up to each rung; tasks may have fewer.
    """

    def __init__(self, loaded: Loaded, engine: Engine, ends: Sequence[int]) -> None:
        self.ends = tuple(ends)
        self.engine = engine
        self.parts = {end: loaded.first(end) for end in self.ends}
        self.beyond: dict[int, list[tuple[str, Sequence[Request]]]] = {}
        asked = dict.fromkeys((task.name for task in loaded.tasks), 0)
        for end, part in self.parts.items():
            self.beyond[end] = [(t.name, t.requests[asked[t.name] :]) for t in part.tasks]
            asked = {task.name: len(task.requests) for task in part.tasks}
        self.plans = {
            end: engine.prepare([request for _, rest in beyond for request in rest])
            for end, beyond in self.beyond.items()
        }


class Climb:
    """The answers of one set of weights so far; what rungs share is read once.

    Attributes:
        forward_s: seconds in the model.
    """

    def __init__(self, ladder: Ladder) -> None:
        self.forward_s = 0.0
        self._ladder = ladder
        self._stems = Stems()
        self._answers: dict[str, list[Response]] = {}
        self._climbed = 0

    def first(self, count: int) -> tuple[Loaded, list[Response]]:
        """The tasks with their first so many examples, and all answers to these.

        Args:
            count: the end of a rung, not below that of the call before.
        """
        for end in self._ladder.ends:
            if self._climbed < end <= count:
                self._answer(end)
                self._climbed = end
        part = self._ladder.parts[count]
        return part, [answer for task in part.tasks for answer in self._answers[task.name]]

    def _answer(self, end: int) -> None:
        responses = iter(self._ladder.engine.run(self._ladder.plans[end], self._stems))
        self.forward_s += self._ladder.engine.forward_s
        for name, requests in self._ladder.beyond[end]:
            known = self._answers.setdefault(name, [])
            known += [next(responses) for _ in requests]
