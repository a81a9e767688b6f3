"""What comes out of the log: frozen, and made of the nouns of the search."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evals.fingerprint import Fingerprint
from evals.suite import Split
from search.layout import Layout
from search.outcome import Candidate
from search.spec import SearchSpec
from workers.messages import Timings, Zoo

# Kinds of events. Of the first two, a candidate has exactly one in the end.
OutcomeKind = Literal["scored", "infeasible"]
CommandKind = Literal["pause", "resume", "extend", "cancel"]
# What comes of the second look at some candidates, on examples that no optimizer sees.
ConfirmationKind = Literal["selected", "reported"]
# The search goes on by itself: it may stop before its budget is spent; from its last outcome to
# choosing, to showing, to the end.
PhaseKind = Literal["stopped", "selecting", "reporting", "finished"]
CheckpointKind = Literal["checkpoint_requested", "checkpoint_stored", "checkpoint_failed"]
EventKind = Literal[
    OutcomeKind, ConfirmationKind, PhaseKind, CommandKind, CheckpointKind, "surveyed", "failed"
]


@dataclass(frozen=True, slots=True)
class Submission:
    """A spec and all that was resolved from files when it was accepted; never looked up again.

    Args:
        spec: as the user wrote it.
        layout: of the base.
        zoo: folders of the models, and the dtype that they are merged in.
        directions: objective key -> whether more is better in the metric's own sign.
        task_folders: where task YAML is found before lm-eval's own.
        trusted_folders: those of them whose tasks may bring Python.
        facts: JSON for people: sizes, licences, versions.
    """

    spec: SearchSpec
    layout: Layout
    zoo: Zoo
    directions: Mapping[str, bool]
    task_folders: tuple[str, ...] = ()
    trusted_folders: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Search:
    """An accepted submission. Ids are opaque, and sort by time of creation."""

    id: str
    created_at: datetime
    submission: Submission

    @property
    def spec(self) -> SearchSpec:
        """What the user asked for."""
        return self.submission.spec


@dataclass(frozen=True, slots=True)
class Summary:
    """A score without its examples; higher is better, NaN where lm-eval has no standard error.

    ``low`` and ``high`` are its 95 % interval, NaN where none is known.
    """

    value: float
    stderr: float
    count: int
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a search's log; ``seq`` counts from 1 without gaps.

    Args:
        seq: place in the log.
        kind: see `EventKind`.
        ordinal: of the candidate that it is about, if it is about one.
        at: when it was written, UTC.
        body: JSON; ``{"evaluations": 20}`` of an extension, ``{"problems": [...]}`` of a failure,
            ``{"reason": ...}`` of an infeasible candidate or failed checkpoint, ``{"evaluations":
            60, "reason": ...}`` of a search that stopped, ``{"finalists": [...], "rungs": [13,
            25]}`` of each round of selecting, ``{"first": 25}`` of scores on so many first
            examples, ``{"winner": 17}`` of reporting, what a caller appended.
        scores: of a candidate that was scored, selected or reported.
    """

    seq: int
    kind: EventKind
    ordinal: int | None
    at: datetime
    body: Mapping[str, Any]
    scores: Mapping[str, Summary] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """A candidate and what came of it so far; ``outcome`` is None while it is pending.

    ``engine`` is the fingerprint of what scored it; ``cached`` says that it was not scored again,
    because the score was known.
    """

    candidate: Candidate
    digest: str
    proposed_at: datetime
    outcome: Event | None = None
    timings: Timings | None = None
    worker: str | None = None
    engine: Fingerprint = field(default_factory=dict)
    cached: bool = False

    @property
    def left_early(self) -> bool:
        """Whether it was behind before all examples were scored."""
        return self.outcome is not None and bool(self.outcome.body.get("left_early", False))


@dataclass(frozen=True, slots=True)
class Provenance:
    """How scores came to be.

    Args:
        worker: that evaluated.
        timings: of the evaluation, where there was one.
        engine: fingerprint of what scored; empty where nothing was.
        key: by which `Store.known` finds these scores again; None keeps them from being found.
        cached: they were found so.
    """

    worker: str
    timings: Timings | None = None
    engine: Fingerprint = field(default_factory=dict)
    key: str | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """Which candidate of which search has scores that were asked for, or why it has none.

    ``provenance`` is that of whoever uses them again; ``first`` of how many first examples they
    are, None for all.
    """

    search_id: str
    ordinal: int
    provenance: Provenance
    reason: str | None = None
    first: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """Per-example scores (n,) of one candidate on one split; higher is better."""

    ordinal: int
    split: Split
    objective: str
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Head:
    """The newest event of a search; ``seq`` is 0 and ``kind`` None when there is none yet."""

    search_id: str
    seq: int
    kind: EventKind | None
