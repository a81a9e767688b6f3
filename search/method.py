"""What a merge method asks for: its parameters, whether it needs the base, how many parents."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from search.problems import Problem
from search.registry import suggestion
from search.spec import Choices, Directed, Range

Kind = Literal["float", "integer", "flag", "choice"]

# What a candidate costs after the first one with the same structural parameters:
# "linear": one pass of multiplications; "vote": one pass that compares, draws or counts as well;
# "closed form": a pass whose coefficients follow from inner products that are kept;
# "prepared": a linear pass over directions that are expensive to find, found once and kept.
Cost = Literal["linear", "vote", "closed form", "prepared"]

# What parents are weighed by.
WEIGHT = "weight"

# A flag: divide by the sum of the weights.
NORMALIZE = "normalize"

# Asks for a preset of parameters instead of single ones.
COMPAT = "compat"
PRESETS = ("mergekit", "paper")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One declared parameter of a merge method.

    Args:
        name: as written in a spec and in mergekit's YAML.
        description: a short sentence with units.
        kind: ``float`` is searched over a range or among choices; a whole number (``integer``), a
            ``flag`` (bool) or one of the ``choices`` among choices.
        per_parent: one value per parent, or one for all.
        per_block: searched for every block, or once for the whole model.
        default: used where the spec is silent; for a searched float also the centre of its range.
        low, high: the range that the catalogue recommends to search.
        minimum, maximum: values outside are refused; both inclusive.
        log: searched on a logarithmic scale.
        choices: the values of a ``choice``.
    """

    name: str
    description: str
    kind: Kind = "float"
    per_parent: bool = False
    per_block: bool = True
    default: float | int | bool | str = 1.0
    low: float = 0.0
    high: float = 1.0
    minimum: float = float("-inf")
    maximum: float = float("inf")
    log: bool = False
    choices: tuple[str, ...] = ()

    @property
    def limits(self) -> str:
        """The values that are accepted, in words."""
        if self.minimum == float("-inf"):
            return f"at most {self.maximum:g}"
        if self.maximum == float("inf"):
            return f"at least {self.minimum:g}"
        return f"between {self.minimum:g} and {self.maximum:g}"

    def misfit(self, setting: object, parents: int) -> str | None:
        """Why a value, a tuple with one per parent, or a range does not fit; None when it does."""
        match self.kind, setting:
            case (_, Choices(choices=choices)):
                return next((m for c in choices if (m := self.misfit(c, parents))), None)
            case ("flag", _):
                fits = isinstance(setting, bool)
                return None if fits else "is true, false, or {choices: [true, false]}"
            case ("choice", _):
                fits = setting in self.choices
                return (
                    None if fits else f"is one of {', '.join(self.choices)}, or {{choices: [...]}}"
                )
            case ("integer", int() | float()) if not float(setting).is_integer():
                return f"is a whole number, not {setting:g}"
            case ("integer", Range()):
                return "is a whole number; name those to search among: {choices: [...]}"
            case (_, Directed()):
                fits = self.name == WEIGHT and self.per_parent
                return None if fits else "has no norm: only weights of parents have one"
            case (_, Range(gradient=int())) if not self.per_block:
                return "is one value for the whole model, which has no gradient"
            case (_, Range(low=low, high=high)):
                return self._outside((low, high))
            case (_, tuple() as values):
                if not self.per_parent:
                    return "is one number for all parents, not a list"
                if len(values) != parents:
                    return f"has {len(values)} numbers for {parents} parents"
                return self._outside(values)
        return self._outside((setting,))

    def _outside(self, values: Iterable[object]) -> str | None:
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float):
                return f"is a number or a range, not {value!r}"
            if not (math.isfinite(value) and self.minimum <= value <= self.maximum):
                return f"is {value:g}, but must be {self.limits}: {self.description}"
        return None


# Every method that reads the base takes these as well: what it adds to the base is scaled by depth.
LINES = (
    Parameter(
        "lines_alpha",
        "factor of what is added to the base in the first layer and outside of layers (LiNeS, Wang "
        "et al. 2024, arXiv:2410.17146, eq. 3)",
        per_block=False,
        default=1.0,
        low=0.0,
        high=1.0,
    ),
    Parameter(
        "lines_beta",
        "how much larger that factor is in the last layer than in the first; linear in between",
        per_block=False,
        default=0.0,
        low=0.0,
        high=1.5,
    ),
)

# A method with this flag also works without a base, on the weights themselves.
TASK_VECTORS = Parameter(
    "task_vectors",
    "merge differences to the base and add them to it, rather than merge the weights themselves",
    "flag",
    default=True,
)


@dataclass(frozen=True, slots=True)
class MethodDeclaration:
    """All that the search knows of a merge method.

    Args:
        name: as written in a spec.
        summary: one sentence for the catalogue.
        source: where it is defined ("Yadav et al. 2023, arXiv:2306.01708").
        parameters: in the order of the genome.
        uses_base: the formula reads the base (task vectors).
        cost: what a candidate costs.
        directions: of a prepared method, how many it keeps of each tensor: so many, and so many
            for each parent.
        minimum_parents, maximum_parents: how many parents it takes; None means any number.
        parent_values: parameter values (besides ``weight``) under which one-hot weights give
            exactly that parent; None when the method has no such point.
        mergekit: the method's name in a mergekit YAML, where one exists.
        presets: where references disagree: under ``mergekit`` and ``paper`` the parameters that
            reproduce them. A name that is missing changes nothing.
        alternatives: the methods that this one stands for (see ``one_of``), by name.
    """

    name: str
    summary: str
    source: str
    parameters: tuple[Parameter, ...]
    uses_base: bool
    cost: Cost = "linear"
    directions: tuple[int, int] = (1, 0)
    minimum_parents: int = 1
    maximum_parents: int | None = None
    parent_values: Mapping[str, float | bool] | None = field(default_factory=dict)
    mergekit: str | None = None
    presets: Mapping[str, Mapping[str, float | int | bool | str]] = field(default_factory=dict)
    alternatives: Mapping[str, MethodDeclaration] = field(default_factory=dict)

    def expand(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Settings with a preset (``compat``) spelled out; what is set beside it wins."""
        explicit = {name: value for name, value in settings.items() if name != COMPAT}
        return {**self.presets.get(str(settings.get(COMPAT)), {}), **explicit}

    @property
    def needs_base(self) -> bool:
        """Whether it cannot do without a base (see ``TASK_VECTORS``)."""
        return self.uses_base and TASK_VECTORS not in self.parameters

    def kept(self, parents: int) -> int:
        """How many directions of the size of the model candidates share, all methods together."""
        if self.alternatives:
            return sum(one.kept(parents) for one in self.alternatives.values())
        fixed, each = self.directions
        return fixed + each * parents if self.cost == "prepared" else 0

    def takes(self, count: int) -> bool:
        """Whether it can merge this many parents."""
        most = self.maximum_parents
        return count >= self.minimum_parents and (most is None or count <= most)

    @property
    def parent_count(self) -> str:
        """How many parents it takes, in words."""
        least, most = self.minimum_parents, self.maximum_parents
        if most is None:
            return f"at least {least} parents"
        return f"exactly {least} parents" if least == most else f"{least} to {most} parents"

    def problems(
        self, settings: Mapping[str, object], parents: int, *, prefix: str
    ) -> list[Problem]:
        """What is wrong with settings of parameters and with the number of parents.

        Args:
            settings: by parameter; those that are silent have their defaults.
            parents: how many there are.
            prefix: of the fields of parameters, ending in a dot.
        """
        if self.alternatives:
            return self._problems_of_alternatives(settings, parents, prefix)
        problems = []
        if not self.takes(parents):
            message = f"'{self.name}' takes {self.parent_count}, not {parents}"
            problems.append(Problem(field="parents", message=message))
        known = {parameter.name: parameter for parameter in self.parameters}
        for name, setting in settings.items():
            if name == COMPAT:
                if setting not in PRESETS:
                    message = f"is one of {', '.join(PRESETS)}"
                    problems.append(Problem(field=prefix + name, message=message))
            elif name not in known:
                message = f"'{self.name}' has no such parameter; {suggestion(name, known)}"
                problems.append(Problem(field=prefix + name, message=message))
            elif (misfit := known[name].misfit(setting, parents)) is not None:
                problems.append(Problem(field=prefix + name, message=misfit))
        if isinstance(settings.get(WEIGHT), Directed) and (reason := self._lacks_norm(settings)):
            problems.append(Problem(field=prefix + WEIGHT, message=reason))
        return problems

    def _lacks_norm(self, settings: Mapping[str, Any]) -> str | None:
        """Why the length of the weights would mean nothing; None where it does."""
        if not self.needs_base:
            return f"'{self.name}' weighs models and not what they change, which has no norm"
        given = self.expand(settings)
        default = next((p.default for p in self.parameters if p.name == NORMALIZE), False)
        if given.get(NORMALIZE, default) is not False:
            return "is divided by its sum, which leaves it no norm; set normalize: false"
        return None

    def _problems_of_alternatives(
        self, settings: Mapping[str, object], parents: int, prefix: str
    ) -> list[Problem]:
        """What any of the methods refuses; a parameter need only be known to one of them."""
        known = {p.name for p in self.parameters} | {COMPAT}
        problems = []
        for name in settings.keys() - known:
            message = f"none of these methods has such a parameter; {suggestion(name, known)}"
            problems.append(Problem(field=prefix + name, message=message))
        for one in self.alternatives.values():
            own = {parameter.name for parameter in one.parameters} | {COMPAT}
            mine = {name: setting for name, setting in settings.items() if name in own}
            problems += [
                Problem(field=p.field, message=f"for '{one.name}': {p.message}")
                for p in one.problems(mine, parents, prefix=prefix)
            ]
        return problems

    def parameter(self, name: str) -> Parameter:
        """The parameter called ``name``; KeyError when there is none."""
        for parameter in self.parameters:
            if parameter.name == name:
                return parameter
        raise KeyError(name)


def one_of(declarations: Sequence[MethodDeclaration]) -> MethodDeclaration:
    """What a search asks for that chooses among methods: the parameters of all of them.

    A parameter that several have is searched once for all, and for each parent only where all of
    them have it for each; where a spec is silent each method has its own default. A single method
    stays what it is.
    """
    first, *others = declarations
    if not others:
        return first
    names = ", ".join(declaration.name for declaration in declarations)
    parameters = {p.name: p for d in reversed(declarations) for p in d.parameters}
    for p in (p for d in declarations for p in d.parameters if not p.per_parent):
        parameters[p.name] = replace(parameters[p.name], per_parent=False)
    return MethodDeclaration(
        name=f"one of {names}",
        summary=f"One of {names}.",
        source="; ".join(dict.fromkeys(d.source for d in declarations)),
        parameters=tuple(parameters.values()),
        uses_base=any(d.uses_base for d in declarations),
        minimum_parents=max(d.minimum_parents for d in declarations),
        maximum_parents=min(
            (d.maximum_parents for d in declarations if d.maximum_parents is not None),
            default=None,
        ),
        parent_values=None,
        alternatives={d.name: d for d in declarations},
    )
