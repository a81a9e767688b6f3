"""From a recipe to a folder, tensor by tensor, without scoring anything."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from torch import Tensor

from search.problems import Invalid, Problem
from search.recipe import Recipe
from search.spec import BASE
from workers.checkpoints.card import public_names
from workers.checkpoints.companions import companions
from workers.checkpoints.lowrank import merge_adapters
from workers.checkpoints.parents import Parents
from workers.checkpoints.writing import SHARD_BYTES, Files, write_adapter, write_checkpoint
from workers.materializer import merged_tensors
from workers.merging.memo import Memo
from workers.merging.merge_method import NotMergeable
from workers.messages import Zoo
from workers.paths.configuring import saved
from workers.survey import weight_hashes

# There is no second candidate that what is known of a tensor could be kept for; what is known of
# the whole model is small, or would not have room.
_REMEMBERED_BYTES = 128 * 2**20
_HOARD_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Written:
    """A finished folder.

    Args:
        files: name to (sha256, size in bytes).
        errors: of a truncated adapter, by tensor: relative Frobenius norm of what is lost.
        error: the same of all tensors together.
    """

    files: Files
    errors: Mapping[str, float] = field(default_factory=dict)
    error: float = 0.0


def merge_into_folder(
    recipe: Recipe,
    zoo: Zoo,
    folder: Path,
    *,
    as_adapter: bool = False,
    rank: int | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Written:
    """Merge and write, with card, recipe, hashes and all that the base has besides weights.

    Args:
        recipe: what to merge.
        zoo: the models.
        folder: is written, at once; at most one shard of it is held in memory.
        as_adapter: write a LoRA adapter of the base, where the merge is one.
        rank: of that adapter at most; None for an exact one.
        shard_bytes: a new file begins before one would grow beyond this.

    Raises:
        Invalid: this cannot be merged, or is no adapter.
        OSError: the disk is too small or fails.
    """
    with closing(Parents(zoo)) as parents:
        parents.memo = Memo(_REMEMBERED_BYTES)
        models = public_names(zoo, None)
        described = partial(
            companions,
            recipe,
            parents,
            models=models,
            places={BASE: zoo.base, **dict(zoo.parents)},
            sha256=dict(weight_hashes(parents)),
        )
        try:
            if not as_adapter:
                tensors = _without_hoarding(merged_tensors(parents, recipe))
                told = saved(parents, recipe.path)
                files = write_checkpoint(
                    folder,
                    tensors,
                    parents.base.path,
                    config=told.config,
                    extra=described(),
                    shard_bytes=shard_bytes,
                    size_bytes=told.size_bytes,
                )
                return Written(files)
            merged = merge_adapters(parents, recipe, base_name=models[BASE], rank=rank)
        except NotMergeable as error:
            raise Invalid([Problem(field="parameters", message=str(error))]) from None
        extra = described(details=merged.details, is_adapter=True)
        files = write_adapter(folder, merged.tensors, merged.config, parents.base.path, extra=extra)
        return Written(files, merged.errors, merged.error)


def _without_hoarding(tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The same tensors; what glibc keeps of freed temporaries goes back to the system at times.

    Left alone it grows with the model: to 300 MB for a model of 400 MB.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # None where the C library is another
    made = 0
    for name, tensor in tensors:
        yield name, tensor
        made += tensor.nbytes
        if trim is not None and made > _HOARD_BYTES:
            trim(0)
            made = 0
