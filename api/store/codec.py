"""Nouns to columns and back, to the bit."""

from __future__ import annotations

import io
import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, astuple
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row

from api.store.records import (
    ConfirmationKind,
    Entry,
    Event,
    EventKind,
    Known,
    OutcomeKind,
    Provenance,
    Search,
    Submission,
    Summary,
)
from evals.batching import Batching, Pacing
from evals.harness import Document, Documents
from evals.suite import Split
from search.geometry import Geometry
from search.intervals import interval
from search.layout import Layout
from search.outcome import (
    Candidate,
    Confirmation,
    HeldOut,
    Infeasible,
    Origin,
    Outcome,
    Score,
    Scored,
    Scores,
    Unconfirmed,
)
from search.recipe import Recipe
from search.spec import SearchSpec
from workers.messages import Surveyed, Timings, Zoo

# Tag and number of scores, then the compressed scores themselves.
_HEADER = struct.Struct("<cI")
_BITS, _FLOATS = b"b", b"f"
# Of so many examples of a task and split the texts are kept.
_TOLD = 2000
_ONE = np.float32(1).view(np.uint32)


def pack_examples(scores: NDArray[np.float32]) -> bytes:
    """(n,) as a bitset where all are 0 or 1, else as little-endian floats; compressed."""
    values = np.ascontiguousarray(scores, dtype="<f4")
    words = values.view(np.uint32)  # so that -0.0 is not taken for 0
    ones = words == _ONE
    if np.all(ones | (words == 0)):
        return _HEADER.pack(_BITS, len(values)) + zlib.compress(np.packbits(ones).tobytes(), 1)
    return _HEADER.pack(_FLOATS, len(values)) + zlib.compress(values.tobytes(), 1)


def unpack_examples(blob: bytes) -> NDArray[np.float32]:
    """The inverse; read-only."""
    tag, count = _HEADER.unpack_from(blob)
    data = np.frombuffer(zlib.decompress(blob[_HEADER.size :]), dtype=np.uint8)
    if tag == _BITS:
        values = np.unpackbits(data, count=count).astype(np.float32)
    else:
        values = data.view("<f4").astype(np.float32)
    values.flags.writeable = False
    return values


def pack_geometry(geometry: Geometry | None) -> bytes | None:
    """Both arrays in one npz."""
    if geometry is None:
        return None
    buffer = io.BytesIO()
    np.savez_compressed(buffer, boundaries=geometry.boundaries, gram=geometry.gram)
    return buffer.getvalue()


def unpack_geometry(blob: bytes | None) -> Geometry | None:
    """The inverse."""
    if blob is None:
        return None
    with np.load(io.BytesIO(blob), allow_pickle=False) as arrays:
        return Geometry(boundaries=arrays["boundaries"], gram=arrays["gram"])


def number(value: float) -> float | str:
    """A float for JSON, which has neither NaN nor infinity: those are written as words."""
    return value if math.isfinite(value) else str(value)


def scores_to_json(scores: Scores) -> dict[str, Any]:
    """Aggregates only, with their intervals."""
    return {
        key: {
            "value": number(float(score.value)),
            "stderr": number(float(score.stderr)),
            "count": int(score.count),
            "low": number(low),
            "high": number(high),
        }
        for key, score in scores.items()
        for low, high in (interval(score),)
    }


def scores_from_json(document: Mapping[str, Any]) -> dict[str, Summary]:
    """The inverse."""
    return {
        key: Summary(
            float(score["value"]),
            float(score["stderr"]),
            score["count"],
            float(score.get("low", math.nan)),
            float(score.get("high", math.nan)),
        )
        for key, score in document.items()
    }


def candidate_to_columns(candidate: Candidate) -> dict[str, Any]:
    """Every column that says what the candidate is."""
    origin = candidate.origin
    return {
        "ordinal": candidate.ordinal,
        "digest": candidate.recipe.digest,
        "recipe": candidate.recipe.canonical(),
        "genome": None
        if candidate.genome is None
        else np.asarray(candidate.genome, dtype="<f8").tobytes(),
        "origin": {
            "move": origin.move,
            "parents": [int(parent) for parent in origin.parents],
            "detail": {
                key: value if isinstance(value, str) else number(float(value))
                for key, value in origin.detail.items()
            },
        },
    }


def candidate_from_columns(row: Row[Any]) -> Candidate:
    """The inverse."""
    origin = row.origin
    return Candidate(
        ordinal=row.ordinal,
        recipe=Recipe.model_validate_json(row.recipe),
        origin=Origin(origin["move"], tuple(origin["parents"]), origin["detail"]),
        genome=None if row.genome is None else tuple(np.frombuffer(row.genome, "<f8").tolist()),
    )


def entry_from_columns(row: Row[Any]) -> Entry:
    """A candidate beside its outcome event, or nothing in the place of that."""
    candidate = candidate_from_columns(row)
    if row.seq is None:
        return Entry(candidate, row.digest, row.created_at)
    timings = row.body["timings"]
    return Entry(
        candidate,
        row.digest,
        row.created_at,
        outcome=_event(row.seq, row.kind, row.ordinal, row.recorded_at, row.body),
        timings=None if timings is None else Timings(*timings),
        worker=row.body["worker"],
        engine=row.body.get("engine", {}),
        cached=row.body.get("cached", False),
    )


def event_from_columns(row: Row[Any]) -> Event:
    """An entry of the log."""
    return _event(row.seq, row.kind, row.ordinal, row.created_at, row.body)


def _event(
    seq: int, kind: EventKind, ordinal: int | None, at: datetime, body: Mapping[str, Any]
) -> Event:
    scored = kind in ("scored", "selected", "reported")
    scores = scores_from_json(body.get("scores", {})) if scored else {}
    return Event(seq, kind, ordinal, at, body, scores)


def examples_to_rows(
    search_id: str, ordinal: int, split: Split, scores: Scores, first: int | None = None
) -> list[dict[str, Any]]:
    """A row of the table of examples for every objective."""
    key = {"search_id": search_id, "ordinal": ordinal, "split": split.value, "first": first or 0}
    return [
        {**key, "objective": objective, "scores": pack_examples(score.examples)}
        for objective, score in scores.items()
    ]


def outcome_to_columns(
    outcome: Outcome, provenance: Provenance
) -> tuple[OutcomeKind, dict[str, Any]]:
    """Kind and body of the event; the examples have a table of their own."""
    body = _provenance_to_json(provenance)
    match outcome:
        case Scored(scores=scores, left_early=left_early):
            return "scored", {**body, "scores": scores_to_json(scores), "left_early": left_early}
        case Infeasible(reason=reason):
            return "infeasible", {**body, "reason": reason}


def confirmation_to_columns(
    confirmation: Confirmation, provenance: Provenance
) -> tuple[ConfirmationKind, dict[str, Any]]:
    """Likewise."""
    kind = confirmation_kind(confirmation.split)
    body = _provenance_to_json(provenance)
    if confirmation.first is not None:
        body["first"] = confirmation.first
    match confirmation:
        case HeldOut(scores=scores):
            return kind, {**body, "scores": scores_to_json(scores)}
        case Unconfirmed(reason=reason):
            return kind, {**body, "reason": reason}


def confirmation_kind(split: Split) -> ConfirmationKind:
    """What the log calls scores on a split."""
    return "selected" if split is Split.SELECT else "reported"


def _provenance_to_json(provenance: Provenance) -> dict[str, Any]:
    times = provenance.timings
    body: dict[str, Any] = {
        "timings": None if times is None else [times.merge_s, times.forward_s, times.other_s],
        "worker": provenance.worker,
    }
    if provenance.engine:
        body["engine"] = dict(provenance.engine)
    if provenance.cached:
        body["cached"] = True
    return body


def outcome_from_entry(entry: Entry, blobs: Mapping[str, bytes]) -> Outcome:
    """What an optimizer is told: the outcome with all examples."""
    if entry.outcome is None:
        raise ValueError(f"candidate {entry.candidate.ordinal} is pending")
    if entry.outcome.kind == "infeasible":
        return Infeasible(entry.candidate, entry.outcome.body["reason"])
    scores = {
        key: Score(score.value, score.stderr, score.count, unpack_examples(blobs[key]))
        for key, score in entry.outcome.scores.items()
    }
    return Scored(entry.candidate, scores, entry.left_early)


def known_from_row(event: Row[Any]) -> Known:
    """Where an event with scores is, or with the reason why there are none, and who found them."""
    provenance = Provenance(event.body["worker"], engine=event.body["engine"], cached=True)
    body = event.body
    return Known(event.search_id, event.ordinal, provenance, body.get("reason"), body.get("first"))


def survey_to_body(surveyed: Surveyed) -> dict[str, Any]:
    """What of a survey is in its event; the rest has tables of its own."""
    body: dict[str, Any] = {
        "warnings": [{"field": field, "message": text} for field, text in surveyed.warnings],
        "diagnoses": [asdict(one) for one in surveyed.diagnoses],
        "draws": [asdict(draw) for draw in surveyed.draws],
    }
    if surveyed.models:
        body["models"] = dict(surveyed.models)
    if surveyed.calibration is not None:
        body["engine"] = dict(surveyed.calibration.fingerprint)
        body["noise"] = {
            key: {"count": noise.count, "largest": number(noise.largest), "flips": noise.flips}
            for key, noise in surveyed.calibration.noise.items()
        }
        if surveyed.calibration.pacing is not None:
            body["pacing"] = _pacing_to_json(surveyed.calibration.pacing)
    return body


def _pacing_to_json(pacing: Pacing) -> dict[str, Any]:
    return {
        **asdict(pacing.batching),
        "device": pacing.device,
        "seconds": [[*astuple(way), seconds] for way, seconds in pacing.seconds.items()],
    }


def pacing_from_json(document: Mapping[str, Any]) -> Pacing:
    """What the event of a survey says of forward passes."""
    return Pacing(
        Batching(document["tokens"], document["threads"]),
        document["device"],
        {Batching(tokens, threads): s for tokens, threads, s in document["seconds"]},
    )


def documents_to_columns(documents: Documents) -> dict[str, Any]:
    """A row of the table of documents but for its search."""
    rows = [
        [one.index, one.digest, *((one.question, one.answer) if place < _TOLD else ("", ""))]
        for place, one in enumerate(documents.documents)
    ]
    return {
        "task": documents.task,
        "split": documents.split.value,
        "documents": zlib.compress(json.dumps(rows, ensure_ascii=False).encode()),
    }


def documents_from_columns(row: Row[Any]) -> Documents:
    """The inverse, but for the texts of examples beyond the first thousands."""
    rows = json.loads(zlib.decompress(row.documents))
    return Documents(row.task, Split(row.split), tuple(Document(*fields) for fields in rows))


def submission_to_columns(submission: Submission) -> dict[str, Any]:
    """Every column but identity and time."""
    return {
        "spec": submission.spec.model_dump_json(),
        "layout": submission.layout.model_dump_json(),
        "zoo": asdict(submission.zoo),
        "directions": dict(submission.directions),
        "task_folders": {
            "all": list(submission.task_folders),
            "trusted": list(submission.trusted_folders),
        },
        "facts": dict(submission.facts),
    }


def search_from_columns(row: Row[Any]) -> Search:
    """The inverse, with identity and time."""
    zoo = row.zoo
    folders = row.task_folders
    if isinstance(folders, list):  # of a search from before any could be trusted
        folders = {"all": folders, "trusted": []}
    # A search from before there were races goes on without.
    spec = {"racing": 0.0, **json.loads(row.spec)}
    submission = Submission(
        spec=SearchSpec.model_validate(spec),
        layout=Layout.model_validate_json(row.layout),
        zoo=Zoo(zoo["base"], tuple((name, path) for name, path in zoo["parents"]), zoo["dtype"]),
        directions=row.directions,
        task_folders=tuple(folders["all"]),
        trusted_folders=tuple(folders["trusted"]),
        facts=row.facts,
    )
    return Search(row.id, row.created_at, submission)
