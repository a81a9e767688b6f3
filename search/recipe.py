"""Plain data that fully determines one merged model, given the parents' weights."""

from __future__ import annotations

import hashlib
import json
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from search.layout import Partition

Row = float | tuple[float, ...]
Value = bool | float | str | tuple[Row, ...]


class Recipe(BaseModel):
    """How to merge: one method, and its parameters for every block of the model.

    A parameter is either one value for the whole model, or a table with a row for every block; a
    row is a number, or one number per parent where the method declares the parameter
    ``per_parent``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: str
    parents: tuple[str, ...] = Field(min_length=1)
    partition: Partition = "model"
    blocks: tuple[str, ...] = Field(default=("model",), min_length=1)
    parameters: dict[str, Value] = {}
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _tables_have_a_row_per_block(self) -> Self:
        for name, value in self.parameters.items():
            if isinstance(value, tuple) and len(value) != len(self.blocks):
                raise ValueError(
                    f"parameters.{name} has {len(value)} rows for {len(self.blocks)} blocks"
                )
        return self

    def at(self, block: int) -> dict[str, bool | float | str | tuple[float, ...]]:
        """Parameter values that hold in one block."""
        return {
            name: value[block] if isinstance(value, tuple) else value
            for name, value in self.parameters.items()
        }

    def canonical(self) -> str:
        """The JSON text that the digest is taken of: sorted keys, no spaces, exact floats."""
        document = self.model_dump(mode="json")
        return json.dumps(document, sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """sha256 of the canonical form, in hex."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


def mixture(parents: tuple[str, ...], weight: tuple[float, ...]) -> Recipe:
    """The plain weighted sum of parents over the whole model: a single parent, their average.

    The pseudo parent ``base`` is understood by every worker.
    """
    return Recipe(
        method="linear", parents=parents, parameters={"weight": (weight,), "normalize": False}
    )
