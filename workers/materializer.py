"""From a recipe to weights: in place into a resident model, or as a stream of tensors."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from search.layout import Piece
from search.problems import Invalid
from search.recipe import Recipe
from search.spec import BASE
from workers.checkpoints.parents import Parents
from workers.kernels.weighted_sum import write
from workers.merging.merge_method import NotMergeable, Sources, methods, require_finite


class Materializer:
    """Writes candidates into the weights of one resident model.

    Nothing the size of a model is allocated for a candidate: each tensor is merged where it will be
    used. Tied weights are one tensor in the model as in the layout; buffers are left alone.

    Args:
        parents: the weights to merge from, on the device of the model.
        model: as transformers builds it from the base.

    Raises:
        NotMergeable: weights of the model are not those of the base's files, so that they could not
            be swapped (an architecture that transformers stores in another form than it computes
            with).
    """

    def __init__(self, parents: Parents, model: nn.Module) -> None:
        self._parents = parents
        self._targets = _targets(parents, model)
        smallest, *others = sorted(self._targets, key=lambda name: self._targets[name].numel())
        # Threads end together where the largest tensors come first. But the smallest is written
        # before all of them: what a method finds out about the whole model is found out once.
        self._order = [smallest, *reversed(others)]

    def materialize(self, recipe: Recipe) -> None:
        """Make the model the one that the recipe describes.

        Raises:
            NotMergeable: the recipe does not fit the models, or the result is not finite. The model
                then holds neither this candidate nor the last one.
        """
        merge = _Merge(self._parents, recipe)
        threads = torch.get_num_threads()
        alone = len(self._order) if threads == 1 or not merge.in_loops else 1
        for name in self._order[:alone]:
            self._write(merge, name)
        jobs = [_pool(threads).submit(self._write, merge, name) for name in self._order[alone:]]
        wait(jobs)
        for job in jobs:
            job.result()

    @torch.no_grad()
    def _write(self, merge: _Merge, name: str) -> None:
        target = self._targets[name]
        if target.dtype == self._parents.dtype and target.is_contiguous():
            merge.into(target, name)
        else:
            write(target, merge.tensor(name))


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
    for tensor in parents.layout.tensors:
        with torch.no_grad():
            merge.require_finite(tensor.name)
            merged = merge.tensor(tensor.name)
        yield tensor.name, merged
    yield from parents.unmerged()


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
