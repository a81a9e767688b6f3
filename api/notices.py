"""A reader of the log: what is worth knowing of a search, and stops nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from api.store.records import Event
from search.problems import Problem


class Notices:
    """Whether all scores are of one engine, and how exact they are; folded from events.

    Attributes:
        noise: by objective, as the survey measured it (`evals.noise.Noise`).
    """

    def __init__(self) -> None:
        self.noise: Mapping[str, Mapping[str, Any]] = {}
        self._engines: list[dict[str, str]] = []

    def feed(self, events: Iterable[Event]) -> None:
        """Read on."""
        for event in events:
            if event.kind == "surveyed":
                self.noise = event.body.get("noise", {})
            engine = event.body.get("engine")
            if engine is not None and engine not in self._engines:
                self._engines.append(engine)

    @property
    def problems(self) -> list[Problem]:
        """Each with the field that it is about."""
        if len(self._engines) < 2:
            return []
        names = dict.fromkeys(name for engine in self._engines for name in engine)
        found = {
            name: list(dict.fromkeys(engine.get(name, "?") for engine in self._engines))
            for name in names
        }
        differences = "; ".join(
            f"{name} ({', '.join(values)})" for name, values in found.items() if len(values) > 1
        )
        message = (
            f"scores are of {len(self._engines)} different engines, which differ in {differences}; "
            "a small difference between two candidates may be one between their engines"
        )
        return [Problem(field="engine", message=message)]
