"""Recipes as mergekit configurations, for those who want to rebuild a candidate with mergekit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from search.layout import Layout, Segments
from search.method import LINES, MethodDeclaration
from search.recipe import Recipe
from search.spec import BASE
from workers.merge_method import methods

_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}

# (substring of tensor names, block): the first substring that a name contains tells its block.
_Filters = Sequence[tuple[str, int]]


def mergekit_yaml(recipe: Recipe, layout: Layout, models: Mapping[str, str]) -> str | None:
    """The configuration with which mergekit computes the same merge, or None where it cannot.

    mergekit cannot cut a tensor in two (``Segments``), cannot scale by depth (``LINES``), and
    cannot rescale by 1/density where weights are normalized. It draws the masks of DARE from a
    generator of its own.

    Args:
        recipe: of the candidate.
        layout: of the base.
        models: folder or Hub id of the base (``base``) and of every parent.
    """
    method = methods[recipe.method]
    declaration = method.declaration
    if declaration.mergekit is None or isinstance(recipe.partition, Segments):
        return None
    scaled = [p for p in declaration.parameters if p in LINES]
    values = [
        _in_their_words(method.arguments(recipe.at(block), len(recipe.parents)))
        for block in range(len(recipe.blocks))
    ]
    if any(block is None or any(block[p.name] != p.default for p in scaled) for block in values):
        return None
    filters = _filters(layout, recipe)
    settings = {
        parameter.name: [block[parameter.name] for block in values if block is not None]
        for parameter in declaration.parameters
        if parameter not in scaled
    }
    own = {p.name for p in declaration.parameters if p.per_parent}
    document: dict[str, Any] = {"merge_method": declaration.mergekit}
    if (base := _base_model(declaration, recipe)) is not None:
        document["base_model"] = models[base]
    document["models"] = [
        {"model": models[parent]}
        | _section({name: [v[i] for v in settings[name]] for name in sorted(own)}, filters)
        for i, parent in enumerate(recipe.parents)
    ]
    document |= _section({n: v for n, v in settings.items() if n not in own}, filters)
    dtypes = Counter(_DTYPES[tensor.dtype] for tensor in layout.tensors)
    document |= {"dtype": "float32", "out_dtype": dtypes.most_common(1)[0][0]}
    document["tokenizer_source"] = models[BASE]
    return yaml.safe_dump(document, sort_keys=False)


def _base_model(declaration: MethodDeclaration, recipe: Recipe) -> str | None:
    """What mergekit calls the base model: for SLERP that is the first of the two."""
    if declaration.uses_base:
        return BASE
    return recipe.parents[0] if declaration.mergekit == "slerp" else None


def _in_their_words(values: dict[str, Any]) -> dict[str, Any] | None:
    """Our choice of ``rescale`` as mergekit's flag, which means l1; None where there is no way.

    A sum that is scaled by 1/density is the same sum with weights that are larger by as much.
    """
    match values.get("rescale"):
        case None:
            return values
        case "1/density":
            if values["normalize"]:
                return None
            pairs = zip(values["weight"], values["density"], strict=True)
            return values | {"rescale": False, "weight": tuple(w / d for w, d in pairs)}
        case choice:
            return values | {"rescale": choice == "l1"}


def _section(settings: Mapping[str, Sequence[Any]], filters: _Filters) -> dict[str, Any]:
    """A ``parameters`` section: one value where all blocks agree, else one for every filter."""
    section: dict[str, Any] = {}
    for name, blocks in settings.items():
        if len(set(blocks)) == 1:
            section[name] = blocks[0]
        else:
            section[name] = [{"filter": part, "value": blocks[block]} for part, block in filters]
    return {"parameters": section} if section else {}


def _filters(layout: Layout, recipe: Recipe) -> _Filters:
    """Beginnings of tensor names that tell blocks apart; whole names where those would not.

    A longer name never hides in a shorter one, so longest first is right for whole names.
    """
    block_of = {
        piece.tensor: number
        for number, block in enumerate(layout.blocks(recipe.partition))
        for piece in block.pieces
    }
    members: dict[str, set[int]] = {}
    for name, block in block_of.items():
        for beginning in _beginnings(name):
            members.setdefault(beginning, set()).add(block)
    short = {
        next(b for b in _beginnings(name) if b == name or len(members[b]) == 1): block
        for name, block in block_of.items()
    }
    rules = _longest_first(short)
    if all(_first(rules, name) == block for name, block in block_of.items()):
        return rules
    return _longest_first(block_of)


def _beginnings(name: str) -> list[str]:
    """``a.b.c`` as ``a.``, ``a.b.``, ``a.b.c``."""
    parts = name.split(".")
    return [".".join(parts[:n]) + "." for n in range(1, len(parts))] + [name]


def _longest_first(rules: Mapping[str, int]) -> _Filters:
    return sorted(rules.items(), key=lambda rule: (-len(rule[0]), rule[0]))


def _first(rules: _Filters, name: str) -> int:
    return next(block for part, block in rules if part in name)
