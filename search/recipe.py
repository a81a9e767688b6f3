"""Plain data that fully determines one merged model, given the parents' weights."""

from __future__ import annotations

import hashlib
import json
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from search.layout import Partition

Row = float | tuple[float, ...]
Value = bool | float | str | tuple[Row, ...]


# More layers than any model has.
MOST_STEPS = 1024


def _is_empty(path: tuple[Step, ...]) -> bool:
    return not path


class Step(BaseModel):
    """A layer that hidden states pass through.

    Args:
        model: whose layer it is: a parent or ``base``; None for the merge of the recipe.
        layer: its number there.
        scale: what the hidden state is multiplied with that enters it.
        weights: what tensors of the layer are multiplied with, by their names within it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str | None = None
    layer: int = Field(ge=0)
    scale: float = Field(default=1.0, gt=0)
    weights: dict[str, float] = {}


class Recipe(BaseModel):
    """How to merge: one method, and its parameters for every block of the model.

    A parameter is either one value for the whole model, or a table with a row for every block; a
    row is a number, or one number per parent where the method declares the parameter
    ``per_parent``.

    With a ``path`` the layers of the model are its steps, in this order; what is outside of layers
    is the merge's. Without, they are the layers of the merge.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: str
    parents: tuple[str, ...] = Field(min_length=1)
    partition: Partition = "model"
    blocks: tuple[str, ...] = Field(default=("model",), min_length=1)
    parameters: dict[str, Value] = {}
    seed: int = Field(default=0, ge=0)
    # Not told where there is none: digests of other recipes stay what they were.
    path: tuple[Step, ...] = Field(default=(), max_length=MOST_STEPS, exclude_if=_is_empty)

    @model_validator(mode="after")
    def _tables_have_a_row_per_block(self) -> Self:
        for name, value in self.parameters.items():
            if isinstance(value, tuple) and len(value) != len(self.blocks):
                raise ValueError(
                    f"parameters.{name} has {len(value)} rows for {len(self.blocks)} blocks"
                )
        return self

    @property
    def models(self) -> tuple[str, ...]:
        """Names of all that it takes something of: its parents, and whose layers its path has."""
        stepped = (step.model for step in self.path if step.model is not None)
        return tuple(dict.fromkeys((*self.parents, *stepped)))

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
