"""What is known of candidates already, found by all that it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np
from pydantic import BaseModel

from api.store import Known, Provenance, Search, Store, pacing_from_json
from evals import fingerprint, harness
from evals.batching import Pacing
from evals.fingerprint import Fingerprint
from search.outcome import Origin
from search.spec import BASE
from workers.messages import Confirm, Evaluate

# Told by what is in them, or of no consequence for a score.
_NOT_CONTENT = {"recipe", "suite"}
# Among so many searches one is looked for that has the same forward passes.
_RECENT = 100


class Cache:
    """Finds scores of one search, and why there are none, among those of the whole database.

    What a score depends on: the recipe and all that is in the models that it names, the dtype, what
    the tasks ask and how they score it, everything else that the job says, and the engine. The
    engine is taken to be the one that surveyed the search; scores of another are not used, and not
    missed: what is not known is measured.

    Args:
        store: the log.
        search: for which.
    """

    def __init__(self, store: Store, search: Search) -> None:
        self._store = store
        self._search = search
        self._survey: Mapping[str, Any] | None = None
        self._others: dict[str, Cache] = {}

    def content(self, work: Evaluate | Confirm) -> str:
        """sha256 of all that the scores of a job depend on but the engine.

        Empty where the survey did not say: of a log that an older version began.
        """
        survey = self._read_survey()
        if survey is None or not survey.get("models") or not survey.get("draws"):
            return ""
        split = str(work.suite.split)
        asked = {one["task"]: one["digest"] for one in survey["draws"] if one["split"] == split}
        references = harness.references(work.suite.objectives).values()
        named = sorted({BASE, *work.recipe.parents, *references})
        return _sha256(
            {
                "kind": type(work).__name__,
                "recipe": work.recipe.canonical(),
                "models": [(name, survey["models"][name]) for name in named],
                "dtype": self._search.submission.zoo.dtype,
                "tasks": [(o.task, o.metric, asked.get(o.task, "")) for o in work.suite.objectives],
                "split": split,
                "limit": work.suite.limit,
                "more": {
                    field.name: _plain(getattr(work, field.name))
                    for field in fields(work)
                    if field.name not in _NOT_CONTENT
                },
            }
        )

    def find(self, content: str) -> Known | None:
        """What a job of this content came to before, with the engine of this search."""
        survey = self._read_survey()
        if not content or survey is None or "engine" not in survey:
            return None
        return self._store.known(score_key(content, survey["engine"]))

    def kept(self, origin: Origin, work: Evaluate) -> Known | None:
        """Whose outcome a candidate has that another search has measured.

        None where that search had other models, other examples or another engine: then it is
        measured here.
        """
        search_id, ordinal = str(origin.detail["search"]), int(origin.detail["ordinal"])
        content = self.content(work)
        if not content or content != self._of(search_id).content(work):
            return None
        entry = self._store.candidate(search_id, ordinal)
        if entry is None or entry.outcome is None:
            return None
        survey = self._read_survey() or {}
        if entry.outcome.kind == "scored" and entry.engine != survey.get("engine"):
            return None
        provenance = Provenance(entry.worker or "", engine=entry.engine, cached=True)
        return Known(search_id, ordinal, provenance)

    def _of(self, search_id: str) -> Cache:
        """The same for another search."""
        if search_id not in self._others:
            self._others[search_id] = Cache(self._store, self._store.search(search_id))
        return self._others[search_id]

    def pacing(self) -> Pacing | None:
        """How fast forward passes were in the newest search that asks the same models the same.

        With other passes its scores would be of another engine, and none could be found again.
        """
        for search in self._store.searches(limit=_RECENT):
            if search.id == self._search.id or _asks(search) != _asks(self._search):
                continue
            event = self._store.survey(search.id)
            if event is not None and "pacing" in event.body:
                return pacing_from_json(event.body["pacing"])
        return None

    def _read_survey(self) -> Mapping[str, Any] | None:
        if self._survey is None:
            event = self._store.survey(self._search.id)
            self._survey = None if event is None else event.body
        return self._survey


def score_key(content: str, engine: Fingerprint) -> str:
    """What a score is found by."""
    return _sha256([content, fingerprint.digest(engine)])


def _asks(search: Search) -> tuple[object, ...]:
    """What the time of a forward pass depends on, as far as a submission says."""
    tasks = {objective.task for objective in search.spec.objectives}
    return search.submission.zoo, search.submission.task_folders, search.spec.evaluation, tasks


def _sha256(document: object) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> object:
    """A message as JSON, arrays as their digests: equal for equal messages, and for no others."""
    match value:
        case None | bool() | int() | float() | str():
            return value.value if isinstance(value, Enum) else value
        case np.ndarray():
            bits = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
            return [str(value.dtype), list(value.shape), bits]
        case BaseModel():
            return value.model_dump(mode="json")
        case Mapping():
            return [[_plain(key), _plain(inner)] for key, inner in sorted(value.items())]
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case _ if is_dataclass(value):
            inner = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
            return [type(value).__name__, inner]
        case _:
            raise TypeError(f"{type(value).__name__} is no part of a message")
