"""From a mergekit configuration to a recipe: the values of every parameter for every tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search.layout import Layout
from search.method import Parameter
from search.problems import Invalid, Problem
from search.recipe import Recipe, Value
from workers.mergekit.configuration import Configuration, Slice
from workers.mergekit.dialect import (
    REQUIRED,
    TASK_VECTORS,
    default_there,
    fixed_there,
    from_mergekit,
    is_flag,
    spoken,
)
from workers.mergekit.passthrough import Stacking, stacked
from workers.mergekit.settings import Setting


def recipe_of(configuration: Configuration | Stacking, layout: Layout) -> Recipe:
    """The recipe that merges as the configuration says, with exact values for every tensor.

    As in mergekit, the first and last knot of a gradient belong to the first and last layer of a
    slice, and tensors before the layers (embeddings) and behind them (final norm, head) have the
    first knot of the first and of the last slice. Stacked layers are a path (see `stacked`).

    Args:
        configuration: parsed.
        layout: of the base.

    Raises:
        Invalid: values that are missing, that the method refuses or a recipe cannot hold, and
            slices that are not the layers of the base.
    """
    if isinstance(configuration, Stacking):
        return stacked(configuration, layout)
    if problems := _misfits(configuration.slices, layout):
        raise Invalid(problems)
    reader = _Reader(configuration)
    places = _places(configuration.slices, layout)
    columns = {
        parameter.name: [reader.value(parameter, *place) for place in places]
        for parameter in spoken(configuration.method.declaration)
    }
    reader.check_kinds(columns)
    if reader.problems:
        raise Invalid(list(dict.fromkeys(reader.problems)))
    return _recipe(configuration, layout, columns)


# Tensor, its slice, and its place of the slice's depth in [0, 1].
_Place = tuple[str, Slice, float]


class _Reader:
    """Looks values up as mergekit does: of the model, of its slice, of the whole; then defaults."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self.problems: list[Problem] = []

    def value(self, parameter: Parameter, tensor: str, part: Slice, place: float) -> Any:
        """In our words: one value, or a tuple with one for each parent."""
        scopes = [part.settings, self._configuration.settings]
        if not parameter.per_parent:
            return self._first(parameter, scopes, "parameters", tensor, place)
        values = []
        for parent in self._configuration.parents:
            source = part.sources.get(self._configuration.models[parent])
            field = "base_model" if source is None else f"{source.field}.parameters"
            own = [] if source is None else [source.settings]
            values.append(self._first(parameter, [*own, *scopes], field, tensor, place))
        return tuple(values)

    def check_kinds(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """A recipe has one value of a flag, a word or a whole number for the whole model."""
        for parameter in spoken(self._configuration.method.declaration):
            if parameter.kind != "float" and len(set(columns[parameter.name])) > 1:
                message = "differs between tensors; a recipe has one value of it"
                field = f"parameters.{parameter.name}"
                self.problems.append(Problem(field=field, message=message))

    def _first(
        self,
        parameter: Parameter,
        scopes: Sequence[Mapping[str, Setting]],
        field: str,
        tensor: str,
        place: float,
    ) -> Any:
        for scope in scopes:
            setting = scope.get(parameter.name)
            value = None if setting is None else setting.at(tensor, place)
            if setting is not None and value is not None:
                return self._checked(parameter, value, setting.field)
        if parameter.name in REQUIRED:
            where = f"{field}.{parameter.name}"
            message = "is required for every tensor; give a value, the last one without a filter"
            if field == "base_model":
                where, message = field, f"is merged too; list it with a {parameter.name}"
            self.problems.append(Problem(field=where, message=message))
        return default_there(self._configuration.method.declaration, parameter)

    def _checked(self, parameter: Parameter, value: bool | float, field: str) -> Any:
        ours = from_mergekit(parameter, value)
        if (misfit := parameter.misfit(ours, 1)) is not None:
            if is_flag(parameter):
                misfit = "is either true or false"
            self.problems.append(Problem(field=field, message=misfit))
        return ours


def _misfits(slices: Sequence[Slice], layout: Layout) -> list[Problem]:
    """Slices that end before or behind the base's last layer."""
    last = slices[-1]
    counts = {depth[1] for t in layout.tensors if (depth := layout.depth(t.name)) is not None}
    if last.layers is None or counts == {last.layers[1]}:
        return []
    listed = " and ".join(map(str, sorted(counts))) or "no"
    message = (
        f"ends at layer {last.layers[1]}, but the base has {listed} layers; all of them must be in "
        "a slice, once each"
    )
    return [Problem(field=f"{last.field}.sources[0].layer_range", message=message)]


def _places(slices: Sequence[Slice], layout: Layout) -> list[_Place]:
    places = []
    outside = slices[0]
    for tensor in layout.tensors:
        depth = layout.depth(tensor.name)
        if depth is None:
            places.append((tensor.name, outside, 0.0))
            continue
        outside = slices[-1]
        layer, count = depth
        part = next(s for s in slices if s.layers is None or layer < s.layers[1])
        start, stop = part.layers or (0, count)
        place = (layer - start) / (stop - start - 1) if stop - start > 1 else 1.0
        places.append((tensor.name, part, place))
    return places


def _recipe(
    configuration: Configuration, layout: Layout, columns: Mapping[str, Sequence[Any]]
) -> Recipe:
    declaration = configuration.method.declaration
    floats = [p.name for p in spoken(declaration) if p.kind == "float"]
    varies = any(len(set(columns[name])) > 1 for name in floats)
    count = len(layout.tensors) if varies else 1
    parameters: dict[str, Value] = fixed_there(declaration)
    if any(parameter.name == TASK_VECTORS for parameter in declaration.parameters):
        parameters[TASK_VECTORS] = configuration.differences
    for name, column in columns.items():
        single = name not in floats or (len(set(column)) == 1 and not isinstance(column[0], tuple))
        parameters[name] = column[0] if single else tuple(column[:count])
    blocks = layout.blocks("tensor" if varies else "model")
    return Recipe(
        method=declaration.name,
        parents=configuration.parents,
        partition="tensor" if varies else "model",
        blocks=tuple(block.name for block in blocks),
        parameters=parameters,
    )
