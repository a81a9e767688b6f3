"""What lies beside the weights of a merge: model card, recipe, and the recipe for mergekit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from search.outcome import Scores
from search.recipe import Recipe
from workers.checkpoints.card import model_card
from workers.checkpoints.parents import Parents
from workers.mergekit import mergekit_yaml


def companions(
    recipe: Recipe,
    parents: Parents,
    *,
    models: Mapping[str, str],
    places: Mapping[str, str] | None = None,
    scores: Scores | None = None,
    baselines: Sequence[tuple[str, Scores]] = (),
    higher_is_better: Mapping[str, bool] | None = None,
    sha256: Mapping[str, str] | None = None,
    details: Mapping[str, object] | None = None,
    is_adapter: bool = False,
) -> dict[str, str]:
    """Files by name, as text.

    Args:
        recipe: what was merged.
        parents: from what.
        models: what each model is called in public, ``base`` included.
        places: what mergekit is to call them; by default as in public.
        scores: on the report split, where they are known.
        baselines: names of other models with their scores on the same examples.
        higher_is_better: by objective.
        sha256: of the weight files that were merged, by ``model/file``.
        details: further lines of the card.
        is_adapter: whether an adapter is written and not a checkpoint.
    """
    called = {
        name: f"{(places or models)['base']}+{place}" if parents.folders[name].adapter else place
        for name, place in (places or models).items()
        if name in parents.folders
    }
    mergekit = mergekit_yaml(recipe, parents.layout, called)
    files = {
        "README.md": model_card(
            recipe,
            parents.zoo,
            models=models,
            scores=scores,
            baselines=baselines,
            higher_is_better=higher_is_better or {},
            sha256=sha256 or {},
            details=details or {},
            # Places are this machine's; what the card says is for everybody.
            mergekit=mergekit if places is None else None,
            is_adapter=is_adapter,
        ),
        "recipe.json": json.dumps(recipe.model_dump(mode="json"), indent=2) + "\n",
    }
    if mergekit is not None:
        files["mergekit.yaml"] = mergekit
    return files
