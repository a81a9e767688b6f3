"""Read every weight once, before anything is searched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evals import harness
from evals.suite import Suite
from search.geometry import Geometry
from search.layout import Layout
from search.spec import BASE
from workers.checkpoints.parents import Parents
from workers.doctor.diagnosis import Diagnosis, examine_parents
from workers.doctor.verdicts import refusals, remarks
from workers.merging.merge_method import is_finite
from workers.messages import Rejected, Survey, Surveyed
from workers.resident import load_tokenizer

# Configuration, tokenizer, chat template.
_SMALL = {".jinja", ".json", ".model", ".txt"}


def survey(work: Survey, parents: Parents) -> Surveyed | Rejected:
    """Check all weights, hash the files, measure the geometry where asked, divide the examples.

    All models are walked together, tensor by tensor, so that no two of them have to fit in memory.

    Returns:
        `Rejected` with one problem per tensor that holds NaN or infinity, or with those parents
        that cannot be merged with the base, before anything is spent on them.
    """
    layout = parents.layout
    cuts = _cuts(layout) if work.needs_geometry else {}
    problems: list[tuple[str, str]] = []
    grams: list[NDArray[np.float64]] = []
    examination = examine_parents(parents)
    for name in (tensor.name for tensor in layout.tensors):
        tensors = {model: parents.tensor(model, name) for model in parents.folders}
        problems += _not_finite(name, tensors, parents)
        if problems:
            continue
        examination.see(name, tensors)
        if work.needs_geometry:
            grams += gram(list(tensors.values()), cuts[name])
    if problems:
        files = ", ".join(dict.fromkeys(file for file, _ in problems))
        return Rejected(f"weights are not finite in {files}", tuple(problems))
    diagnoses = examination.diagnoses()
    refused = tuple(_told(diagnoses, refusals))
    if refused:
        return Rejected("a parent cannot be merged with the base", refused)
    geometry = Geometry(np.array(layout.grid()), np.stack(grams)) if work.needs_geometry else None
    drawn = harness.Drawn((), ()) if work.suite is None else _drawn(work.suite, parents)
    hashes = dict(weight_hashes(parents))
    return Surveyed(
        hashes,
        geometry,
        warnings=(*_told(diagnoses, remarks), *drawn.warnings),
        diagnoses=tuple(diagnosis.summary for diagnosis in diagnoses),
        draws=drawn.draws,
        documents=drawn.documents,
        models=_models(parents, hashes),
    )


def _drawn(suite: Suite, parents: Parents) -> harness.Drawn:
    return harness.draw(suite, load_tokenizer(parents.folders[BASE].path))


def _told(
    diagnoses: Sequence[Diagnosis], say: Callable[[Diagnosis], Iterator[str]]
) -> Iterator[tuple[str, str]]:
    """What there is to say of each parent, under its field."""
    for place, diagnosis in enumerate(diagnoses):
        for text in say(diagnosis):
            yield f"parents[{place}]", text


def gram(tensors: list[Tensor], cuts: list[int]) -> Iterator[NDArray[np.float64]]:
    """Inner products of the flattened tensors between each two cuts, summed in float64.

    Yields:
        (k, k) for each of the len(cuts) - 1 cells.
    """
    flat = [tensor.reshape(-1) for tensor in tensors]
    for start, stop in pairwise(cuts):
        cell = torch.stack([model[start:stop].to("cpu", torch.float64) for model in flat])
        yield (cell @ cell.T).numpy()


def _cuts(layout: Layout) -> dict[str, list[int]]:
    """The grid's boundaries within each tensor, counted from the tensor's start."""
    grid = np.array(layout.grid())
    cuts = {}
    for tensor, (start, stop) in zip(layout.tensors, pairwise(layout.offsets), strict=True):
        inside = grid[(grid >= start) & (grid <= stop)]
        cuts[tensor.name] = (inside - start).tolist()
    return cuts


def _not_finite(
    name: str, tensors: Mapping[str, Tensor], parents: Parents
) -> Iterator[tuple[str, str]]:
    for model, tensor in tensors.items():
        if name not in parents.folders[model].files:
            continue  # an adapter leaves it to the base
        if not is_finite(tensor):
            nans, infinities = int(tensor.isnan().sum()), int(tensor.isinf().sum())
            yield (
                f"{model}/{parents.folders[model].files[name]}",
                f"'{name}' holds {nans} NaN and {infinities} infinite values; "
                "export this model again from training",
            )


def _models(parents: Parents, weights: Mapping[str, str]) -> dict[str, str]:
    """A digest for each model: of its weights, and of what else merges and scores read.

    Of small files rather too many than too few are counted: what changes one of them without
    changing a score costs a measurement that was already there.
    """
    digests = {}
    for model, folder in parents.folders.items():
        content = hashlib.sha256()
        for key, sha256 in weights.items():
            if key.startswith(f"{model}/"):
                content.update(f"{key.removeprefix(f'{model}/')} {sha256}\n".encode())
        for file in sorted(folder.path.iterdir()):
            if file.suffix in _SMALL and file.is_file():
                sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
                content.update(f"{file.name} {sha256}\n".encode())
        digests[model] = content.hexdigest()
    return digests


def weight_hashes(parents: Parents) -> Iterator[tuple[str, str]]:
    """sha256 of every file that holds weights, by ``model/file``."""
    for model, folder in parents.folders.items():
        for name in sorted(set(folder.files.values())):
            with (folder.path / name).open("rb") as stream:
                yield f"{model}/{name}", hashlib.file_digest(stream, "sha256").hexdigest()
