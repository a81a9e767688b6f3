"""What is wrong with something a user wrote: gathered, never one at a time."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict


class Problem(BaseModel):
    """One thing that is wrong, where it is, and what to do about it.

    ``field`` is the path as the user wrote it (``parents[1].path``), or a file name.
    """

    model_config = ConfigDict(frozen=True)

    field: str
    message: str


class Invalid(ValueError):
    """Input that cannot be worked with; carries every problem that was found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{p.field}: {p.message}" for p in self.problems))
