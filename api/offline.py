"""What the command line does without a server: merge local folders, score a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from pydantic import ValidationError

from api.documents import parse_json, parse_yaml
from api.schemas import ScoreView, finite
from evals.requests import Unscorable
from evals.score import score_folder
from evals.suite import Split
from search.problems import Invalid, Problem
from search.recipe import Recipe
from search.registry import UnknownName, suggestion
from search.spec import BASE, DType, problems_of
from workers.materializer import merged_tensors
from workers.merge_method import NotMergeable, methods
from workers.mergekit import mergekit_yaml
from workers.messages import Zoo
from workers.parents import Parents
from workers.preflight import preflight
from workers.writing import write_checkpoint

Files = Mapping[str, tuple[str, int]]


class FolderScore(ScoreView):
    """A score of a folder with its key, and the scores of its examples in the metric's own sign."""

    key: str
    examples: list[float | None]


def merge_recipe(
    text: bytes, beside: Path, models: Mapping[str, str], folder: Path, *, dtype: str = "auto"
) -> Files:
    """Merge local checkpoints as a recipe says.

    Args:
        text: of the recipe, as YAML or JSON; beside a recipe's fields it may have ``models``, which
            maps names to folders.
        beside: where relative folders of the file start.
        models: further names and folders; these win.
        folder: is written.
        dtype: of the result; the base's when ``auto``.

    Raises:
        Invalid: the recipe or the models cannot be merged.
    """
    recipe, named = _recipe(text)
    places = {name: beside / place for name, place in named.items()}
    places |= {name: Path(place) for name, place in models.items()}
    zoo = _zoo(recipe, places, dtype)
    parents = Parents(zoo)
    extra = {"recipe.json": recipe.model_dump_json(indent=2)}
    names = {BASE: zoo.base, **dict(zoo.parents)}
    if (for_mergekit := mergekit_yaml(recipe, parents.layout, names)) is not None:
        extra["mergekit.yaml"] = for_mergekit
    try:
        return write_checkpoint(
            folder, merged_tensors(parents, recipe), Path(zoo.base), extra=extra
        )
    except NotMergeable as error:
        raise Invalid([Problem(field="parameters", message=str(error))]) from None
    finally:
        parents.close()


def _recipe(text: bytes) -> tuple[Recipe, dict[str, str]]:
    document = parse_json(text) if text.lstrip().startswith(b"{") else parse_yaml(text)
    if not isinstance(document, dict):
        raise Invalid([Problem(field="recipe", message="is not a mapping of fields")])
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


def _zoo(recipe: Recipe, places: Mapping[str, Path], dtype: str) -> Zoo:
    problems = [
        Problem(field=f"models.{name}", message="is needed; give --model name=folder")
        for name in dict.fromkeys((BASE, *recipe.parents))
        if name not in places
    ]
    if dtype not in get_args(DType):
        message = f"'{dtype}' is none; {suggestion(dtype, get_args(DType))}"
        problems.append(Problem(field="dtype", message=message))
    if problems:
        raise Invalid(problems)
    parents = [name for name in recipe.parents if name != BASE]
    found = preflight(
        (f"models.{BASE}", places[BASE]),
        [(f"models.{name}", name, places[name]) for name in parents],
    )
    if found.problems:
        raise Invalid(found.problems)
    return Zoo(
        base=str(places[BASE]),
        parents=tuple((name, str(places[name])) for name in parents),
        dtype=found.dtype if dtype == "auto" else dtype,
    )


def score_tasks(
    folder: Path,
    tasks: Sequence[str],
    task_folders: Sequence[Path],
    *,
    split: str = "report",
    limit: int | None = None,
) -> list[FolderScore]:
    """Every metric of some tasks on a folder.

    Raises:
        Invalid: an unknown task or split, or a folder that cannot be loaded.
    """
    if split not in list(Split):
        message = f"'{split}' is none; {suggestion(split, list(Split))}"
        raise Invalid([Problem(field="--split", message=message)])
    if not tasks:
        raise Invalid([Problem(field="--tasks", message="names no task")])
    try:
        found = score_folder(
            folder, tasks, task_folders=task_folders, split=Split(split), limit=limit
        )
    except Unscorable as error:
        raise Invalid([Problem(field=str(folder), message=str(error))]) from None
    views = []
    for key, score in found.scores.items():
        higher = found.higher_is_better[key]
        view = ScoreView.of(score.value, score.stderr, score.count, higher_is_better=higher)
        examples = np.asarray(score.examples if higher else -score.examples, dtype=np.float64)
        views.append(
            FolderScore(
                **view.model_dump(),
                key=key,
                examples=[finite(float(value)) for value in examples],
            )
        )
    return views


def write_examples(path: Path, scores: Sequence[FolderScore]) -> None:
    """Per-example scores as JSON lines, in place at once."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        for view in scores:
            for index, value in enumerate(view.examples):
                row: dict[str, Any] = {"key": view.key, "example": index, "score": value}
                file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
