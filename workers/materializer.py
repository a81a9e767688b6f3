"""From a recipe to weights: in place into a resident model, or as a stream of tensors."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from search.layout import Piece, in_layer
from search.problems import Invalid
from search.recipe import Recipe
from search.spec import BASE
from search.stack import NoStack
from workers.checkpoints.parents import Parents
from workers.kernels.weighted_sum import write
from workers.merging.merge_method import (
    NotMergeable,
    Sources,
    is_finite,
    methods,
    require_finite,
)
from workers.paths.layers import Layers
from workers.paths.laying import as_is, as_told, laid_path, unmerged_along
from workers.paths.route import Place, Route


class Materializer:
    """Writes candidates into the weights of one resident model.

    Nothing the size of a model is allocated for a candidate: each tensor is merged where it will be
    used. Tied weights are one tensor in the model as in the layout; buffers are left alone. Layers
    of a path are those of the parents where these are, in memory or in their files; a copy is made
    only of what is in another dtype or scaled.

    Args:
        parents: the weights to merge from, on the device of the model.
        model: as transformers builds it from the base.

    Raises:
        NotMergeable: weights of the model are not those of the base's files, so that they could not
            be swapped (an architecture that transformers stores in another form than it computes
            with).
    """

    def __init__(self, parents: Parents, model: PreTrainedModel) -> None:
        self._parents = parents
        self._model = model
        self._targets = _targets(parents, model)
        self._layers: Layers | None = None
        smallest, *others = sorted(self._targets, key=lambda name: self._targets[name].numel())
        # Threads end together where the largest tensors come first. But the smallest is written
        # before all of them: what a method finds out about the whole model is found out once.
        self._order = [smallest, *reversed(others)]

    def own_layers(self) -> AbstractContextManager[None]:
        """The model has its own layers meanwhile, whatever path was materialized last.

        For those who look at its form, which must not depend on what was merged before.
        """
        return nullcontext() if self._layers is None else self._layers.own()

    def materialize(self, recipe: Recipe) -> None:
        """Make the model the one that the recipe describes.

        Raises:
            NotMergeable: the recipe does not fit the models, or the result is not finite. The model
                then holds neither this candidate nor the last one.
        """
        merge = _Merge(self._parents, recipe)
        if self._layers is not None:
            self._layers.restore()
        way = laid_path(self._parents, recipe.path) if recipe.path else None
        order = self._order
        if way is not None:
            met = way.merged
            order = [name for name in order if in_layer(name) is None or name in met]
        threads = torch.get_num_threads()
        alone = len(order) if threads == 1 or not merge.in_loops else 1
        for name in order[:alone]:
            self._write(merge, name)
        jobs = [_pool(threads).submit(self._write, merge, name) for name in order[alone:]]
        wait(jobs)
        for job in jobs:
            job.result()
        if way is not None:
            self._follow(way)

    def beside_base(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every merged tensor of the model as it is now, and that of the base."""
        for name, target in self._targets.items():
            yield target, self._parents.tensor(BASE, name)

    @torch.no_grad()
    def _write(self, merge: _Merge, name: str) -> None:
        target = self._targets[name]
        if target.dtype == self._parents.dtype and target.is_contiguous():
            merge.into(target, name)
        else:
            write(target, merge.tensor(name))

    @torch.no_grad()
    def _follow(self, way: Route) -> None:
        """Lead the hidden states along a route."""
        known: dict[tuple[str, str], Tensor] = {}

        def tensor(place: int, part: str) -> Tensor:
            there = way.places[place]
            name = way.stack.tensor(there.layer, part)
            if there.model is None:
                found = self._targets[name]
            else:
                key = (there.model, name)
                if key not in known:
                    known[key] = as_is(self._parents, there.model, name)
                found = known[key]
            return as_told(found, there.changes.get(part), name)

        try:
            if self._layers is None:
                self._layers = Layers(self._model, way.stack.name)
            self._layers.follow(way.layers, tensor)
        except NoStack as error:
            raise NotMergeable(str(error)) from None


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="tensor")


def merged_tensors(parents: Parents, recipe: Recipe) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a recipe's checkpoint, one at a time: bit by bit what `Materializer` makes.

    Raises:
        NotMergeable: as `Materializer.materialize`, or a model holds values that are not finite.
            A search has looked for those before its first candidate.
    """
    merge = _Merge(parents, recipe)
    way = laid_path(parents, recipe.path) if recipe.path else None
    for tensor in parents.layout.tensors:
        if way is None or in_layer(tensor.name) is None:
            yield tensor.name, merge.checked(tensor.name)
    if way is None:
        yield from parents.unmerged()
        return
    for name, place, part in way.tensors():
        with torch.no_grad():
            found = _placed(merge, parents, way, place, part)
        yield name, found
    yield from unmerged_along(parents, way)


def _placed(merge: _Merge, parents: Parents, way: Route, place: Place, part: str) -> Tensor:
    """A tensor of a layer of a path."""
    name = way.stack.tensor(place.layer, part)
    if place.model is None:
        found = merge.checked(name)
    else:
        found = as_is(parents, place.model, name)
        if not is_finite(found):
            raise NotMergeable(f"'{name}' of '{place.model}' is not finite")
    return as_told(found, place.changes.get(part), name)


class _Merge:
    """A recipe laid out over the tensors of a model."""

    def __init__(self, parents: Parents, recipe: Recipe) -> None:
        self._parents, self._recipe = parents, recipe
        self._method = methods[recipe.method]
        self._pieces = laid_out(parents, recipe)

    @property
    def in_loops(self) -> bool:
        """Whether it spends its time in loops that let other threads run beside them."""
        cost, device = self._method.declaration.cost, self._parents.device
        return cost in ("linear", "vote") and device.type == "cpu"

    def require_finite(self, name: str) -> None:
        """Refuse a tensor that a model holds in values that are not finite."""
        require_finite(self._sources(name), around_base=self._method.declaration.uses_base)

    @torch.no_grad()
    def checked(self, name: str) -> Tensor:
        """A merged tensor of models that are finite there, newly allocated."""
        self.require_finite(name)
        return self.tensor(name)

    def tensor(self, name: str) -> Tensor:
        """A merged tensor, newly allocated."""
        like = self._parents.tensor(BASE, name)
        out = torch.empty(like.shape, dtype=self._parents.dtype, device=like.device)
        self.into(out, name)
        return out

    def into(self, out: Tensor, name: str) -> None:
        """Write a merged tensor to where it belongs."""
        whole = self._sources(name)
        for piece, arguments in self._pieces[name]:
            place, sources = out, whole
            if piece.stop - piece.start < out.numel():
                place, base, *others = (
                    tensor.view(-1)[piece.start : piece.stop]
                    for tensor in (out, whole.base, *whole.parents)
                )
                sources = replace(whole, base=base, parents=others, start=piece.start)
            self._method.merge(place, sources, arguments)

    def _sources(self, name: str) -> Sources:
        parents, labels = self._parents, self._recipe.parents
        return Sources(
            name=name,
            base=parents.tensor(BASE, name),
            parents=[parents.tensor(parent, name) for parent in labels],
            labels=labels,
            seed=self._recipe.seed,
            memo=parents.memo,
            kind=parents.kinds[name],
            depth=parents.layout.depth(name),
            model=lambda: map(self._sources, sorted(self._pieces)),
        )


def laid_out(parents: Parents, recipe: Recipe) -> dict[str, list[tuple[Piece, dict[str, Any]]]]:
    """The pieces of every merged tensor, each with the arguments of the recipe's method.

    Raises:
        NotMergeable: the recipe does not fit the models.
    """
    unknown = [name for name in recipe.parents if name not in parents.folders]
    if unknown:
        raise NotMergeable(f"no model is called {', '.join(unknown)}")
    blocks = parents.blocks(recipe.partition)
    if tuple(block.name for block in blocks) != recipe.blocks:
        raise NotMergeable("the recipe's blocks are not those of this base")
    method = methods[recipe.method]
    pieces: dict[str, list[tuple[Piece, dict[str, Any]]]] = {
        tensor.name: [] for tensor in parents.layout.tensors
    }
    for number, block in enumerate(blocks):
        try:
            arguments = method.arguments(recipe.at(number), len(recipe.parents))
        except Invalid as error:
            raise NotMergeable(str(error)) from error
        for piece in block.pieces:
            pieces[piece.tensor].append((piece, arguments))
    return pieces


def _targets(parents: Parents, model: nn.Module) -> dict[str, Tensor]:
    """Where in the model each tensor of the layout belongs.

    Files of some models leave out the prefix of the body (``transformer.``), or have it where the
    model has none. Tensors that the model does not have (a head for training) are left out.
    """
    have = {
        name: tensor.detach()
        for name, tensor in (
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        )
    }
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    targets = {}
    for tensor in parents.layout.tensors:
        spellings = (tensor.name, prefix + tensor.name, tensor.name.removeprefix(prefix))
        found = next((have[name] for name in spellings if name in have), None)
        if found is not None and tuple(found.shape) == tensor.shape:
            targets[tensor.name] = found
    covered = {target.data_ptr() for target in targets.values()}
    bare = [name for name, p in model.named_parameters() if p.data_ptr() not in covered]
    if bare:
        raise NotMergeable(
            f"the files of the base do not hold '{bare[0]}' ({len(bare)} such tensors): the model "
            "computes with other tensors than it stores, so they cannot be swapped in place"
        )
    if len(covered) < len(targets):
        raise NotMergeable(
            "the base stores weights twice that its architecture ties; set tie_word_embeddings to "
            "true in its config.json"
        )
    return targets
