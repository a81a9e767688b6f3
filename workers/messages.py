"""The two messages between a controller and its workers: small, plain, self-contained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from evals.batching import Pacing
from evals.fingerprint import Fingerprint
from evals.harness import Documents
from evals.noise import Noise
from evals.suite import Draw, Suite
from search.geometry import Geometry
from search.outcome import Scores
from search.racing import Race
from search.recipe import Recipe
from workers.doctor.summary import DiagnosisSummary


@dataclass(frozen=True, slots=True)
class Zoo:
    """The models that recipes of one search are about, as folders that every worker can read.

    ``parents`` maps names to folders in the order of the spec; ``dtype`` is float32, bfloat16 or
    float16.
    """

    base: str
    parents: tuple[tuple[str, str], ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Merge a recipe into the resident model and score it, to the end or until it is behind.

    ``gated``: a merge that is plainly broken is rejected before it is scored. The models that
    others are compared with are scored whatever they are.
    """

    recipe: Recipe
    suite: Suite
    gated: bool = True
    race: Race | None = None


@dataclass(frozen=True, slots=True)
class Confirm:
    """Merge a recipe and score it on examples that take no part in the search: select or report.

    What comes back is no outcome, and never reaches an optimizer. ``rungs``: only the first
    examples of each task, as many as the last says; the others say how many were asked for before,
    for answers depend a little on what is asked together. Empty for all at once.
    """

    recipe: Recipe
    suite: Suite
    rungs: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Survey:
    """Read every weight once: check that all are finite, hash the files, measure the geometry.

    The examples of a ``suite``, where there is one, are divided as well, and every split hashed;
    forward passes are timed, to find the fastest for all jobs of the search; and the base is scored
    on some examples, to see how much the order of sums matters.

    ``paced`` are such times of the same models and tasks, which are not taken again where they
    hold: so a search that is repeated is repeated to the last bit.
    """

    needs_geometry: bool
    suite: Suite | None = None
    paced: Pacing | None = None


class Form(BaseModel):
    """In which form the weights of a candidate are wanted.

    A whole model, or a LoRA adapter of the base: where every parent is one, and the method sums
    them. ``rank`` cuts the adapter; None keeps it exact.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["model", "adapter"] = Field(
        default="model", description="a whole model, or a LoRA adapter of the base"
    )
    rank: int | None = Field(
        default=None, ge=1, le=2**20, description="that an adapter is cut to; exact where not given"
    )

    @model_validator(mode="after")
    def _only_adapters_have_ranks(self) -> Self:
        if self.rank is not None and self.kind == "model":
            raise ValueError("rank is of an adapter; a whole model has none")
        return self

    def __str__(self) -> str:
        return self.kind if self.rank is None else f"{self.kind}-{self.rank}"


MODEL = Form()


@dataclass(frozen=True, slots=True)
class Export:
    """Write a recipe's checkpoint folder to ``destination`` and score it on the report split.

    ``card`` is what the model card says besides the recipe: ``models`` are their public names,
    ``sha256`` the hashes of their files, and everything else is a line of its own. ``baselines``
    are (name, report scores) pairs that the card compares it with.
    """

    recipe: Recipe
    suite: Suite
    destination: str
    card: dict[str, object] = field(default_factory=dict)
    form: Form = MODEL
    baselines: tuple[tuple[str, Scores], ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """A unit of work with all that a worker needs. ``id`` is unique among jobs in flight."""

    id: str
    zoo: Zoo
    work: Evaluate | Confirm | Survey | Export


@dataclass(frozen=True, slots=True)
class Timings:
    """Wall-clock seconds of one evaluation: merging, the forward passes, everything else."""

    merge_s: float
    forward_s: float
    other_s: float


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Scores by objective, on the split that was asked for, and of which engine they are."""

    scores: Scores
    timings: Timings
    fingerprint: Fingerprint = field(default_factory=dict)
    left_early: bool = False


@dataclass(frozen=True, slots=True)
class Calibration:
    """Of which engine scores will be, and how much its batches matter.

    Args:
        fingerprint: of this worker's engine.
        noise: by objective, of the base on some search examples.
        pacing: how forward passes are made from now on; None where the base answers nothing.
    """

    fingerprint: Fingerprint
    noise: dict[str, Noise]
    pacing: Pacing | None = None


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Scores by objective on the select or the report split."""

    scores: Scores
    timings: Timings
    fingerprint: Fingerprint = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Surveyed:
    """sha256 of every weight file, by ``model/file``, and the geometry where it was asked for.

    ``warnings`` are (field, message) pairs of what is worth knowing of the parents and the tasks;
    ``diagnoses`` say how far each parent is from the base; ``draws`` which examples each split of
    each task holds, ``documents`` what they are.
    ``models`` are digests of all that a merge or a score reads of a model, by name.
    """

    sha256: dict[str, str]
    geometry: Geometry | None
    warnings: tuple[tuple[str, str], ...] = ()
    diagnoses: tuple[DiagnosisSummary, ...] = ()
    draws: tuple[Draw, ...] = ()
    documents: tuple[Documents, ...] = ()
    models: dict[str, str] = field(default_factory=dict)
    calibration: Calibration | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """A finished checkpoint folder.

    ``files`` maps names to (sha256, size in bytes). ``scores`` are those of the resident model on
    the report split, and agree with those of the written folder as loaded by a fresh process.
    ``error`` is what a cut adapter lacks of the exact change, as a Frobenius norm relative to it.
    """

    files: dict[str, tuple[str, int]]
    scores: Scores
    error: float = 0.0


@dataclass(frozen=True, slots=True)
class Rejected:
    """The work cannot be done, now or ever: the reason is for the user.

    ``problems`` are (field or file, message) pairs where the models themselves are at fault.
    ``fingerprint`` is of the engine that found a candidate to be broken, where that follows from
    the recipe and the models: every such engine finds the same. Empty where it was bad luck.
    """

    reason: str
    problems: tuple[tuple[str, str], ...] = ()
    fingerprint: Fingerprint = field(default_factory=dict)


Result = Evaluated | Confirmed | Surveyed | Exported | Rejected


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a job, from which worker, at which attempt (1 is the first)."""

    job: str
    result: Result
    worker: str
    attempt: int = 1
