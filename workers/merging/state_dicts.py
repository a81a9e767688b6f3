"""Merging as a function of plain state dicts, for notebooks and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from search.layout import Layout
from search.layout import Tensor as LayoutTensor
from search.method import LINES, TASK_VECTORS, MethodDeclaration
from search.problems import Invalid, Problem
from workers.checkpoints.folder import embeddings
from workers.merging.memo import Memo
from workers.merging.merge_method import Given, Sources, methods, require_finite
from workers.merging.spellings import in_our_words

StateDict = Mapping[str, Tensor]


def merge_state_dicts(
    method: str,
    base: StateDict | None,
    parents: Sequence[StateDict] | Mapping[str, StateDict],
    parameters: Given | None = None,
    *,
    seed: int = 0,
    dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """Merge models that are already in memory.

    Names that share their memory in every model (tied weights) are merged once and stay tied.
    Embeddings of different sizes are cropped to the base, or for methods without a base to what all
    parents have. Tensors that are not floating point are the base's.

    Args:
        method: name of a merge method, ours or that of a published program
            (``workers.merging.spellings``).
        base: may be None for methods that do not use it, and for those with the flag
            ``task_vectors``, which then is false.
        parents: one state dict each; a mapping also names them, which random masks depend on.
        parameters: by declared name; per-parent ones are lists, or one number for all.
        seed: of random masks.
        dtype: of the merged floating-point tensors; that of the base (else of the first parent) by
            default.

    Raises:
        UnknownName: no such method.
        Invalid: parameters or state dicts that do not fit.
        NotMergeable: the result does not exist or is not finite.
    """
    method, parameters = in_our_words(method, parameters or {})
    chosen = methods[method]
    named = parents if isinstance(parents, Mapping) else _numbered(parents)
    if "base" in named:
        raise Invalid([Problem(field="parents", message="'base' always means the base model")])
    if base is None:
        parameters = _without_base(chosen.declaration, parameters or {})
    arguments = chosen.arguments(parameters or {}, len(named))
    reference = next(iter(named.values())) if base is None else base
    models = {"base": reference, **named}
    around_base = chosen.declaration.uses_base and arguments.get(TASK_VECTORS.name, True)
    shapes = _common_shapes(models, fixed=around_base)
    tied = _tied(list(models.values()))
    layout, memo = _layout(reference), Memo()

    def sources(name: str) -> Sources:
        mine, *theirs = (_cropped(model[name], shapes[name]) for model in models.values())
        return Sources(
            name=name,
            base=mine,
            parents=theirs,
            labels=tuple(named),
            seed=seed,
            memo=memo,
            kind=layout.kind(_described(name, mine)),
            depth=layout.depth(name),
            model=lambda: map(sources, sorted(shapes.keys() - tied.keys())),
        )

    merged: dict[str, Tensor] = {}
    for name, tensor in reference.items():
        if name in tied:
            merged[name] = merged[tied[name]]
        elif name not in shapes:
            merged[name] = tensor.clone()
        else:
            merged[name] = torch.empty(
                shapes[name], dtype=dtype or tensor.dtype, device=tensor.device
            )
            tensors = sources(name)
            require_finite(tensors, around_base=around_base)
            chosen.merge(merged[name], tensors, arguments)
    return merged


def _without_base(declaration: MethodDeclaration, parameters: Given) -> Given:
    """The parameters with which a method works on weights themselves.

    Raises:
        Invalid: it needs a base, or is asked for what only makes sense around one.
    """
    if declaration.needs_base:
        raise Invalid([Problem(field="base", message=f"'{declaration.name}' needs a base model")])
    if not declaration.uses_base:
        return parameters
    inert = {TASK_VECTORS.name: False, **{p.name: p.default for p in LINES}}
    problems = [
        Problem(field=f"parameters.{name}", message=f"is {parameters[name]}, which needs a base")
        for name, value in inert.items()
        if parameters.get(name, value) != value
    ]
    if problems:
        raise Invalid(problems)
    return {**parameters, TASK_VECTORS.name: False}


def _numbered(parents: Sequence[StateDict]) -> dict[str, StateDict]:
    return {str(number): parent for number, parent in enumerate(parents)}


def _common_shapes(models: Mapping[str, StateDict], *, fixed: bool) -> dict[str, torch.Size]:
    """The shape in which each tensor is merged: that of all models, but for embeddings.

    Args:
        models: the first is the reference.
        fixed: an embedding has the shape of the reference; else the largest that all models have.

    Raises:
        Invalid: with every tensor that does not fit.
    """
    reference = next(iter(models.values()))
    resizable = _embeddings(reference)
    problems: list[Problem] = []
    shapes: dict[str, torch.Size] = {}
    for label, model in models.items():
        for name in sorted(model.keys() ^ reference.keys()):
            what = "is missing" if name in reference else "has no counterpart in the other models"
            problems.append(Problem(field=f"{label}.{name}", message=what))
    for name, tensor in reference.items():
        if not tensor.is_floating_point():
            continue
        have = {label: m[name].shape for label, m in models.items() if name in m}
        shapes[name] = tensor.shape
        if name in resizable and not fixed and len({len(shape) for shape in have.values()}) == 1:
            shapes[name] = torch.Size(map(min, zip(*have.values(), strict=True)))
        problems += [
            Problem(
                field=f"{label}.{name}",
                message=f"has shape {tuple(shape)}, expected {tuple(shapes[name])}",
            )
            for label, shape in have.items()
            if not _fits(shape, shapes[name], cropped=name in resizable)
        ]
    if problems:
        raise Invalid(problems)
    return shapes


def _fits(shape: torch.Size, wanted: torch.Size, *, cropped: bool) -> bool:
    if not cropped or len(shape) != len(wanted):
        return shape == wanted
    return all(have >= want for have, want in zip(shape, wanted, strict=True))


def _cropped(tensor: Tensor, shape: torch.Size) -> Tensor:
    return tensor[tuple(slice(0, size) for size in shape)] if tensor.shape != shape else tensor


def _embeddings(state: StateDict) -> set[str]:
    """Names of embeddings and heads: tensors with a row per token."""
    tables, heads = embeddings(_layout(state))
    return {tensor.name for tensor in (*tables, *heads)}


def _layout(state: StateDict) -> Layout:
    return Layout.of(_described(name, tensor) for name, tensor in state.items())


def _described(name: str, tensor: Tensor) -> LayoutTensor:
    return LayoutTensor(name=name, shape=tuple(tensor.shape), dtype=str(tensor.dtype))


def _tied(models: Sequence[StateDict]) -> dict[str, str]:
    """Names that share their memory with an earlier name, in every model alike."""
    first: dict[tuple[object, ...], str] = {}
    tied: dict[str, str] = {}
    for name in models[0]:
        if any(name not in model for model in models):
            continue
        key = tuple(_memory(model[name]) for model in models)
        if first.setdefault(key, name) != name:
            tied[name] = first[key]
    return tied


def _memory(tensor: Tensor) -> object:
    return (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else object()
