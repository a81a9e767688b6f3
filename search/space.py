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
from search.spec import Choices, Range, SearchSpec

# A point of the unit cube, (dim,) float64.
Genome = NDArray[np.float64]


# The gene that chooses among methods, and the block of genes that hold for the whole model.
METHOD = "method"
EVERYWHERE = -1


@dataclass(frozen=True, slots=True)
class Choice:
    """One searched value among some: of a parameter in a block (or everywhere), or the method."""

    block: int
    parameter: str
    parent: int | None
    choices: tuple[Any, ...]

    def value(self, unit: float) -> Any:
        """The choice whose equal part of [0, 1] a point lies in."""
        return self.choices[min(max(int(unit * len(self.choices)), 0), len(self.choices) - 1)]

    def unit(self, value: Any) -> float:
        """The middle of a choice's part; of numbers, that of the nearest."""
        if value in self.choices:
            place = self.choices.index(value)
        elif isinstance(value, float) and all(isinstance(c, int | float) for c in self.choices):
            place = min(range(len(self.choices)), key=lambda i: abs(self.choices[i] - value))
        else:
            place = 0
        return (place + 0.5) / len(self.choices)


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

    Numbers in a range have a gene for every block, and for every parent where the parameter is one
    of theirs; so have choices among numbers. Other choices (whole numbers, flags, words, the
    method) are made once for the whole model.

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
        self.layout = layout
        self.parents = tuple(parent.name for parent in spec.parents)
        self.partition = spec.space.blocks
        self.seed = spec.seed
        self.blocks = tuple(block.name for block in layout.blocks(self.partition))
        self._settings = given
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
                    "model" if g.block == EVERYWHERE else self.blocks[g.block],
                    g.parameter,
                    *([] if g.parent is None else [self.parents[g.parent]]),
                )
            )
            for g in self.genes
        )

    def decode(self, genome: Sequence[float] | Genome) -> Recipe:
        """The recipe at a point of the unit cube.

        Different points give different recipes where no choice is searched; points of the same
        choices give the same.
        """
        if len(genome) != self.dim:
            raise ValueError(f"expected a genome of {self.dim} genes, got {len(genome)}")
        found: dict[str, Any] = {}
        for gene, unit in zip(self.genes, genome, strict=True):
            value = gene.value(float(unit))
            if gene.block == EVERYWHERE:
                found[gene.parameter] = value
                continue
            table = found.setdefault(gene.parameter, [[] for _ in self.blocks])
            table[gene.block].append(value)
        method = self.declaration.alternatives.get(found.pop(METHOD, ""), self.declaration)
        given = method.expand(self._settings)
        parameters = {
            p.name: self._rows(p, found[p.name]) if p.name in found else self._fixed(p, given)
            for p in method.parameters
            if p.name in found or p.name in given or p not in LINES
        }
        return Recipe(
            method=method.name,
            parents=self.parents,
            partition=self.partition,
            blocks=self.blocks,
            parameters=parameters,
            seed=self.seed,
        )

    def encode(self, values: Mapping[str, Any]) -> Genome:
        """The point nearest to parameter values that hold in every block; else defaults."""
        genome = np.empty(self.dim)
        for position, gene in enumerate(self.genes):
            if gene.parameter == METHOD:
                genome[position] = gene.unit(values.get(METHOD, ""))
                continue
            value: Any = values.get(
                gene.parameter, self.declaration.parameter(gene.parameter).default
            )
            if gene.parent is not None and not isinstance(value, int | float):
                value = value[gene.parent]
            genome[position] = gene.unit(value)
        return genome

    def reaches(self, values: Mapping[str, float | Sequence[float]]) -> bool:
        """Whether parameters can take exactly these values, in every block."""
        return all(
            self._reaches(self.declaration.parameter(name), value) for name, value in values.items()
        )

    def _reaches(self, parameter: Parameter, value: Any) -> bool:
        wanted = list(value) if isinstance(value, Sequence) else [value]
        match self._given.get(parameter.name):
            case Range(low=low, high=high):
                return all(low <= w <= high for w in wanted)
            case Choices(choices=choices):
                return all(w in choices for w in wanted)
        fixed = self._fixed(parameter, self._given)
        if isinstance(fixed, tuple):
            fixed = fixed[0]
        have = list(fixed) if isinstance(fixed, tuple) else [fixed]
        return all(h == w for h, w in zip(have * len(wanted), wanted * len(have), strict=True))

    def _genes(self) -> list[Gene | Choice]:
        genes: list[Gene | Choice] = []
        if self.declaration.alternatives:
            genes.append(Choice(EVERYWHERE, METHOD, None, tuple(self.declaration.alternatives)))
        searched = [
            (parameter, setting)
            for parameter in self.declaration.parameters
            if isinstance(setting := self._given.get(parameter.name), Range | Choices)
        ]
        for parameter, setting in searched:
            if isinstance(setting, Choices) and parameter.kind != "float":
                genes.append(Choice(EVERYWHERE, parameter.name, None, setting.choices))
        for block in range(len(self.blocks)):
            for parameter, setting in searched:
                if parameter.kind != "float":
                    continue
                parents = range(len(self.parents)) if parameter.per_parent else [None]
                for parent in parents:
                    match setting:
                        case Range(low=low, high=high, log=log):
                            genes.append(Gene(block, parameter.name, parent, low, high, log))
                        case Choices(choices=choices):
                            numbers = tuple(map(float, choices))
                            genes.append(Choice(block, parameter.name, parent, numbers))
        return genes

    def _rows(self, parameter: Parameter, found: Any) -> Value:
        """The rows of a table, or what holds everywhere.

        A number that is searched for other methods as well, which have one for all parents, is
        that of every parent.
        """
        if not isinstance(found, list):
            everywhere: Value = found
            return everywhere
        if not parameter.per_parent:
            return tuple(row[0] for row in found)
        return tuple(
            tuple(row) if len(row) > 1 else tuple(row) * len(self.parents) for row in found
        )

    def _fixed(self, parameter: Parameter, settings: Mapping[str, Any]) -> Value:
        given: Any = settings.get(parameter.name, parameter.default)
        if isinstance(given, tuple):
            return tuple(given for _ in self.blocks)
        if isinstance(given, Range | Choices):
            raise TypeError(f"{parameter.name} is searched")
        fixed: Value = float(given) if parameter.kind == "float" else given
        return fixed
