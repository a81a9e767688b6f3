"""What the command line does without a server: merge local folders, score a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from pydantic import ValidationError

from api.documents import parse_json, parse_yaml
from api.schemas import finite
from evals.harness import Report
from evals.requests import Unscorable
from evals.score import report_folder
from evals.suite import Split, Suite
from search.layout import Layout
from search.problems import Invalid, Problem
from search.recipe import Recipe
from search.registry import UnknownName, suggestion
from search.spec import BASE, DType, Evaluation, problems_of
from workers.merge_folder import Written, merge_into_folder
from workers.mergekit import (
    Configuration,
    Stacking,
    parse_configuration,
    place_of,
    recipe_of,
)
from workers.merging.merge_method import methods
from workers.messages import Zoo
from workers.planning.preflight import preflight


@dataclass(frozen=True, slots=True)
class Merged:
    """What was written, and what was left out of the file that asked for it, and why."""

    written: Written
    notes: tuple[Problem, ...] = ()


def merge_file(
    text: bytes,
    beside: Path,
    models: Mapping[str, str],
    folder: Path,
    *,
    dtype: str = "auto",
    as_adapter: bool = False,
    rank: int | None = None,
) -> Merged:
    """Merge local checkpoints as a file says: a recipe, or a mergekit configuration.

    Args:
        text: YAML or JSON. Beside a recipe's fields it may have ``models``, which maps names to
            folders; a mergekit configuration names folders as its models.
        beside: where relative folders of the file start.
        models: names and folders, or models as the configuration calls them; these win.
        folder: is written.
        dtype: of the result; that of the configuration, or else of the base, when ``auto``.
        as_adapter: write a LoRA adapter of the base, where the merge is one.
        rank: of that adapter at most; None for an exact one.

    Raises:
        Invalid: the file or the models cannot be merged.
    """
    document = parse_json(text) if text.lstrip().startswith(b"{") else parse_yaml(text)
    if not isinstance(document, dict):
        raise Invalid([Problem(field="recipe", message="is not a mapping of fields")])
    if "merge_method" in document:
        configuration = parse_configuration(document)
        places = _places(configuration, beside, models)
        wanted = configuration.dtype if dtype == "auto" else dtype
        zoo, layout = _zoo(configuration.parents, places, wanted)
        recipe = recipe_of(configuration, layout)
        written = merge_into_folder(recipe, zoo, folder, as_adapter=as_adapter, rank=rank)
        return Merged(written, configuration.notes)
    recipe, named = _recipe(document)
    places = {name: beside / place for name, place in named.items()}
    places |= {name: Path(place) for name, place in models.items()}
    zoo, _ = _zoo(recipe.models, places, dtype)
    return Merged(merge_into_folder(recipe, zoo, folder, as_adapter=as_adapter, rank=rank))


def _recipe(document: dict[str, Any]) -> tuple[Recipe, dict[str, str]]:
    named = document.pop("models", {})
    if not isinstance(named, dict) or not all(isinstance(v, str) for v in named.values()):
        raise Invalid([Problem(field="models", message="maps names to folders")])
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        raise Invalid(problems_of(error, Recipe)) from None
    try:
        methods[recipe.method]
    except UnknownName as error:
        raise Invalid([Problem(field="method", message=str(error))]) from None
    return recipe, named


def _places(
    configuration: Configuration | Stacking, beside: Path, models: Mapping[str, str]
) -> dict[str, Path]:
    """Folders of a configuration's models: as given by model or name, else as it calls them."""
    places = {}
    problems = []
    for name, model in configuration.models.items():
        given = models.get(model, models.get(name))
        places[name] = beside / place_of(model) if given is None else Path(given)
        if given is None and not places[name].is_dir():
            place = place_of(model)
            message = f"there is no folder '{place}' beside the file; give --model {model}=folder"
            problems.append(Problem(field=f"models.{name}", message=message))
    if problems:
        raise Invalid(problems)
    return places


def _zoo(parents: Sequence[str], places: Mapping[str, Path], dtype: str) -> tuple[Zoo, Layout]:
    """The models that a recipe merges, if they fit together, and the base's layout."""
    problems = [
        Problem(field=f"models.{name}", message="is needed; give --model name=folder")
        for name in dict.fromkeys((BASE, *parents))
        if name not in places
    ]
    if dtype not in get_args(DType):
        message = f"'{dtype}' is none; {suggestion(dtype, get_args(DType))}"
        problems.append(Problem(field="dtype", message=message))
    if problems:
        raise Invalid(problems)
    others = [name for name in parents if name != BASE]
    found = preflight(
        (f"models.{BASE}", places[BASE]),
        [(f"models.{name}", name, places[name]) for name in others],
    )
    if found.problems or found.layout is None:
        raise Invalid(found.problems)
    zoo = Zoo(
        base=str(places[BASE]),
        parents=tuple((name, str(places[name])) for name in others),
        dtype=found.dtype if dtype == "auto" else dtype,
    )
    return zoo, found.layout


def score_tasks(folder: Path, tasks: Sequence[str], suite: Suite, *, dtype: str) -> Report:
    """Every metric of some tasks, groups and tags on a folder, as lm-eval reports them.

    Args:
        folder: of the checkpoint.
        tasks: names.
        suite: how they are found and asked.
        dtype: to compute in; auto is what the folder is stored in.

    Raises:
        Invalid: an unknown name, or a folder or task that cannot be used.
    """
    if not tasks:
        raise Invalid([Problem(field="--tasks", message="names no task")])
    if dtype not in get_args(DType):
        message = f"'{dtype}' is none; {suggestion(dtype, get_args(DType))}"
        raise Invalid([Problem(field="--dtype", message=message)])
    try:
        return report_folder(folder, tasks, suite, dtype)
    except Unscorable as error:
        raise Invalid([Problem(field=str(folder), message=str(error))]) from None


def split_named(name: str | None) -> Split | None:
    """One of our splits; None for none.

    Raises:
        Invalid: when there is none of that name.
    """
    if name is None or name in list(Split):
        return None if name is None else Split(name)
    message = f"'{name}' is none; {suggestion(name, list(Split))}"
    raise Invalid([Problem(field="--split", message=message)])


def evaluation_of(**options: object) -> Evaluation:
    """How tasks are asked, from the options of a command.

    Raises:
        Invalid: when they do not go together.
    """
    try:
        return Evaluation.model_validate(options)
    except ValidationError as error:
        raise Invalid(problems_of(error, Evaluation)) from None


def write_examples(path: Path, samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """lm-eval's samples as JSON lines, in place at once; each says which task it is of."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        for task, rows in samples.items():
            for row in rows:
                file.write(json.dumps(plain_json({"task": task, **row})) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def plain_json(document: object) -> Any:
    """A document of lm-eval's as JSON has it: no NaN, no numbers of numpy, no functions."""
    return _finite(json.loads(json.dumps(document, default=_plain)))


def _plain(value: object) -> object:
    """What JSON has no word for, as lm-eval writes it."""
    if isinstance(value, np.generic):
        return value.item()
    return list(value) if isinstance(value, set | frozenset | np.ndarray) else str(value)


def _finite(value: Any) -> Any:
    match value:
        case float():
            return finite(value)
        case dict():
            return {key: _finite(inner) for key, inner in value.items()}
        case list():
            return [_finite(inner) for inner in value]
    return value
