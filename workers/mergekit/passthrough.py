"""Stacked layers of models: mergekit's passthrough as a recipe with a path, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import yaml

from search.layout import LayerGroups, Layout, Partition, Segments, in_layer
from search.problems import Invalid, Problem
from search.recipe import MOST_STEPS, Recipe, Step
from search.registry import suggestion
from search.spec import BASE, DType
from search.stack import NoStack, Stack, stack_of
from workers.checkpoints.headers import FLOATS
from workers.mergekit.settings import Setting
from workers.merging.merge_method import methods
from workers.paths.folding import Change
from workers.paths.route import Route, route

METHOD = "passthrough"
_SCALE = "scale"


@dataclass(frozen=True, slots=True)
class StackedSlice:
    """Consecutive layers of one model.

    Args:
        field: where its source stands.
        model: its name in the recipe.
        layers: first layer and the one after the last; None means all.
        scopes: where its parameters are looked up, in this order.
    """

    field: str
    model: str
    layers: tuple[int, int] | None
    scopes: Sequence[Mapping[str, Setting]]


@dataclass(frozen=True, slots=True)
class Stacking:
    """A passthrough configuration before it is laid over the layers of a base.

    Args:
        models: name in the recipe -> model as it is written; ``base`` is among them.
        parents: names of the models whose layers are stacked.
        slices: in order; at least one.
        dtype: of the merged model.
        notes: what was left out, and why that changes nothing.
    """

    models: Mapping[str, str]
    parents: tuple[str, ...]
    slices: tuple[StackedSlice, ...]
    dtype: DType
    notes: tuple[Problem, ...]

    def unread(self) -> Iterator[Problem]:
        """Parameters that passthrough does not have."""
        sections = [scope for part in self.slices for scope in part.scopes]
        for name, setting in chain.from_iterable(section.items() for section in sections):
            if name != _SCALE:
                message = f"'{METHOD}' has no such parameter; {suggestion(name, (_SCALE,))}"
                yield Problem(field=setting.field, message=message)


def stacked(stacking: Stacking, layout: Layout) -> Recipe:
    """The recipe that makes the same model.

    As in mergekit, what is before the layers is that of the first slice's model, what is behind
    them that of the last; both have the scale of the first knot of a gradient.

    Raises:
        Invalid: layers that the base does not have, or values that are no scales.
    """
    try:
        stack = stack_of(layout)
    except NoStack as error:
        raise Invalid([Problem(field="slices", message=str(error))]) from None
    reader = _Reader()
    path: list[Step] = []
    for part in stacking.slices:
        start, stop = part.layers or (0, stack.depth)
        if not 0 <= start <= stop <= stack.depth:
            message = f"is [{start}, {stop}], but the base has {stack.depth} layers, from 0 on"
            reader.problems.append(Problem(field=f"{part.field}.layer_range", message=message))
            continue
        for layer in range(start, stop):
            place = (layer - start) / (stop - start - 1) if stop - start > 1 else 1.0
            weights = reader.weights(part, stack, len(path), place)
            path.append(Step(model=part.model, layer=layer, weights=weights))
    if not 0 < len(path) <= MOST_STEPS and not reader.problems:
        message = f"stack {len(path)} layers; a model has 1 to {MOST_STEPS}"
        reader.problems.append(Problem(field="slices", message=message))
    outside = reader.outside(stacking.slices, layout)
    if reader.problems:
        raise Invalid(list(dict.fromkeys(reader.problems)))
    return _recipe(outside, layout, stack, tuple(path))


def passthrough_yaml(recipe: Recipe, layout: Layout, models: Mapping[str, str]) -> str | None:
    """The configuration with which mergekit stacks the layers of a path; None where it cannot.

    It can where nothing is merged of several models, and scales are factors of weights. The base
    model lends configuration and tokenizer; asked for the tokenizer by name, mergekit would cut
    padded embeddings.

    Args:
        recipe: with a path.
        layout: of the base.
        models: folder or Hub id of the base (``base``) and of every parent.
    """
    taken = _taken(recipe, layout)
    if taken is None:
        return None
    try:
        pieces = _pieces(route(layout, recipe.path), taken, layout)
    except ValueError:
        return None
    if pieces is None:
        return None
    dtypes = Counter(FLOATS[tensor.dtype] for tensor in layout.tensors)
    document = {
        "merge_method": METHOD,
        "base_model": models[BASE],
        "slices": [piece.document(models) for piece in pieces],
        "dtype": "float32",
        "out_dtype": dtypes.most_common(1)[0][0],
    }
    return yaml.safe_dump(document, sort_keys=False)


class _Reader:
    """Looks scales up as mergekit does: of the source, of its slice, of the whole."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def weights(
        self, part: StackedSlice, stack: Stack, number: int, place: float
    ) -> dict[str, float]:
        """Scales of the tensors of a layer that gets a number, but for those that are 1."""
        found = {name: self._scale(part, stack.tensor(number, name), place) for name in stack.parts}
        return {name: scale for name, scale in found.items() if scale != 1.0}

    def outside(
        self, slices: Sequence[StackedSlice], layout: Layout
    ) -> dict[str, tuple[str, float]]:
        """Whose each tensor outside of layers is, and its scale."""
        before, behind = _sides(layout)
        ends = ((slices[0], before), (slices[-1], behind))
        return {n: (part.model, self._scale(part, n, 0.0)) for part, names in ends for n in names}

    def _scale(self, part: StackedSlice, tensor: str, place: float) -> float:
        for scope in part.scopes:
            setting = scope.get(_SCALE)
            value = None if setting is None else setting.at(tensor, place)
            if setting is not None and isinstance(value, bool):
                self.problems.append(Problem(field=setting.field, message="is a number, no flag"))
            if value is not None:
                return float(value)
        return 1.0


def _sides(layout: Layout) -> tuple[list[str], list[str]]:
    """Tensors before the layers, and behind them."""
    names = [tensor.name for tensor in layout.tensors]
    layers = [place for place, name in enumerate(names) if in_layer(name) is not None]
    return names[: layers[0]], names[layers[-1] + 1 :]


def _recipe(
    outside: Mapping[str, tuple[str, float]], layout: Layout, stack: Stack, path: tuple[Step, ...]
) -> Recipe:
    """What is outside of layers is a sum of one model, with its scale as weight."""
    models = tuple(dict.fromkeys(model for model, _ in outside.values())) or (BASE,)
    partitions: tuple[Partition, ...] = ("model", LayerGroups(layers=stack.depth), "tensor")
    for partition in partitions:
        rows = []
        for block in layout.blocks(partition):
            said = {outside[piece.tensor] for piece in block.pieces if piece.tensor in outside}
            rows.append(said or {(models[0], 1.0)})
        if all(len(said) == 1 for said in rows):
            break
    weight = tuple(
        tuple(scale if name == model else 0.0 for name in models) for ((model, scale),) in rows
    )
    return Recipe(
        method="linear",
        parents=models,
        partition=partition,
        blocks=tuple(block.name for block in layout.blocks(partition)),
        parameters={"weight": weight, "normalize": False},
        path=path,
    )


# Scales by part of tensor names, but for those that are 1.
_Scales = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class _Piece:
    """Layers of one model, which have the same scales."""

    model: str
    start: int
    stop: int
    scales: _Scales
    outside: _Scales = ()

    def continues_with(self, other: _Piece) -> bool:
        """Whether both together are one slice."""
        alike = (self.model, self.scales) == (other.model, other.scales)
        return alike and self.stop == other.start

    def document(self, models: Mapping[str, str]) -> dict[str, Any]:
        """As mergekit's slice. Of parts that hide in one another the longest comes first."""
        source: dict[str, Any] = {
            "model": models[self.model],
            "layer_range": [self.start, self.stop],
        }
        rules = sorted((*self.outside, *self.scales), key=lambda rule: (-len(rule[0]), rule[0]))
        if rules:
            listed = [{"filter": part, "value": value} for part, value in rules]
            source["parameters"] = {_SCALE: [*listed, {"value": 1.0}]}
        return {"sources": [source]}


def _taken(recipe: Recipe, layout: Layout) -> dict[str, tuple[str, float]] | None:
    """Of which one model each merged tensor is, and times what; None where any is of several."""
    if recipe.method != "linear" or isinstance(recipe.partition, Segments):
        return None
    found: dict[str, tuple[str, float]] = {}
    for number, block in enumerate(layout.blocks(recipe.partition)):
        arguments = methods["linear"].arguments(recipe.at(number), len(recipe.parents))
        weights = zip(recipe.parents, arguments["weight"], strict=True)
        given = [(model, weight) for model, weight in weights if weight]
        if len(given) != 1:
            return None
        model, weight = given[0]
        scale = 1.0 if arguments["normalize"] else float(weight)
        found |= {piece.tensor: (model, scale) for piece in block.pieces}
    return found


def _pieces(
    way: Route, taken: Mapping[str, tuple[str, float]], layout: Layout
) -> list[_Piece] | None:
    """The layers of a route in slices, as long as possible; None where mergekit has no word."""
    pieces: list[_Piece] = []
    for place in way.places:
        whose = {part: taken[way.stack.tensor(place.layer, part)] for part in way.stack.parts}
        models = {model for model, _ in whose.values()} if place.model is None else {place.model}
        if len(models) > 1:
            return None
        scales = []
        for part, (_, scale) in whose.items():
            change = place.changes.get(part, Change(1.0))
            if change.shift:
                return None
            factor = change.factor * (scale if place.model is None else 1.0)
            scales += [(part, factor)] if factor != 1.0 else []
        piece = _Piece(models.pop(), place.layer, place.layer + 1, tuple(scales))
        if pieces and pieces[-1].continues_with(piece):
            piece = replace(piece, start=pieces.pop().start)
        pieces.append(piece)
    return _with_ends(pieces, taken, layout)


def _with_ends(
    pieces: list[_Piece], taken: Mapping[str, tuple[str, float]], layout: Layout
) -> list[_Piece] | None:
    """With slices of no layers at an end where the tensors beyond it are another model's."""
    before, behind = ({name: taken[name] for name in side} for side in _sides(layout))
    for side, end in ((before, 0), (behind, -1)):
        models = {model for model, _ in side.values()}
        if len(models) > 1:
            return None
        if models and pieces[end].model not in models:
            pieces.insert(len(pieces) if end else 0, _Piece(models.pop(), 0, 0, ()))
        scales = tuple((name, scale) for name, (_, scale) in side.items() if scale != 1.0)
        pieces[end] = replace(pieces[end], outside=(*pieces[end].outside, *scales))
    return pieces
