"""Merge methods: what each one declares, and the function that does it to one tensor."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from search.layout import Kind
from search.method import LINES, MethodDeclaration
from search.problems import Invalid
from search.registry import Registry
from workers.kernels.fused import NotFinite
from workers.kernels.weighted_sum import sum_dtype, weighted_sum
from workers.merging.memo import Memo

Made = TypeVar("Made")

# A merge function: (out, sources, **declared parameters). It writes the merged tensor into ``out``,
# by ``weighted_sum``, ``add_task_vectors`` or ``write``: they let nothing pass that is not finite.
# A parameter whose name is a keyword of Python takes an underscore (``lambda_``).
MergeFunction = Callable[..., None]

Given = Mapping[str, Any]


class NotMergeable(ValueError):
    """This candidate has no merged model, now or ever; the message is for the user to read."""


def is_finite(tensor: Tensor) -> bool:
    """Whether every element is finite.

    A sum runs at memory speed and cannot hide a NaN or an infinity; the exact check, sixty times
    slower, settles the sums that overflow.
    """
    total = tensor.sum(dtype=torch.float32)
    return bool(total.isfinite()) or bool(tensor.isfinite().all())


def _no_others() -> Iterator[Sources]:
    raise NotMergeable("this method looks at the whole model, but was given one tensor of it")


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """One tensor, as the base and every parent have it: all of one shape, on one device.

    Args:
        name: of the tensor.
        base: left unread by methods that do not declare ``uses_base``.
        parents: the same tensor of each parent.
        labels: names of the parents.
        seed: of the recipe.
        memo: keeps what methods remember of these models from one candidate to the next.
        kind: what the tensor is to methods that treat matrices in a way of their own.
        depth: number of its layer, and of layers; None outside of layers.
        start: flat index in the whole tensor of the first element, where this is a part of it.
        model: every tensor of the model in the order of their names, each of them whole.
    """

    name: str
    base: Tensor
    parents: Sequence[Tensor]
    labels: Sequence[str]
    seed: int = 0
    memo: Memo = field(default_factory=Memo)
    kind: Kind = "matrix"
    depth: tuple[int, int] | None = None
    start: int = 0
    model: Callable[[], Iterator[Sources]] = _no_others

    @property
    def dtype(self) -> torch.dtype:
        """Of sums and of what is remembered: float64 for float64 parents, else float32."""
        return sum_dtype(self.base)

    def delta(self, parent: int) -> Tensor:
        """Task vector of a parent, in ``dtype``: taken in bfloat16 it would lose most bits."""
        return self.parents[parent].to(self.dtype) - self.base.to(self.dtype)

    def deltas(self) -> Tensor:
        """(parents, *shape) task vectors, in ``dtype``."""
        return torch.stack([self.delta(parent) for parent in range(len(self.parents))])

    def remember(self, what: Hashable, make: Callable[[], Made]) -> Made:
        """What ``make`` finds out about this tensor of these models, computed once.

        Args:
            what: tells it from everything else: name of the method, of the fact, and every
                parameter that it depends on.
            make: must not depend on anything else, the seed included.
        """
        where = (self.name, self.start, self.base.numel())
        return self.memo.get((what, tuple(self.labels), where), make)

    def remember_model(self, what: Hashable, make: Callable[[], Made]) -> Made:
        """As ``remember``, about all tensors of these models together (see ``model``)."""
        return self.memo.get((what, tuple(self.labels)), make)


def require_finite(sources: Sources, *, around_base: bool) -> None:
    """No merge hides that a model is broken.

    A vote would outvote a NaN, a trim drop it, and a weight of 0 pass it over.

    Raises:
        NotMergeable: a parent, or the base where it is read, holds a NaN or an infinity.
    """
    if around_base and not is_finite(sources.base):
        raise NotMergeable(f"'{sources.name}' of the base is not finite")
    for label, tensor in zip(sources.labels, sources.parents, strict=True):
        if not is_finite(tensor):
            raise NotMergeable(f"'{sources.name}' of parent '{label}' is not finite")


@dataclass(frozen=True, slots=True)
class MergeMethod:
    """A declaration and the function that keeps its promise."""

    declaration: MethodDeclaration
    function: MergeFunction

    @property
    def name(self) -> str:
        """As written in a spec."""
        return self.declaration.name

    def merge(self, out: Tensor, sources: Sources, arguments: Given) -> None:
        """Write the merged tensor into ``out``.

        Args:
            out: shape of the sources; sums are taken in float32 (float64 for a float64 ``out``) and
                rounded once, to its dtype.
            sources: the same tensor of every model.
            arguments: from ``arguments()``.

        Raises:
            NotMergeable: these parameters have no result (weights that sum to nothing), or not a
                finite one.
        """
        given = {_keyword(name): v for name, v in arguments.items() if name not in _LINES}
        factor = depth_factor(sources.depth, arguments)
        try:
            if factor == 1.0:
                self.function(out, sources, **given)
            else:
                merged = torch.empty(out.shape, dtype=sum_dtype(out), device=out.device)
                self.function(merged, sources, **given)
                weighted_sum(out, (sources.base, merged), (1.0 - factor, factor))
        except NotFinite:
            raise NotMergeable(
                f"'{sources.name}' is not finite after the merge; its weights are too large"
            ) from None

    def arguments(self, given: Given, parents: int) -> dict[str, Any]:
        """A value for every declared parameter, and a tuple of one per parent where declared so.

        Args:
            given: values by parameter; a single number stands for all parents, and ``compat``
                for a preset.
            parents: how many there are.

        Raises:
            Invalid: unknown parameters, values of the wrong kind or outside of the declared limits,
                a wrong number of values or of parents.
        """
        settings = {name: _listed(value) for name, value in given.items()}
        if problems := self.declaration.problems(settings, parents, prefix="parameters."):
            raise Invalid(problems)
        settings = self.declaration.expand(settings)
        arguments = {}
        for parameter in self.declaration.parameters:
            value = settings.get(parameter.name, parameter.default)
            if parameter.kind == "integer":  # JSON and databases may have made a float of it
                value = int(value)
            if parameter.per_parent and not isinstance(value, tuple):
                value = (value,) * parents
            arguments[parameter.name] = value
        return arguments


methods: Registry[MergeMethod] = Registry("merge method", "workers.methods")


def merge_method(
    declaration: MethodDeclaration, *, scaled_by_depth: bool = True
) -> Callable[[MergeFunction], MergeFunction]:
    """Register the decorated function under its declaration.

    Methods that read the base can be scaled by depth: ``LINES`` is added to their parameters, but
    not to those of a method that does this itself.
    """
    if declaration.uses_base and scaled_by_depth:
        declaration = replace(declaration, parameters=(*declaration.parameters, *LINES))

    def add(function: MergeFunction) -> MergeFunction:
        methods.register(MergeMethod(declaration, function))
        return function

    return add


def depth_factor(depth: tuple[int, int] | None, arguments: Given) -> float:
    """LiNeS, eq. 3: alpha outside of layers, alpha + beta in the last one (or the only one)."""
    alpha, beta = (float(arguments.get(name, default)) for name, default in _LINES.items())
    if depth is None:
        return alpha
    layer, layers = depth
    return alpha + beta * (layer / (layers - 1) if layers > 1 else 1.0)


_LINES = {parameter.name: float(parameter.default) for parameter in LINES}


def _keyword(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) else name


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
