"""What the REST API says: the nouns of the search, as JSON."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict

from search.problems import Problem as Problem
from search.recipe import Recipe
from search.spec import SearchSpec
from workers.checkpoints.model_facts import Copied, ModelFacts
from workers.doctor.summary import DiagnosisSummary
from workers.messages import MODEL, Form

State = Literal[
    "surveying",
    "running",
    "selecting",
    "reporting",
    "paused",
    "finished",
    "cancelled",
    "failed",
]
# Nothing happens by itself any more; only a finished search can still be extended.
OVER: frozenset[State] = frozenset({"finished", "cancelled", "failed"})


class View(BaseModel):
    """A response body."""

    model_config = ConfigDict(frozen=True)


def finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinity: null stands for them."""
    return value if value is not None and math.isfinite(value) else None


class ScoreView(View):
    """One metric as users know it: a minimized metric in its own sign, null where not finite."""

    value: float | None
    stderr: float | None
    count: int
    higher_is_better: bool
    low: float | None = None
    """Of the 95 % interval."""
    high: float | None = None

    @classmethod
    def of(
        cls,
        value: float,
        stderr: float,
        count: int,
        *,
        higher_is_better: bool,
        low: float = math.nan,
        high: float = math.nan,
    ) -> Self:
        """From inside, where higher is always better: here scores are flipped back."""
        return cls(
            value=finite(value if higher_is_better else -value),
            stderr=finite(stderr),
            count=count,
            higher_is_better=higher_is_better,
            low=finite(low if higher_is_better else -high),
            high=finite(high if higher_is_better else -low),
        )


class TimingsView(View):
    """Wall-clock seconds of an evaluation."""

    merge_s: float
    forward_s: float
    other_s: float


class OriginView(View):
    """Which move made the candidate, from which ordinals."""

    move: str
    parents: list[int]
    detail: dict[str, float | str]


class CandidateView(View):
    """A row of the log. ``seq`` is null and ``state`` pending until its outcome is recorded."""

    ordinal: int
    state: Literal["pending", "scored", "infeasible"]
    seq: int | None
    origin: OriginView
    label: str
    """What plots call it: a parent's name, ``base``, ``average``, else ``#ordinal``."""
    digest: str
    scores: dict[str, ScoreView]
    """On the search split, which the optimizer sees: good to compare by, too good to quote."""
    selected: dict[str, ScoreView] = {}
    """On the select split, of finalists and baselines."""
    reported: dict[str, ScoreView] = {}
    """On the report split, of the winner and the baselines."""
    left_early: bool = False
    """Whether it was shown to be behind before all examples: its scores are expectations."""
    reason: str | None = None
    timings: TimingsView | None = None
    worker: str | None = None
    on_front: bool = False
    violates: list[str] = []
    """Objectives whose constraints its search scores miss; candidates that miss none come first."""
    cached: bool = False
    """Known from an earlier evaluation of the very same, and not measured again."""
    proposed_at: datetime
    recorded_at: datetime | None = None


class CandidateDetail(CandidateView):
    """One candidate whole."""

    recipe: Recipe
    mergekit: str | None
    """mergekit's YAML, where the recipe has one."""
    checkpoints: list[CheckpointState] = []
    """The forms that its weights were asked for in."""
    can_be_adapter: bool = False
    """Whether its weights can also be had as a LoRA adapter."""
    engine: dict[str, str] = {}
    """Fingerprint of what scored it: versions, device, dtype, how examples are batched."""


class Progress(View):
    """How far a search is."""

    proposed: int
    scored: int
    infeasible: int
    evaluations: int
    """The budget, extensions included; of a search that stopped early what it had then."""
    unconfirmed: int = 0
    """Candidates that are still to be scored on the select or the report split, in this state."""
    seconds_left: float | None


class ObjectiveView(View):
    """An objective and how to read it."""

    key: str
    task: str
    metric: str
    weight: float
    higher_is_better: bool
    at_least: float | None = None
    """What candidates must score, in the metric's own sign; null where nothing is demanded, or the
    base or parents that it is relative to are not scored yet."""
    at_most: float | None = None


class SplitView(View):
    """The examples of one split of a task, as the search began with them."""

    task: str
    split: Literal["search", "select", "report"]
    count: int
    digest: str


class GainView(View):
    """How much better the winner is, and the 95 % interval of that; null where not known.

    Positive where the winner is better, also where the metric itself is minimized.
    """

    value: float | None
    low: float | None
    high: float | None


class ComparisonView(View):
    """The winner against base, a parent or the average, on the examples of the report split.

    Differences are paired over examples: one model is right where the other is wrong.
    """

    name: str
    ordinal: int
    is_best_parent: bool
    """On the select split, by the objectives' weights."""
    overall: GainView | None
    """In the mean of the objectives by their weights, each in spans of the baselines."""
    gains: dict[str, GainView]
    """By objective."""


class ResultView(View):
    """What a search has come to: chosen on the select split, measured on the report split."""

    winner: CandidateView
    finalists: list[CandidateView]
    comparisons: list[ComparisonView]


class SearchView(View):
    """One search."""

    id: str
    name: str
    state: State
    created_at: datetime
    method: str
    optimizer: str
    objectives: list[ObjectiveView]
    progress: Progress
    status: str | None = None
    """What the optimizer does now and why; null before its first candidate."""
    best: CandidateView | None
    """The winner once it is chosen; until then the best on the search split."""
    front_size: int
    hypervolume: float | None
    seq: int
    """Of its newest event."""
    problems: list[Problem] = []
    """Why it failed."""
    stopped: str | None = None
    """Why it stopped before its budget was spent; null where it did not, or was extended."""


class SearchDetail(SearchView):
    """One search whole."""

    spec: SearchSpec
    baselines: list[CandidateView]
    splits: list[SplitView] = []
    """Known once the models were read."""
    result: ResultView | None = None
    """Null before a winner was chosen; of an extended search that of the last time."""
    hypervolume_history: list[tuple[int, float]]
    """(evaluations, hypervolume), thinned to at most 500 points."""
    warnings: list[Problem] = []
    """What is worth knowing of its models, from their headers and from their weights, and of the
    engines that scored."""
    diagnoses: list[DiagnosisSummary] = []
    """How far each parent is from the base; empty before the weights were read."""
    noise: dict[str, NoiseView] = {}
    """By objective; empty before the survey."""
    pacing: PacingView | None = None
    """Null before the survey."""


class SearchPage(View):
    """Searches, newest first; ``next`` is the cursor of the next page."""

    items: list[SearchView]
    next: str | None


class CandidatePage(View):
    """Candidates by ordinal; ``next`` is the ``after`` of the next page."""

    items: list[CandidateView]
    next: int | None


class FrontView(View):
    """The candidates that no other dominates in the chosen objectives."""

    objectives: list[ObjectiveView]
    items: list[CandidateView]


class Command(BaseModel):
    """Something to do to a running search. ``evaluations`` is how many more an extension allows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["pause", "resume", "extend", "cancel"]
    evaluations: int | None = None


class EventView(View):
    """One entry of a search's log: the ``data`` of a server-sent event whose id is ``seq``."""

    seq: int
    kind: str
    """surveyed, failed, scored, infeasible, pause, resume, extend, cancel, stopped, selecting,
    selected, reporting, reported, finished, checkpoint_requested, checkpoint_stored,
    checkpoint_failed."""
    ordinal: int | None
    at: datetime
    candidate: CandidateView | None = None
    progress: Progress | None = None
    hypervolume: float | None = None
    state: State | None = None
    detail: dict[str, Any] = {}


class CheckpointState(View):
    """A form in which a candidate was asked for, and what became of it."""

    form: Form
    state: Literal["requested", "stored", "failed"]


class ExampleView(View):
    """An example and what two candidates scored on it, in the metric's own sign."""

    example: int
    """Its index in the task's own data."""
    document: str | None = None
    """16 hex digits of the sha256 of the document."""
    question: str = ""
    """The end of what the model was shown; empty where it was not kept."""
    answer: str = ""
    """The right one, where the task says."""
    score: float | None
    baseline_score: float | None


class DuelView(View):
    """One objective of two candidates: how many examples are won, lost and tied, and which."""

    key: str
    wins: int
    losses: int
    ties: int
    won: list[ExampleView]
    """The clearest first, up to the limit."""
    lost: list[ExampleView]


class SideBySideView(View):
    """A candidate beside another, example by example, on those that both were scored on."""

    ordinal: int
    baseline: int
    split: str
    objectives: list[DuelView]


class NoiseView(View):
    """How much the base's score depends on how examples are batched: differences are not real."""

    count: int
    """Examples that were scored in two ways."""
    largest: float | None
    """Absolute difference of an example's score."""
    flips: int
    """Examples that were right one way and wrong the other."""


class WayView(View):
    """One way to make forward passes, and the seconds that the same requests took so."""

    tokens: int
    threads: int
    seconds: float


class PacingView(View):
    """How forward passes are made: the fastest of the ways that the survey timed."""

    tokens: int
    """Of one pass, padding counted."""
    threads: int
    """Of the processor, for each worker."""
    tried: list[WayView]
    """Empty where so little is asked that nothing can be gained."""


class CheckpointView(View):
    """The checkpoint of a candidate."""

    state: Literal["requested", "stored", "failed"]
    form: Form = MODEL
    ordinal: int
    digest: str
    files: dict[str, FileView]
    scores: dict[str, ScoreView]
    """On the report split."""
    error: float = 0.0
    """What an adapter that was cut to a rank lacks of the exact change, relative to it."""
    reason: str | None = None


class FileView(View):
    """One file of a checkpoint."""

    sha256: str
    size_bytes: int


class NeedsView(View):
    """What a search takes of the machine that answers, and what is free there."""

    place: Literal["gpu", "pinned", "mmap"]
    """Where base and parents would live."""
    host_bytes: int
    mapped_bytes: int
    """Of files that are read for every candidate, from memory while they fit."""
    host_free_bytes: int
    device_bytes: int
    device_free_bytes: int
    """0 without an accelerator."""
    directions_bytes: int
    """At most, of what the method finds out once for all candidates."""
    directions_kept_bytes: int
    """That a worker has room for; the rest is found again for every candidate."""
    disk_bytes: int
    """Of one checkpoint."""
    disk_free_bytes: int
    merge_s: float
    forward_s: float
    candidate_s: float
    """Estimated seconds of one candidate on one worker, to one figure; ``basis`` says from what."""
    search_s: float
    """Estimated seconds of the whole budget on one worker."""
    basis: str


class Validation(View):
    """What is wrong with a spec (nothing, when ``problems`` is empty), and what it would cost."""

    valid: bool
    problems: list[Problem]
    genes: int = 0
    parameters: int = 0
    """Elements of the model."""
    memory_bytes: int = 0
    """Resident on a worker: base, parents and the model."""
    checkpoint_bytes: int = 0
    warnings: list[Problem] = []
    models: list[ModelFacts] = []
    copied: list[Copied] = []
    needs: NeedsView | None = None
    """Null where sizes are not known."""


class DoctorReport(Validation):
    """A validation, and what the weights say where they were read."""

    diagnoses: list[DiagnosisSummary] = []


class ParameterView(View):
    """A declared parameter of a merge method."""

    name: str
    description: str
    kind: str
    per_parent: bool
    per_block: bool
    """Searched for every block, or once for the whole model."""
    default: float | bool | str
    low: float | None
    high: float | None
    minimum: float | None
    maximum: float | None
    log: bool
    choices: list[str]


class MethodView(View):
    """A merge method.

    ``cost`` is what a candidate takes after the first: see ``search.method.Cost``. ``presets`` are
    the parameters that ``compat`` stands for, by preset.
    """

    name: str
    summary: str
    source: str
    uses_base: bool
    minimum_parents: int
    maximum_parents: int | None
    cost: str
    presets: dict[str, dict[str, float | bool | str]]
    parameters: list[ParameterView]


class OptimizerView(View):
    """An optimizer; ``options`` is the JSON schema of what may stand beside its name."""

    name: str
    summary: str
    source: str
    options: dict[str, Any]


class MetricView(View):
    """A metric of a task."""

    name: str
    higher_is_better: bool


class TaskView(View):
    """A task that can be an objective."""

    name: str
    output_type: str
    metrics: list[MetricView]
    examples: dict[str, int]
    """Per split, where known without loading data."""


class ModelView(View):
    """A checkpoint folder, or a LoRA adapter, found below a model root."""

    path: str
    parameters: int | None
    architecture: str | None
    dtype: str | None
    adapter_of: str | None = None
    """Of an adapter: the path of its base, or what its author called it where none is called so;
    null for a whole model."""
    problem: str | None = None


CheckpointView.model_rebuild()
CandidateDetail.model_rebuild()
SearchDetail.model_rebuild()
