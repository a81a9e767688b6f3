"""The search space: named genes, and the one place where bounds are handled."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.layout import Layout
from search.method import LINES, MethodDeclaration, Parameter
from search.problems import Invalid
from search.recipe import Recipe, Value
from search.spec import Range, SearchSpec

# A point of the unit cube, (dim,) float64.
Genome = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gene:
    """One searched coefficient: a parameter in a block, for one parent or for all."""

    block: int
    parameter: str
    parent: int | None
    low: float
    high: float
    log: bool

    def value(self, unit: float) -> float:
        """Map [0, 1] onto the range; strictly increasing, both bounds exact."""
        if unit <= 0.0:
            return self.low
        if unit >= 1.0:
            return self.high
        if self.log:
            return math.exp(math.log(self.low) + unit * (math.log(self.high) - math.log(self.low)))
        return self.low + unit * (self.high - self.low)

    def unit(self, value: float) -> float:
        """Inverse of ``value``; values outside of the range go to the nearer bound."""
        clipped = min(max(value, self.low), self.high)
        if self.log:
            return (math.log(clipped) - math.log(self.low)) / (
                math.log(self.high) - math.log(self.low)
            )
        return (clipped - self.low) / (self.high - self.low)


class SearchSpace:
    """Ordered genes and how a point of the unit cube becomes a recipe.

    Args:
        declaration: the merge method.
        spec: parents, blocks and parameters are read from it.
        layout: of the base.

    Raises:
        Invalid: an unknown parameter, a range outside of the declared limits, a parameter that
            cannot be searched, too few or too many parents.
    """

    def __init__(self, declaration: MethodDeclaration, spec: SearchSpec, layout: Layout) -> None:
        given = spec.space.parameters
        problems = declaration.problems(given, len(spec.parents), prefix="space.parameters.")
        if problems:
            raise Invalid(problems)
        self.declaration = declaration
        self.parents = tuple(parent.name for parent in spec.parents)
        self.partition = spec.space.blocks
        self.seed = spec.seed
        self.blocks = tuple(block.name for block in layout.blocks(self.partition))
        self._given = declaration.expand(given)
        self.genes = tuple(self._genes())

    @property
    def dim(self) -> int:
        """Number of genes."""
        return len(self.genes)

    @property
    def names(self) -> tuple[str, ...]:
        """A readable name for each gene: ``layers.0-1.mlp/weight/add``."""
        return tuple(
            "/".join(
                (
                    self.blocks[g.block],
                    g.parameter,
                    *([] if g.parent is None else [self.parents[g.parent]]),
                )
            )
            for g in self.genes
        )

    def decode(self, genome: Sequence[float] | Genome) -> Recipe:
        """The recipe at a point of the unit cube. Different points give different recipes."""
        if len(genome) != self.dim:
            raise ValueError(f"expected a genome of {self.dim} genes, got {len(genome)}")
        tables: dict[str, list[Any]] = {
            p.name: [[0.0] * len(self.parents) if p.per_parent else 0.0 for _ in self.blocks]
            for p in self.declaration.parameters
            if self._range(p) is not None
        }
        for gene, unit in zip(self.genes, genome, strict=True):
            value = gene.value(float(unit))
            if gene.parent is None:
                tables[gene.parameter][gene.block] = value
            else:
                tables[gene.parameter][gene.block][gene.parent] = value
        parameters = {
            p.name: self._fixed(p)
            for p in self.declaration.parameters
            if p.name not in tables and (p.name in self._given or p not in LINES)
        }
        for name, rows in tables.items():
            parameters[name] = tuple(tuple(row) if isinstance(row, list) else row for row in rows)
        return Recipe(
            method=self.declaration.name,
            parents=self.parents,
            partition=self.partition,
            blocks=self.blocks,
            parameters=parameters,
            seed=self.seed,
        )

    def encode(self, values: Mapping[str, float | Sequence[float]]) -> Genome:
        """The point nearest to parameter values that hold in every block; else defaults."""
        genome = np.empty(self.dim)
        for position, gene in enumerate(self.genes):
            value: Any = values.get(
                gene.parameter, self.declaration.parameter(gene.parameter).default
            )
            if gene.parent is not None and not isinstance(value, int | float):
                value = value[gene.parent]
            genome[position] = gene.unit(float(value))
        return genome

    def reaches(self, values: Mapping[str, float | Sequence[float]]) -> bool:
        """Whether parameters can take exactly these values, in every block."""
        return all(
            self._reaches(self.declaration.parameter(name), value) for name, value in values.items()
        )

    def _reaches(self, parameter: Parameter, value: Any) -> bool:
        wanted = list(value) if isinstance(value, Sequence) else [value]
        bounds = self._range(parameter)
        if bounds is not None:
            return all(bounds.low <= w <= bounds.high for w in wanted)
        fixed = self._fixed(parameter)
        if isinstance(fixed, tuple):
            fixed = fixed[0]
        have = list(fixed) if isinstance(fixed, tuple) else [fixed]
        return all(h == w for h, w in zip(have * len(wanted), wanted * len(have), strict=True))

    def _genes(self) -> list[Gene]:
        genes = []
        for block in range(len(self.blocks)):
            for parameter in self.declaration.parameters:
                bounds = self._range(parameter)
                if bounds is None:
                    continue
                parents = range(len(self.parents)) if parameter.per_parent else [None]
                genes += [
                    Gene(block, parameter.name, parent, bounds.low, bounds.high, bounds.log)
                    for parent in parents
                ]
        return genes

    def _range(self, parameter: Parameter) -> Range | None:
        given = self._given.get(parameter.name)
        return given if isinstance(given, Range) else None

    def _fixed(self, parameter: Parameter) -> Value:
        given: Any = self._given.get(parameter.name, parameter.default)
        if isinstance(given, tuple):
            return tuple(given for _ in self.blocks)
        if isinstance(given, Range):
            raise TypeError(f"{parameter.name} is searched")
        fixed: Value = float(given) if parameter.kind == "float" else given
        return fixed
