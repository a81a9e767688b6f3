"""Merge methods: what each one declares, and the function that does it to one tensor."""

from __future__ import annotations

import hashlib
import keyword
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from search.method import MethodDeclaration
from search.problems import Invalid
from search.registry import Registry

# A merge function: (out, sources, **declared parameters). It writes the merged tensor into ``out``.
# A parameter whose name is a keyword of Python takes an underscore (``lambda_``).
MergeFunction = Callable[..., None]

Given = Mapping[str, Any]


class NotMergeable(ValueError):
    """This candidate has no merged model, now or ever; the message is for the user to read."""


def require_finite(name: str, tensor: Tensor) -> None:
    """Check a merged tensor to the last element.

    Raises:
        NotMergeable: it holds an infinity or a NaN.
    """
    # The extremes of a tensor with a NaN are NaN. Finding them is many times as fast as isfinite().
    if tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
        raise NotMergeable(f"'{name}' is not finite after the merge; its weights are too large")


@dataclass(frozen=True, slots=True, eq=False)
class Sources:
    """One tensor, as the base and every parent have it: all of one shape, on one device.

    Args:
        name: of the tensor.
        base: left unread by methods that do not declare ``uses_base``.
        parents: the same tensor of each parent.
        labels: names of the parents.
        seed: of the recipe.
        memo: what methods remember of these models from one candidate to the next.
    """

    name: str
    base: Tensor
    parents: Sequence[Tensor]
    labels: Sequence[str]
    seed: int = 0
    memo: dict[Hashable, Any] = field(default_factory=dict)

    def noise_key(self, parent: int) -> int:
        """128 bits that depend on the seed and the names of parent and tensor, and on nothing else.

        As the key of a counter-based generator they give the same mask wherever, whenever and in
        whatever order tensors are merged.
        """
        text = f"{self.seed}\n{self.labels[parent]}\n{self.name}"
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        return int.from_bytes(digest, "little")


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
            NotMergeable: these parameters have no result (weights that sum to nothing).
        """
        self.function(out, sources, **{_keyword(name): v for name, v in arguments.items()})

    def arguments(self, given: Given, parents: int) -> dict[str, Any]:
        """A value for every declared parameter, and a tuple of one per parent where declared so.

        Args:
            given: values by parameter; a single number stands for all parents.
            parents: how many there are.

        Raises:
            Invalid: unknown parameters, values of the wrong kind or outside of the declared limits,
                a wrong number of values or of parents.
        """
        settings = {name: _listed(value) for name, value in given.items()}
        if problems := self.declaration.problems(settings, parents, prefix="parameters."):
            raise Invalid(problems)
        arguments = {}
        for parameter in self.declaration.parameters:
            value = settings.get(parameter.name, parameter.default)
            if parameter.per_parent and not isinstance(value, tuple):
                value = (value,) * parents
            arguments[parameter.name] = value
        return arguments


methods: Registry[MergeMethod] = Registry("merge method", "workers.methods")


def merge_method(declaration: MethodDeclaration) -> Callable[[MergeFunction], MergeFunction]:
    """Register the decorated function under its declaration."""

    def add(function: MergeFunction) -> MergeFunction:
        methods.register(MergeMethod(declaration, function))
        return function

    return add


def _keyword(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) else name


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
