"""Recipes as mergekit configurations, for those who want to rebuild a candidate with mergekit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import yaml

from search.layout import Layout, Segments
from search.recipe import Recipe
from search.spec import BASE
from workers.checkpoints.headers import FLOATS
from workers.mergekit.dialect import (
    BASE_COMES_FIRST,
    TASK_VECTORS,
    merges_differences,
    spoken,
    to_mergekit,
)
from workers.mergekit.passthrough import passthrough_yaml
from workers.merging.merge_method import methods

# (substring of tensor names, value): the first substring that a name contains tells its value.
_Filters = Sequence[tuple[str, Hashable]]
# Tensor -> what a parameter is there.
_Column = Mapping[str, Any]


def mergekit_yaml(recipe: Recipe, layout: Layout, models: Mapping[str, str]) -> str | None:
    """The configuration with which mergekit computes the same merge, or None where it cannot.

    mergekit cannot cut a tensor in two (``Segments``), and has one way where references disagree
    (see `to_mergekit`). It draws the masks of DARE from a generator of its own. The layers of a
    path are stacked there (see `passthrough_yaml`).

    Args:
        recipe: of the candidate.
        layout: of the base.
        models: folder or Hub id of the base (``base``) and of every parent.
    """
    if recipe.path:
        return passthrough_yaml(recipe, layout, models)
    method = methods[recipe.method]
    declaration = method.declaration
    if declaration.mergekit is None or isinstance(recipe.partition, Segments):
        return None
    arguments = method.arguments(recipe.at(0), len(recipe.parents))
    named = bool(arguments.get(TASK_VECTORS, declaration.uses_base))
    differences = merges_differences(declaration, base_is_named=named)
    if differences and BASE in recipe.parents:
        return None  # what differs from itself by nothing is left out there, and its weight too
    words = _words(recipe, layout)
    if words is None:
        return None
    columns = {p.name: {t: said[p.name] for t, said in words.items()} for p in spoken(declaration)}
    own = sorted(p.name for p in spoken(declaration) if p.per_parent)
    document: dict[str, Any] = {"merge_method": declaration.mergekit}
    if differences:
        document["base_model"] = models[BASE]
    elif declaration.mergekit in BASE_COMES_FIRST:
        document["base_model"] = models[recipe.parents[0]]
    document["models"] = [
        {"model": models[parent]}
        | _section({name: {t: v[i] for t, v in columns[name].items()} for name in own})
        for i, parent in enumerate(recipe.parents)
    ]
    document |= _section({name: column for name, column in columns.items() if name not in own})
    dtypes = Counter(FLOATS[tensor.dtype] for tensor in layout.tensors)
    document |= {"dtype": "float32", "out_dtype": dtypes.most_common(1)[0][0]}
    document["tokenizer_source"] = models[BASE]
    return yaml.safe_dump(document, sort_keys=False)


def _words(recipe: Recipe, layout: Layout) -> dict[str, dict[str, Any]] | None:
    """Every tensor's parameters in mergekit's words; None where one of them has none."""
    method = methods[recipe.method]
    words: dict[str, dict[str, Any]] = {}
    for number, block in enumerate(layout.blocks(recipe.partition)):
        arguments = method.arguments(recipe.at(number), len(recipe.parents))
        for piece in block.pieces:
            depth = layout.depth(piece.tensor)
            said = to_mergekit(method.declaration, arguments, piece.stop - piece.start, depth)
            if said is None:
                return None
            words[piece.tensor] = said
    return words | {alias: words[tied] for alias, tied in layout.aliases.items() if tied in words}


def _section(columns: Mapping[str, _Column]) -> dict[str, Any]:
    """A ``parameters`` section: one value where all tensors agree, else one for every filter.

    The last entry has no filter: mergekit fails on tensors without a value, also on buffers, which
    a layout does not hold.
    """
    section: dict[str, Any] = {}
    for name, column in columns.items():
        usual = Counter(column.values()).most_common(1)[0][0]
        if len(set(column.values())) == 1:
            section[name] = usual
        else:
            rules = [{"filter": part, "value": value} for part, value in _filters(column)]
            section[name] = [*rules, {"value": usual}]
    return {"parameters": section} if section else {}


def _filters(column: _Column) -> _Filters:
    """Beginnings of tensor names that tell values apart; whole names where those would not.

    A longer name never hides in a shorter one, so longest first is right for whole names.
    """
    members: dict[str, set[Hashable]] = {}
    for name, value in column.items():
        for beginning in _beginnings(name):
            members.setdefault(beginning, set()).add(value)
    short = {
        next(b for b in _beginnings(name) if b == name or len(members[b]) == 1): value
        for name, value in column.items()
    }
    rules = _longest_first(short)
    if all(_first(rules, name) == value for name, value in column.items()):
        return rules
    return _longest_first(column)


def _beginnings(name: str) -> list[str]:
    """``a.b.c`` as ``a.``, ``a.b.``, ``a.b.c``."""
    parts = name.split(".")
    return [".".join(parts[:n]) + "." for n in range(1, len(parts))] + [name]


def _longest_first(rules: Mapping[str, Hashable]) -> _Filters:
    return sorted(rules.items(), key=lambda rule: (-len(rule[0]), rule[0]))


def _first(rules: _Filters, name: str) -> Hashable:
    return next(value for part, value in rules if part in name)
