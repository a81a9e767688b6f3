"""A merge of adapters as an adapter again, without a single weight of the base."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from search.problems import Invalid, Problem
from search.recipe import Recipe
from search.spec import BASE
from workers.checkpoints.adapter import Adapter, module_of
from workers.checkpoints.parents import Parents
from workers.kernels.fused import NotFinite
from workers.kernels.weighted_sum import weighted_sum
from workers.materializer import laid_out
from workers.merging.merge_method import NotMergeable, Sources, is_finite, methods

# Methods whose result is a weighted sum of base and parents, with weights that no tensor changes.
SUMS = ("linear", "task_arithmetic")
_EXACTLY_ONE = 1e-6


@dataclass(slots=True)
class MergedAdapter:
    """An adapter in memory.

    Args:
        config: of PEFT.
        tensors: by PEFT's names; factors in float32.
        errors: Frobenius norm of what a truncation left out, relative to the change of the tensor;
            by the base's names, empty without truncation.
        error: the same of all changes together.
        rank: that it was cut to; None for an exact one.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    errors: dict[str, float] = field(default_factory=dict)
    error: float = 0.0
    rank: int | None = None

    @property
    def details(self) -> dict[str, object]:
        """What a model card says of how it was cut."""
        if self.rank is None:
            return {}
        return {"rank": self.rank, "relative error of the change": f"{self.error:.3g}"}


@dataclass(frozen=True, slots=True)
class _Change:
    """``up @ down`` for one module; (out, rank) and (rank, in), as PEFT counts out and in."""

    name: str
    module: str
    is_embedding: bool
    down: Tensor
    up: Tensor


def merge_adapters(
    parents: Parents, recipe: Recipe, *, base_name: str, rank: int | None = None
) -> MergedAdapter:
    """The adapter that makes the merge that a recipe describes of the base.

    Exact: the factors of all parents side by side, with ranks that add up, and the weights folded
    into B. ``rank`` cuts each product to its largest singular values, which is the best that this
    rank can do (Eckart and Young 1936, doi:10.1007/BF02288367).

    Args:
        parents: base and adapters.
        recipe: of a method that sums task vectors.
        base_name: what the base is called where the adapters do not agree.
        rank: at most; None keeps everything.

    Raises:
        Invalid: this merge is no adapter.
        NotMergeable: the recipe does not fit the models, or the result is not finite.
    """
    adapters = [name for name, folder in parents.folders.items() if folder.adapter is not None]
    if problems := obstacles(recipe, adapters):
        raise Invalid(problems)
    coefficients = _coefficients(parents, recipe)
    whole = [n for n in coefficients if any(n in a.whole for _, a in _adapters(parents, recipe))]
    exact = list(_changes(parents, recipe, coefficients, set(whole)))
    if not exact:
        raise Invalid(
            [Problem(field="parents", message="these adapters change no module together")]
        )
    changes, lost, total = [], 0.0, 0.0
    errors: dict[str, float] = {}
    for change in exact:
        if rank is None:
            changes.append(change)
            continue
        smaller, left_out, size = _truncated(change, rank)
        errors[change.name] = math.sqrt(left_out / size) if size else 0.0
        lost, total = lost + left_out, total + size
        changes.append(smaller)
    tensors = dict(item for change in changes for item in _stored(change))
    modules = []
    for name in whole:
        key = _key(parents, recipe, name)
        modules.append(key.rpartition(".")[0])
        tensors[f"base_model.model.{key}"] = _summed(parents, recipe, name, coefficients[name])
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise NotMergeable(f"'{name}' is not finite after the merge; its weights are too large")
    config = _config(changes, sorted(set(modules))) | {
        "base_model_name_or_path": _base_name(parents, recipe) or base_name,
        "fan_in_fan_out": _turned(parents, recipe),
    }
    error = math.sqrt(lost / total) if total else 0.0
    return MergedAdapter(config, tensors, errors, error, rank)


def obstacles(recipe: Recipe, adapters: Collection[str]) -> list[Problem]:
    """Why a merge is no adapter, as far as can be told without its models.

    Args:
        recipe: of the merge.
        adapters: names of the parents that are adapters.
    """
    problems = []
    if recipe.path:
        message = "puts layers at other places; an adapter leaves them where the base has them"
        problems.append(Problem(field="path", message=message))
    if recipe.method not in SUMS:
        message = f"'{recipe.method}' is no weighted sum of adapters; of these only {_and(SUMS)} is"
        problems.append(Problem(field="method", message=message))
    message = "is a whole checkpoint; only a merge of adapters is an adapter"
    problems += [
        Problem(field=f"models.{name}", message=message)
        for name in recipe.parents
        if name != BASE and name not in adapters
    ]
    return problems


def _adapters(parents: Parents, recipe: Recipe) -> Iterator[tuple[str, Adapter]]:
    """The recipe's parents, but for the base."""
    for name in recipe.parents:
        adapter = parents.folders[name].adapter
        if adapter is not None:
            yield name, adapter


def _coefficients(parents: Parents, recipe: Recipe) -> dict[str, tuple[float, ...]]:
    """For every tensor the factor of each parent.

    They are asked of the method itself, which is given unit vectors instead of weights.
    """
    method = methods[recipe.method]
    coefficients = {}
    for name, pieces in laid_out(parents, recipe).items():
        if len(pieces) != 1:
            message = f"cuts '{name}' in two, which no adapter can"
            raise Invalid([Problem(field="partition", message=message)])
        ((_, arguments),) = pieces
        units = torch.eye(1 + len(recipe.parents), dtype=torch.float64)
        theirs = [units[0 if p == BASE else i + 1] for i, p in enumerate(recipe.parents)]
        out = torch.empty(len(units), dtype=torch.float64)
        sources = Sources(name, units[0], theirs, recipe.parents, depth=parents.layout.depth(name))
        method.merge(out, sources, arguments)
        if abs(float(out.sum()) - 1) > _EXACTLY_ONE:
            message = (
                f"weights sum to {float(out.sum()):g} at '{name}': the base itself would be "
                "scaled, which no adapter can; let them sum to 1, or use task_arithmetic"
            )
            raise Invalid([Problem(field="parameters", message=message)])
        coefficients[name] = tuple(out[1:].tolist())
    return coefficients


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)


def _changes(
    parents: Parents,
    recipe: Recipe,
    coefficients: Mapping[str, tuple[float, ...]],
    whole: set[str],
) -> Iterator[_Change]:
    """Factors side by side, with scaling and weight in those of B."""
    turned = _turned(parents, recipe)
    for name, factors in coefficients.items():
        downs, ups, updates = [], [], []
        for model, adapter in _adapters(parents, recipe):
            update = adapter.updates.get(name)
            factor = factors[recipe.parents.index(model)]
            if update is None or name in whole or factor == 0:
                continue
            if parents.rearranges(model, name):
                message = (
                    f"adapts '{name}' in rows of another vocabulary, which no adapter can hold"
                )
                raise Invalid([Problem(field=f"models.{model}", message=message)])
            down, up = (parents.stored(model, key).float() for key in (update.down, update.up))
            if not update.is_embedding and update.transposed != turned:
                down, up = up.T, down.T  # the same change, of a square, told the other way round
            downs.append(down)
            ups.append(up * (factor * update.scaling))
            updates.append(update)
        if updates:
            first = updates[0]
            yield _Change(
                name=name,
                module=module_of(first.down),
                is_embedding=first.is_embedding,
                down=torch.cat(downs),
                up=torch.cat(ups, dim=1),
            )


def _turned(parents: Parents, recipe: Recipe) -> bool:
    """Whether the matrices of this base are (in, out): one choice for all, ``fan_in_fan_out``."""
    updates = [u for _, adapter in _adapters(parents, recipe) for u in adapter.updates.values()]
    return any(update.transposed and not update.is_embedding for update in updates)


def _truncated(change: _Change, rank: int) -> tuple[_Change, float, float]:
    """The nearest product of a smaller rank; squared norms of what it lacks, and of all.

    The product itself is never formed: both factors are orthogonalized, and only the small matrix
    between them is decomposed.
    """
    left, upper = torch.linalg.qr(change.up.double())
    right, lower = torch.linalg.qr(change.down.double().T)
    u, values, vt = torch.linalg.svd(upper @ lower.T)
    kept = min(rank, len(values))
    roots = values[:kept].sqrt()
    smaller = _Change(
        name=change.name,
        module=change.module,
        is_embedding=change.is_embedding,
        down=(roots[:, None] * (vt[:kept] @ right.T)).float(),
        up=((left @ u[:, :kept]) * roots).float(),
    )
    return smaller, float(values[kept:].square().sum()), float(values.square().sum())


def _stored(change: _Change) -> Iterator[tuple[str, Tensor]]:
    part = "lora_embedding_{}" if change.is_embedding else "lora_{}.weight"
    for letter, factor in (("A", change.down), ("B", change.up)):
        yield f"base_model.model.{change.module}.{part.format(letter)}", factor.contiguous()


def _key(parents: Parents, recipe: Recipe, name: str) -> str:
    """What PEFT calls a tensor that some adapter holds in full."""
    keys = (a.whole[name] for _, a in _adapters(parents, recipe) if name in a.whole)
    module = module_of(next(keys))
    if name in parents.layout.aliases.values():
        message = f"hold '{name}' in full, which the base ties to its head; write a checkpoint"
        raise Invalid([Problem(field="parents", message=message)])
    return module


def _summed(parents: Parents, recipe: Recipe, name: str, factors: Sequence[float]) -> Tensor:
    """A tensor that some adapter holds in full, merged, in the dtype of the base."""
    base = parents.tensor(BASE, name)
    theirs = [parents.tensor(parent, name) for parent in recipe.parents]
    out = torch.empty_like(base)
    with suppress(NotFinite):  # told by the caller, as for factors
        weighted_sum(out, [base, *theirs], [1.0 - sum(factors), *factors])
    return out


def _base_name(parents: Parents, recipe: Recipe) -> str | None:
    """What all adapters call their base."""
    said = {adapter.base_name for _, adapter in _adapters(parents, recipe)}
    return said.pop() if len(said) == 1 else None


def _config(changes: Sequence[_Change], modules: Sequence[str]) -> dict[str, Any]:
    """adapter_config.json, by which every product is taken as it is: alpha is the rank."""
    ranks = {change.module: len(change.down) for change in changes}
    ((rank, _),) = Counter(ranks.values()).most_common(1)
    others = {module: other for module, other in sorted(ranks.items()) if other != rank}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "target_modules": sorted(ranks),
        "modules_to_save": list(modules) or None,
        "rank_pattern": others,
        "alpha_pattern": others,
        "use_rslora": False,
        "bias": "none",
        "init_lora_weights": True,
    }
