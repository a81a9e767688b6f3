"""A reader of the log: what state a search is in and how far it is."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from pydantic import TypeAdapter

from api.schemas import OVER, State
from api.store.codec import pacing_from_json
from api.store.records import Event, EventKind, OutcomeKind
from evals.batching import Pacing
from evals.suite import Draw, Split
from search.problems import Problem
from search.spec import SearchSpec
from workers.doctor.summary import DiagnosisSummary
from workers.messages import MODEL, Form

# States that nothing leads out of.
FINAL: frozenset[State] = OVER - {"finished"}

OUTCOMES: frozenset[str] = frozenset(get_args(OutcomeKind))

_RECENT = 50
_WARNINGS = TypeAdapter(tuple[Problem, ...])
_DIAGNOSES = TypeAdapter(tuple[DiagnosisSummary, ...])


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What became of the newest request for a form of a candidate; ``body`` is the event's."""

    state: Literal["requested", "stored", "failed"]
    body: Mapping[str, Any] = field(default_factory=dict)


def form_of(event: Event) -> Form:
    """The form of the checkpoint that an event is about: a whole model where it says nothing."""
    given = event.body.get("form")
    return MODEL if given is None else Form.model_validate(given)


class Progress:
    """State, counts and budget, folded from events in the order of their seq.

    Anything that the log may hold is accepted: a command that came too late changes nothing.

    Attributes:
        seq: of the newest event that was fed.
        scored, infeasible: candidates with that outcome.
        evaluations: the budget, extensions included; of a search that stopped what it had then.
        stopped: why it stopped before its budget was spent; None where it has not, or goes on.
        stopped_at: how many evaluations it had when it last stopped; 0 where it never did.
        complete: every ordinal below this has an outcome.
        problems: why the search failed.
        warnings, diagnoses: what the survey has found out about the parents.
        draws: which examples each split of each task holds; empty where that was not surveyed.
        pacing: how forward passes are made; None where that was not surveyed.
        confirming: the split that candidates are scored on after the search; which are, and in
            which rungs of first examples (none: on all at once).
        checkpoints: by ordinal and form.
    """

    def __init__(self, spec: SearchSpec) -> None:
        self.seq = 0
        self.scored = 0
        self.infeasible = 0
        self.evaluations = spec.budget.evaluations
        self.complete = 0
        self.stopped: str | None = None
        self.stopped_at = 0
        self.problems: tuple[Problem, ...] = ()
        self.warnings: tuple[Problem, ...] = ()
        self.diagnoses: tuple[DiagnosisSummary, ...] = ()
        self.checkpoints: dict[tuple[int, Form], Checkpoint] = {}
        self._beyond: set[int] = set()
        self.draws: tuple[Draw, ...] = ()
        self.pacing: Pacing | None = None
        self.confirming: tuple[Split, Mapping[int, tuple[int, ...]]] = (Split.SELECT, {})
        # On how many first examples at most; infinitely many stand for all.
        self._confirmed: dict[EventKind, dict[int, float]] = {"selected": {}, "reported": {}}
        self._surveyed = self._paused = False
        self._phase: Literal["running", "selecting", "reporting", "finished"] = "running"
        self._final: Literal["cancelled", "failed"] | None = None
        self._recent: deque[datetime] = deque(maxlen=_RECENT)

    def feed(self, events: Iterable[Event]) -> None:
        """Read on."""
        for event in events:
            self.seq = event.seq
            if event.kind in OUTCOMES:
                self._count(event)
            elif event.kind in self._confirmed and event.ordinal is not None:
                done, first = self._confirmed[event.kind], event.body.get("first", math.inf)
                done[event.ordinal] = max(first, done.get(event.ordinal, 0))
            elif event.ordinal is not None:
                self._checkpoint((event.ordinal, form_of(event)), event)
            elif self._final is None:
                self._turn(event)

    @property
    def state(self) -> State:
        """What the search is doing."""
        if self._final is not None:
            return self._final
        if self._phase == "finished":
            return "finished"
        if self._paused:
            return "paused"
        return self._phase if self._surveyed else "surveying"

    @property
    def surveyed(self) -> bool:
        """Whether the models were read and found sound."""
        return self._surveyed

    @property
    def exhausted(self) -> bool:
        """Whether every evaluation of the budget has its outcome."""
        return self.complete >= self.evaluations

    @property
    def unconfirmed(self) -> tuple[int, ...]:
        """Candidates that selecting or reporting still waits for, ascending."""
        if self._phase not in ("selecting", "reporting"):
            return ()
        split, wanted = self.confirming
        done = self._confirmed["selected" if split is Split.SELECT else "reported"]
        return tuple(
            ordinal
            for ordinal, rungs in sorted(wanted.items())
            if done.get(ordinal, 0) < (rungs[-1] if rungs else math.inf)
        )

    @property
    def examples_to_select(self) -> int:
        """Of the largest task on the select split; 0 where the survey did not say."""
        counts = (draw.count for draw in self.draws if draw.split is Split.SELECT)
        return max(counts, default=0)

    @property
    def seconds_left(self) -> float | None:
        """Of this phase, at the pace of the last outcomes; None where unknown."""
        if self.state in OVER:
            return 0.0
        if self.state == "paused" or len(self._recent) < 2:
            return None
        pace = (self._recent[-1] - self._recent[0]).total_seconds() / (len(self._recent) - 1)
        to_evaluate = max(0, self.evaluations - self.scored - self.infeasible)
        return (to_evaluate + len(self.unconfirmed)) * pace

    def checkpoints_of(self, ordinal: int) -> dict[Form, Checkpoint]:
        """The checkpoints of one candidate."""
        found = self.checkpoints.items()
        return {form: checkpoint for (of, form), checkpoint in found if of == ordinal}

    def recorded(self, ordinal: int) -> bool:
        """Whether a candidate has its outcome."""
        return ordinal < self.complete or ordinal in self._beyond

    def _count(self, event: Event) -> None:
        if event.ordinal is None:
            raise ValueError(f"outcome {event.seq} is about no candidate")
        if event.kind == "scored":
            self.scored += 1
        else:
            self.infeasible += 1
        self._recent.append(event.at)
        self._beyond.add(event.ordinal)
        while self.complete in self._beyond:
            self._beyond.remove(self.complete)
            self.complete += 1

    def _checkpoint(self, which: tuple[int, Form], event: Event) -> None:
        match event.kind:
            case "checkpoint_requested":
                self.checkpoints[which] = Checkpoint("requested", event.body)
            case "checkpoint_stored":
                self.checkpoints[which] = Checkpoint("stored", event.body)
            case "checkpoint_failed":
                self.checkpoints[which] = Checkpoint("failed", event.body)

    def _turn(self, event: Event) -> None:
        match event.kind:
            case "surveyed":
                self._surveyed = True
                self.warnings = _WARNINGS.validate_python(event.body.get("warnings", ()))
                self.diagnoses = _DIAGNOSES.validate_python(event.body.get("diagnoses", ()))
                draws = event.body.get("draws", ())
                self.draws = tuple(Draw(**{**d, "split": Split(d["split"])}) for d in draws)
                if "pacing" in event.body:
                    self.pacing = pacing_from_json(event.body["pacing"])
            case "pause":
                self._paused = True
            case "resume":
                self._paused = False
            case "extend":
                self.evaluations += int(event.body["evaluations"])
                self.stopped = None
                self._phase = "running"
            case "stopped":
                self.evaluations = self.stopped_at = int(event.body["evaluations"])
                self.stopped = str(event.body["reason"])
            case "selecting":
                self._phase = "selecting"
                wanted = dict.fromkeys(event.body["finalists"], tuple(event.body.get("rungs", ())))
                wanted |= dict.fromkeys(event.body["baselines"], ())
                self.confirming = (Split.SELECT, wanted)
            case "reporting":
                self._phase = "reporting"
                ordinals = {event.body["winner"], *event.body["baselines"]} - {None}
                self.confirming = (Split.REPORT, dict.fromkeys(ordinals, ()))
            case "finished":
                self._phase = "finished"
            case "cancel" if self._phase != "finished":
                self._final = "cancelled"
            case "failed":
                self._final = "failed"
                self.problems = tuple(Problem.model_validate(p) for p in event.body["problems"])
