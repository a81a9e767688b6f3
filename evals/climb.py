"""Answer a suite rung after rung: first a few examples of every task, then more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evals.engine import Engine, Plan
from evals.engine.stems import Stems
from evals.harness import Loaded
from evals.requests import Request, Response


@dataclass(frozen=True, slots=True, eq=False)
class Rung:
    """What is asked between two numbers of examples of every task; tasks may have fewer.

    Args:
        part: the tasks with all their examples up to the rung's end.
        beyond: name of task -> its requests that were not asked before.
        plan: of these requests, one task after the other.
    """

    part: Loaded
    beyond: Sequence[tuple[str, Sequence[Request]]]
    plan: Plan


class Ladder:
    """The examples of all tasks in rungs, each tokenized and batched once, when it is first used.

    Args:
        loaded: tasks with all their examples.
        engine: that answers.
    """

    def __init__(self, loaded: Loaded, engine: Engine) -> None:
        self.engine = engine
        self._loaded = loaded
        self._rungs: dict[tuple[int, int], Rung] = {}

    def rung(self, start: int, end: int) -> Rung:
        """From the first ``start`` examples to the first ``end``."""
        if (start, end) not in self._rungs:
            before = self._loaded.first(start).tasks if start else ()
            asked = {task.name: len(task.requests) for task in before}
            part = self._loaded.first(end)
            beyond = [(task.name, task.requests[asked.get(task.name, 0) :]) for task in part.tasks]
            plan = self.engine.prepare([request for _, rest in beyond for request in rest])
            self._rungs[start, end] = Rung(part, beyond, plan)
        return self._rungs[start, end]


class Climb:
    """The answers of one set of weights so far.

    Attributes:
        forward_s: seconds in the model since this was last set to 0.
        climbed: how many examples of every task are answered.
    """

    def __init__(self, ladder: Ladder) -> None:
        self.forward_s = 0.0
        self.climbed = 0
        self._ladder = ladder
        self._answers: dict[str, list[Response]] = {}

    def first(self, count: int, stems: Stems) -> tuple[Loaded, list[Response]]:
        """The tasks with their first so many examples, and all answers to these.

        Args:
            count: more than were asked for before.
            stems: that these weights have read; more are added.
        """
        rung = self._ladder.rung(self.climbed, count)
        responses = iter(self._ladder.engine.run(rung.plan, stems))
        self.forward_s += self._ladder.engine.forward_s
        for name, requests in rung.beyond:
            known = self._answers.setdefault(name, [])
            known += [next(responses) for _ in requests]
        self.climbed = count
        return rung.part, [
            answer for task in rung.part.tasks for answer in self._answers[task.name]
        ]
