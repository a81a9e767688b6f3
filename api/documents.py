"""From the bytes of a request or file to a plain document that is safe to look at."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from search.problems import Invalid, Problem
from search.spec import field_path

_DEEPEST = 32
_LARGEST = 2**63


def parse_json(text: bytes) -> Any:
    """A JSON document.

    Raises:
        Invalid: not JSON, nested deeper than a spec ever is, or with text or numbers that neither
            JSON nor a database can hold.
    """
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # malformed JSON, bad UTF-8, or a number of thousands of digits
        raise _invalid(f"is not JSON: {str(error).partition(';')[0]}") from None
    return _checked(document)


def parse_yaml(text: bytes) -> Any:
    """A YAML document; anchors and aliases are refused, because they can expand without end.

    Raises:
        Invalid: like `parse_json`.
    """
    try:
        _check_events(yaml.parse(text, Loader=yaml.CSafeLoader))
        document = yaml.load(text, Loader=yaml.CSafeLoader)
    except RecursionError:
        raise _too_deep() from None
    except Invalid:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise _invalid(f"is not YAML: {error.problem or error.context}{where}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise _invalid(f"is not YAML: {str(error).partition(';')[0].splitlines()[0]}") from None
    return _checked(document)


def _check_events(events: Iterator[yaml.Event]) -> None:
    """Refuse depth, aliases and tags from the stream of events, before anything is built."""
    depth = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise _invalid("uses a YAML alias (*name); write the value out")
        if getattr(event, "tag", None) is not None:
            raise _invalid("uses a YAML tag (!name); a spec has none")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise _too_deep()


def _checked(document: Any) -> Any:
    problems = list(_problems(document, ()))
    if problems:
        raise Invalid(problems)
    return document


def _problems(value: Any, path: tuple[str | int, ...]) -> Iterator[Problem]:
    """What a value holds that is not plain JSON, or that could not be stored."""
    if len(path) > _DEEPEST:
        raise _too_deep()
    match value:
        case dict():
            for key, item in value.items():
                if not isinstance(key, str) or _unprintable(key):
                    yield _problem(path, f"has a key that is not plain text: {key!r}")
                else:
                    yield from _problems(item, (*path, key))
        case list():
            for position, item in enumerate(value):
                yield from _problems(item, (*path, position))
        case str() if _unprintable(value):
            yield _problem(path, "holds control characters or broken Unicode")
        case bool() | str() | None:
            pass
        case int() if abs(value) >= _LARGEST:
            yield _problem(path, "is a number beyond 64 bits")
        case float() if not math.isfinite(value):
            yield _problem(path, f"is {value}; write a finite number")
        case int() | float():
            pass
        case _:
            yield _problem(path, f"was read as a {type(value).__name__}; put it in quotes")


def _unprintable(text: str) -> bool:
    return any((c < " " and c not in "\t\n\r") or "\ud800" <= c <= "\udfff" for c in text)


def _problem(path: tuple[str | int, ...], message: str) -> Problem:
    return Problem(field=field_path(path) or "spec", message=message)


def _invalid(message: str) -> Invalid:
    return Invalid([Problem(field="spec", message=message)])


def _too_deep() -> Invalid:
    return _invalid(f"is nested deeper than {_DEEPEST} levels; a spec needs 5")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
