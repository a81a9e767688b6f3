"""Models of a few tensors as checkpoint folders, and what a recipe makes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from search.recipe import Recipe
from search.spec import BASE
from workers.checkpoints.parents import Parents
from workers.materializer import merged_tensors
from workers.mergekit import parse_configuration, recipe_of
from workers.messages import Zoo

State = Mapping[str, Tensor]


def save_models(root: Path, models: Mapping[str, State]) -> dict[str, str]:
    """Name -> folder; the configuration is as empty as the merge allows."""
    folders = {}
    for name, state in models.items():
        folder = root / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
        save_file(dict(state), folder / "model.safetensors", metadata={"format": "pt"})
        folders[name] = str(folder)
    return folders


def open_models(folders: Mapping[str, str], dtype: str = "float32") -> Parents:
    """Base and parents, each under its name."""
    return Parents(
        Zoo(folders[BASE], tuple((n, f) for n, f in folders.items() if n != BASE), dtype)
    )


def merged(recipe: Recipe, parents: Parents) -> dict[str, Tensor]:
    """All tensors of a recipe's checkpoint."""
    return dict(merged_tensors(parents, recipe))


def merged_from(document: Any, folders: Mapping[str, str]) -> dict[str, Tensor]:
    """All tensors of the checkpoint that a mergekit configuration asks for.

    Args:
        document: the configuration.
        folders: of the models, as the configuration calls them.
    """
    configuration = parse_configuration(document)
    named = {name: folders[model] for name, model in configuration.models.items()}
    dtype = "float32" if configuration.dtype == "auto" else configuration.dtype
    parents = open_models(named, dtype)
    try:
        return merged(recipe_of(configuration, parents.layout), parents)
    finally:
        parents.close()
