"""A parameter's value in a mergekit configuration, which may depend on depth and tensor name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search.problems import Problem

Value = bool | float


@dataclass(frozen=True, slots=True)
class _Entry:
    """Values at evenly spaced places of the depth, for tensors whose names contain ``part``."""

    part: str
    knots: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a configuration gives one parameter.

    It is a number, a flag, a list (a gradient: interpolated over the layers), or a list of
    ``{filter, value}`` whose values may be gradients again; the first filter that is part of a
    tensor's name counts.

    Args:
        field: where it stands, as the user wrote it.
    """

    field: str
    entries: tuple[_Entry, ...]

    def at(self, tensor: str, place: float) -> Value | None:
        """The value for a tensor at a place of the depth in [0, 1]; None if no filter fits."""
        for entry in self.entries:
            if entry.part in tensor:
                return _interpolated(entry.knots, place)
        return None


def parse_settings(
    section: Mapping[str, Any] | None, field: str, problems: list[Problem]
) -> dict[str, Setting]:
    """A ``parameters`` section.

    Args:
        section: as parsed.
        field: where it stands.
        problems: receives what is wrong with it.
    """
    return {
        name: Setting(f"{field}.{name}", tuple(_entries(value, f"{field}.{name}", problems)))
        for name, value in (section or {}).items()
    }


def _interpolated(knots: Sequence[Value], place: float) -> Value:
    if len(knots) == 1:
        return knots[0]
    position = place * (len(knots) - 1)
    low = int(position)
    high = min(low + 1, len(knots) - 1)
    share = position - low
    return (1 - share) * knots[low] + share * knots[high]


def _entries(value: Any, field: str, problems: list[Problem]) -> list[_Entry]:
    if isinstance(value, dict):
        return [_conditional(value, field, problems)]
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return [_conditional(item, f"{field}[{i}]", problems) for i, item in enumerate(value)]
    return [_Entry("", _knots(value, field, problems))]


def _conditional(entry: dict[str, Any], field: str, problems: list[Problem]) -> _Entry:
    part = entry.get("filter")
    if "value" not in entry or entry.keys() - {"filter", "value"}:
        message = "has a `value`, and may have a `filter`: a part of tensor names; nothing else"
        problems.append(Problem(field=field, message=message))
        return _Entry("", ())
    if not (part is None or isinstance(part, str)):
        message = f"is a part of tensor names, not {part!r}"
        problems.append(Problem(field=f"{field}.filter", message=message))
    everything = part is None or part == "*"
    return _Entry("" if everything else str(part), _knots(entry["value"], field, problems))


def _knots(value: Any, field: str, problems: list[Problem]) -> tuple[Value, ...]:
    knots = [_number(knot) for knot in (value if isinstance(value, list) else [value])]
    good = [knot for knot in knots if knot is not None]
    if not good or len(good) < len(knots):
        message = (
            f"is {value!r}; write a number, a list of numbers over the depth, or a list of "
            "{filter, value}"
        )
        problems.append(Problem(field=field, message=message))
    return tuple(good)


def _number(value: Any) -> Value | None:
    """A flag or a number; YAML reads ``1e-5`` as a word, and mergekit as a number."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
