"""The search space: named genes, and the one place where bounds are handled."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search import flow
from search.genes import Choice as Choice
from search.genes import Gene as Gene
from search.geometry import Geometry
from search.groups import EVERYWHERE as EVERYWHERE
from search.groups import Group, Spread, apart, everywhere, gradient, refined
from search.layout import Layout, Segments
from search.lengths import Lengths
from search.method import LINES, WEIGHT, MethodDeclaration, Parameter
from search.problems import Invalid, Problem
from search.recipe import Recipe, Value, mixture
from search.spec import BASE, Choices, Directed, Range, Searched, SearchSpec

# A point of the unit cube, (dim,) float64.
Genome = NDArray[np.float64]


# The gene that chooses among methods, and those that choose whether a parent takes part.
METHOD = "method"
INCLUDE = "include"

# The genes of a length for the whole model, and of directions that have it.
NORM = "norm"
SHARE = "share"


class SearchSpace:
    """Ordered genes and how a point of the unit cube becomes a recipe.

    Numbers in a range have a gene for every block, or for every knot of their gradient, and for
    every parent where the parameter is one of theirs; so have choices among numbers. Other choices
    (whole numbers, flags, words, the method, whether an optional parent takes part) are made once
    for the whole model, as are numbers whose setting or declaration says so.

    Args:
        declaration: the merge method.
        spec: parents, blocks and parameters are read from it.
        layout: of the base.
        geometry: of the models, by which lengths are measured; without it all are alike.

    Raises:
        Invalid: an unknown parameter, a range outside of the declared limits, a parameter that
            cannot be searched, a gradient of more knots than layers, too few or too many parents, a
            path through layers that cannot be put in another order.
    """

    def __init__(
        self,
        declaration: MethodDeclaration,
        spec: SearchSpec,
        layout: Layout,
        geometry: Geometry | None = None,
    ) -> None:
        given = spec.space.parameters
        problems = declaration.problems(given, len(spec.parents), prefix="space.parameters.")
        problems += _knotted(given, layout)
        path, names = spec.space.path, tuple(parent.name for parent in spec.parents)
        problems += [] if path is None else flow.problems(path, names, layout)
        if problems:
            raise Invalid(problems)
        self.declaration = declaration
        self.layout = layout
        self.parents = names
        self.seed = spec.seed
        self._optional = tuple(i for i, parent in enumerate(spec.parents) if parent.optional)
        self._settings = given
        self._given = declaration.expand(given)
        by_depth = any(isinstance(s, Range) and s.gradient for s in self._given.values())
        self.partition = refined(spec.space.blocks) if by_depth else spec.space.blocks
        self.blocks = tuple(block.name for block in layout.blocks(self.partition))
        self._spreads = {
            parameter.name: Spread.over(self._groups(parameter, setting, spec), len(self.blocks))
            for parameter, setting in self._numbers()
        }
        self._lengths = self._measured(geometry)
        placed = [*self._words(), *self._coefficients()]
        placed.sort(key=lambda item: item[0].block)  # stable: what is everywhere comes first
        self._merging = tuple(gene for gene, _ in placed)
        self._places = tuple(place for _, place in placed)
        self.flow = None if path is None else flow.Flow(path, layout)
        self.genes = self._merging + (self.flow.genes if self.flow else ())

    @property
    def dim(self) -> int:
        """Number of genes."""
        return len(self.genes)

    @property
    def names(self) -> tuple[str, ...]:
        """A readable name for each gene: ``layers.0-1.mlp/weight/add``, ``layers@0.5/density``."""
        own = tuple(map(self._name, self._merging, self._places))
        return own + (self.flow.names if self.flow else ())

    def decode(self, genome: Sequence[float] | Genome) -> Recipe:
        """The recipe at a point of the unit cube.

        Different points give different recipes where no choice is searched; points of the same
        choices give the same, as do points that differ in what a left out parent would have.
        Where fewer parents are left than the method merges, it is their average; of none, the base.
        """
        if len(genome) != self.dim:
            raise ValueError(f"expected a genome of {self.dim} genes, got {len(genome)}")
        merge = self._merge(genome[: len(self._merging)])
        if self.flow is None:
            return merge
        return merge.model_copy(update={"path": self.flow.path(genome[len(self._merging) :])})

    def _merge(self, genome: Sequence[float] | Genome) -> Recipe:
        """What the genes of method and parameters say."""
        words: dict[str, Any] = {}
        left_out: set[int] = set()
        values: dict[str, list[list[float]]] = {
            name: [[] for _ in spread.groups] for name, spread in self._spreads.items()
        }
        units = values.get(WEIGHT, [])  # where a norm is searched: what weights follow from
        for gene, place, unit in zip(self._merging, self._places, genome, strict=True):
            value = gene.value(float(unit))
            if gene.parameter == SHARE and place is not None:
                units[place].append(value)
            elif place is not None:
                values[gene.parameter][place].append(value)
            elif gene.parameter != INCLUDE:
                words[gene.parameter] = value
            elif gene.parent is not None and not value:
                left_out.add(gene.parent)
        method = self.declaration.alternatives.get(words.pop(METHOD, ""), self.declaration)
        kept = [i for i in range(len(self.parents)) if i not in left_out]
        if left_out and len(kept) < max(1, method.minimum_parents):
            return self._average(kept)
        if NORM in words:
            values[WEIGHT] = self._lengths.weights(units, words.pop(NORM), kept)
        parameters = self._parameters(method, words, values)
        if left_out:
            parameters = {name: _without(value, kept) for name, value in parameters.items()}
        return Recipe(
            method=method.name,
            parents=tuple(self.parents[i] for i in kept),
            partition=self.partition,
            blocks=self.blocks,
            parameters=parameters,
            seed=self.seed,
        )

    def _average(self, kept: Sequence[int]) -> Recipe:
        """Of some parents, as the opening of a search has it; of none the base."""
        if not kept:
            return mixture((BASE,), (1.0,))
        shares = (1.0 / len(kept) if i in kept else 0.0 for i in range(len(self.parents)))
        return mixture(self.parents, tuple(shares))

    def encode(self, values: Mapping[str, Any]) -> Genome:
        """The point nearest to parameter values that hold in every block; else defaults.

        Every parent takes part, and a path is where the search starts.
        """
        genome = np.empty(self.dim)
        if self.flow:
            genome[len(self._merging) :] = self.flow.usual
        for position, gene in enumerate(self._merging):
            if gene.parameter in (NORM, SHARE):
                continue
            if gene.parameter in (METHOD, INCLUDE):
                genome[position] = gene.unit(
                    values.get(METHOD, "") if gene.parent is None else True
                )
                continue
            value: Any = values.get(
                gene.parameter, self.declaration.parameter(gene.parameter).default
            )
            if gene.parent is not None and not isinstance(value, int | float):
                value = value[gene.parent]
            genome[position] = gene.unit(value)
        if self._is_directed:
            weight = values.get(WEIGHT, self.declaration.parameter(WEIGHT).default)
            rows = np.broadcast_to(np.asarray(weight, np.float64), (len(self.parents),))
            groups = len(self._spreads[WEIGHT].groups)
            self._direct(genome, np.tile(rows, (groups, 1)), range(len(self.parents)))
        return genome

    def locate(self, recipe: Recipe) -> Genome | None:
        """The point whose recipe makes the same model, to rounding; None where there is none.

        Blocks of the recipe may be larger than those of the space, parents may be fewer where the
        others are optional, and what it is silent on has its default. Its seed is not looked at:
        where a method draws at random, that is another draw.
        """
        method = self.declaration.alternatives.get(recipe.method, self.declaration)
        rows = self._rows_of(recipe)
        known = method.name == recipe.method and set(recipe.parents) <= set(self.parents)
        if rows is None or not known:
            return None
        genome = self._nearest(method, recipe, [owners[0] for owners in rows])
        steps = self.flow.locate(recipe.path) if self.flow else None if recipe.path else ()
        if steps is None:
            return None
        genome[len(self._merging) :] = steps
        found = self.decode(genome)
        if found.method != recipe.method or set(found.parents) != set(recipe.parents):
            return None
        for block, owners in enumerate(rows):
            for parameter, row in product(method.parameters, owners):
                ours = _row(parameter, found, block, recipe.parents)
                if not _close(ours, _row(parameter, recipe, row, recipe.parents)):
                    return None
        return genome

    def reaches(self, values: Mapping[str, Any]) -> bool:
        """Whether parameters can take exactly these values, in every block.

        Of a path: whether it starts with the merge's own layers, as they are.
        """
        return (self.flow is None or not self.flow.path(self.flow.usual)) and all(
            self._reaches(self.declaration.parameter(name), value) for name, value in values.items()
        )

    def _reaches(self, parameter: Parameter, value: Any) -> bool:
        wanted = list(value) if isinstance(value, Sequence) else [value]
        match self._given.get(parameter.name):
            case Range(low=low, high=high):
                return all(low <= w <= high for w in wanted)
            case Choices(choices=choices):
                return all(w in choices for w in wanted)
            case Directed():
                nearest = self.decode(self.encode({parameter.name: value}))
                row = _row(parameter, nearest, 0, self.parents)
                rows = (_row(parameter, nearest, b, self.parents) for b in range(len(self.blocks)))
                return len(row) == len(wanted) and all(_close(row, wanted) for row in rows)
        fixed = self._fixed(parameter, self._given)
        if isinstance(fixed, tuple):
            fixed = fixed[0]
        have = list(fixed) if isinstance(fixed, tuple) else [fixed]
        return all(h == w for h, w in zip(have * len(wanted), wanted * len(have), strict=True))

    def _name(self, gene: Gene | Choice, place: int | None) -> str:
        parameter = WEIGHT if gene.parameter == SHARE else gene.parameter
        group = "model" if place is None else self._spreads[parameter].groups[place].name
        parent = [] if gene.parent is None else [self.parents[gene.parent]]
        return "/".join((group, gene.parameter, *parent))

    @property
    def _is_directed(self) -> bool:
        return isinstance(self._given.get(WEIGHT), Directed)

    def _numbers(self) -> Iterator[tuple[Parameter, Searched]]:
        """What has values in blocks."""
        for parameter in self.declaration.parameters:
            setting = self._given.get(parameter.name)
            if parameter.kind == "float" and isinstance(setting, Searched):
                yield parameter, setting

    def _groups(
        self, parameter: Parameter, setting: Searched, spec: SearchSpec
    ) -> tuple[Group, ...]:
        blocks = self.layout.blocks(self.partition)
        if setting.blocks == "model" or not parameter.per_block:
            return everywhere(blocks)
        if isinstance(setting, Range) and setting.gradient is not None:
            return gradient(self.layout, blocks, setting.gradient)
        return apart(self.layout, blocks, spec.space.blocks)

    def _measured(self, geometry: Geometry | None) -> Lengths:
        """How long changes are in the groups of the weights."""
        groups = self._spreads[WEIGHT].groups if self._is_directed else ()
        if geometry is None or not groups:
            return Lengths.alike(len(groups), len(self.parents))
        return Lengths.measured(geometry, self.layout, self.partition, groups)

    def _direct(self, genome: Genome, weights: NDArray[np.float64], kept: Sequence[int]) -> None:
        """Set the genes of direction and length to what is nearest to (groups, parents) weights."""
        units, norm = self._lengths.split(weights, kept)
        for position, (gene, place) in enumerate(zip(self._merging, self._places, strict=True)):
            if gene.parameter == NORM:
                genome[position] = gene.unit(norm)
            elif gene.parameter == SHARE and place is not None and gene.parent is not None:
                genome[position] = units[place][gene.parent]

    def _words(self) -> Iterator[tuple[Choice, None]]:
        """Genes that choose once for the whole model, and no number of a block."""
        if self.declaration.alternatives:
            yield Choice(EVERYWHERE, METHOD, None, tuple(self.declaration.alternatives)), None
        for parent in self._optional:
            yield Choice(EVERYWHERE, INCLUDE, parent, (False, True)), None
        for parameter in self.declaration.parameters:
            setting = self._given.get(parameter.name)
            if isinstance(setting, Choices) and parameter.kind != "float":
                yield Choice(EVERYWHERE, parameter.name, None, setting.choices), None

    def _coefficients(self) -> Iterator[tuple[Gene | Choice, int | None]]:
        """Genes of numbers, and to which group of their parameter's each belongs."""
        weight = self._given.get(WEIGHT)
        if isinstance(weight, Directed):
            norm = weight.norm
            yield Gene(EVERYWHERE, NORM, None, norm.low, norm.high, norm.log), None
        for parameter, setting in self._numbers():
            parents = range(len(self.parents)) if parameter.per_parent else [None]
            if isinstance(setting, Directed):
                parents = parents[:-1]
            for place, group in enumerate(self._spreads[parameter.name].groups):
                for parent in parents:
                    at = (group.block, parameter.name, parent)
                    match setting:
                        case Range(low=low, high=high, log=log):
                            yield Gene(*at, low, high, log), place
                        case Choices(choices=choices):
                            yield Choice(*at, tuple(map(float, choices))), place
                        case Directed():
                            yield Gene(group.block, SHARE, parent, 0.0, 1.0, log=False), place

    def _parameters(
        self,
        method: MethodDeclaration,
        words: Mapping[str, Any],
        values: Mapping[str, list[list[float]]],
    ) -> dict[str, Value]:
        """All parameters of a recipe; those of LiNeS only where they are given."""
        given = method.expand(self._settings)
        parameters: dict[str, Value] = {}
        for parameter in method.parameters:
            name = parameter.name
            if name in values:
                parameters[name] = self._table(parameter, values[name])
            elif name in words:
                parameters[name] = words[name]
            elif name in given or parameter not in LINES:
                parameters[name] = self._fixed(parameter, given)
        return parameters

    def _table(self, parameter: Parameter, values: list[list[float]]) -> Value:
        """A row for each block.

        A number that is searched for other methods as well, which have one for all parents, is
        that of every parent.
        """
        table = self._spreads[parameter.name].table(values)
        if not parameter.per_parent:
            return tuple(row[0] for row in table)
        return tuple(row if len(row) > 1 else row * len(self.parents) for row in table)

    def _rows_of(self, recipe: Recipe) -> list[list[int]] | None:
        """For each block, those of the recipe that its tensors are in; None where some are cut."""
        owners = self.layout.blocks(recipe.partition)
        if isinstance(recipe.partition, Segments) or recipe.blocks != tuple(
            block.name for block in owners
        ):
            return None
        owner = {piece.tensor: row for row, block in enumerate(owners) for piece in block.pieces}
        return [
            sorted({owner[piece.tensor] for piece in block.pieces})
            for block in self.layout.blocks(self.partition)
        ]

    def _nearest(self, method: MethodDeclaration, recipe: Recipe, rows: Sequence[int]) -> Genome:
        """The point nearest to a recipe of a method, of which each block has one row."""
        genome = self.encode({METHOD: method.name})
        tables = {
            p.name: [_row(p, recipe, row, self.parents) for row in rows] for p in method.parameters
        }
        wanted = {
            name: spread.values(np.array(tables[name], dtype=np.float64))
            for name, spread in self._spreads.items()
            if name in tables
        }
        if self._is_directed and WEIGHT in wanted:
            self._direct(genome, wanted[WEIGHT], [self.parents.index(p) for p in recipe.parents])
        for position, (gene, place) in enumerate(zip(self._merging, self._places, strict=True)):
            if gene.parameter == INCLUDE and gene.parent is not None:
                genome[position] = gene.unit(self.parents[gene.parent] in recipe.parents)
            elif place is None and gene.parameter in tables:
                genome[position] = gene.unit(tables[gene.parameter][0][0])
            elif place is not None and gene.parameter in wanted:
                found = wanted[gene.parameter][place]
                genome[position] = gene.unit(float(found[min(gene.parent or 0, len(found) - 1)]))
        return genome

    def _fixed(self, parameter: Parameter, settings: Mapping[str, Any]) -> Value:
        given: Any = settings.get(parameter.name, parameter.default)
        if isinstance(given, tuple):
            return tuple(given for _ in self.blocks)
        if isinstance(given, Searched):
            raise TypeError(f"{parameter.name} is searched")
        fixed: Value = float(given) if parameter.kind == "float" else given
        return fixed


def _knotted(given: Mapping[str, Any], layout: Layout) -> Iterator[Problem]:
    """Gradients that have more knots than there are layers to tell their values from."""
    depths = [depth for t in layout.tensors if (depth := layout.depth(t.name)) is not None]
    layers = max((count for _, count in depths), default=1 if layout.tensors else 64)
    for name, setting in given.items():
        if isinstance(setting, Range) and setting.gradient and setting.gradient > layers:
            message = (
                f"has {setting.gradient} knots for {layers} layers; one per layer is {{layers: 1}}"
            )
            yield Problem(field=f"space.parameters.{name}.gradient", message=message)


def _without(value: Value, kept: Sequence[int]) -> Value:
    """A parameter's value where only the kept parents take part."""
    if not isinstance(value, tuple):
        return value
    return tuple(tuple(row[i] for i in kept) if isinstance(row, tuple) else row for row in value)


def _row(
    parameter: Parameter, recipe: Recipe, block: int, parents: Sequence[str]
) -> tuple[Any, ...]:
    """What a parameter is in a block of a recipe: one value, or one for each of some parents.

    Of a parent that the recipe leaves out it is the default.
    """
    value: Any = recipe.at(block).get(parameter.name, parameter.default)
    if not parameter.per_parent:
        return (value,)
    given = value if isinstance(value, tuple) else (value,) * len(recipe.parents)
    own = dict(zip(recipe.parents, given, strict=True))
    return tuple(own.get(parent, parameter.default) for parent in parents)


def _close(ours: Sequence[Any], theirs: Sequence[Any]) -> bool:
    return all(
        math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
        if isinstance(a, float) or isinstance(b, float)
        else a == b
        for a, b in zip(ours, theirs, strict=True)
    )
