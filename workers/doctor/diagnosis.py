"""What the weights themselves say of a parent: how far it has moved, and whether it can be merged.

A model can compute what a fine-tune of the base computes and still be nowhere near it: neurons in
another order, or pairs of matrices that were transformed together, on purpose (a lock) or by an
exporter. An average with such a model is noise. One pass over the weights finds the tensors that
are too far away; those are then looked at once more, with the tensors that they belong together
with, for what was done to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from search.spec import BASE
from workers.checkpoints.parents import Parents
from workers.doctor import symmetry
from workers.doctor.figures import Figures, compare
from workers.doctor.sites import GROUPS, Group, Heads, Site, group_of, sites
from workers.doctor.summary import DiagnosisSummary, Finding, Kind

# Heuristic, and far from both sides: fine-tuning moves a matrix by 0.003 to 0.15 of its norm (long
# continued training: 0.3) and keeps its cosine above 0.98; a transformed one is at 1 and below 0.7.
FAR, TURNED = 0.5, 0.9
# Cosine below which two matrices have nothing in common.
_UNRELATED = 0.3
_NEARLY_ALL = 0.9
# Ratio of delta norm to base norm below which nothing was learned.
_NO_OP = 1e-4

# A tensor of a model by name.
Read = Callable[[str], Tensor]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is known of one parent.

    Args:
        name: of the parent.
        tensors: figures of each tensor that is merged.
        findings: what was done to its weights besides fine-tuning; empty for an honest one.
        duplicates: parents named before it whose weights are the same to the last bit.
    """

    name: str
    tensors: Mapping[str, Figures]
    findings: tuple[Finding, ...] = ()
    duplicates: tuple[str, ...] = ()

    @property
    def groups(self) -> dict[Group, Figures]:
        """Figures by kind of module; kinds that the model does not have are left out."""
        sums: dict[Group, Figures] = {}
        for name, figures in self.tensors.items():
            group = group_of(name)
            sums[group] = sums.get(group, Figures()) + figures
        return {group: sums[group] for group in GROUPS if group in sums}

    @property
    def whole(self) -> Figures:
        """Figures of the whole model."""
        return sum(self.tensors.values(), Figures())

    @property
    def flagged(self) -> frozenset[str]:
        """Tensors that a finding is about."""
        return frozenset(name for finding in self.findings for name in finding.tensors)

    @property
    def summary(self) -> DiagnosisSummary:
        """Without the figures of single tensors."""
        return DiagnosisSummary(
            name=self.name,
            whole=self.whole.distance,
            groups={group: figures.distance for group, figures in self.groups.items()},
            findings=self.findings,
            duplicates=self.duplicates,
        )

    @property
    def is_no_op(self) -> bool:
        """Whether nothing was learned that a merge could use."""
        return all(f.delta <= _NO_OP**2 * f.base for f in self.tensors.values())


class Examination:
    """Gathers figures tensor by tensor, in any order, and then says what was done to each parent.

    Args:
        models: how to read a tensor of the base, under ``base``, and of every parent.
        heads: of the attention; None where it is not known, and locks are not looked for.
    """

    def __init__(self, models: Mapping[str, Read], heads: Heads | None) -> None:
        self._models, self._heads = models, heads
        names = [name for name in models if name != BASE]
        self._figures: dict[str, dict[str, Figures]] = {name: {} for name in names}
        self._twins = set(combinations(names, 2))

    def see(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Take in one tensor, as the base and every parent have it."""
        for parent, figures in self._figures.items():
            figures[name] = compare(tensors[BASE], tensors[parent])
        for one, two in tuple(self._twins):
            # Equal tensors have equal figures, so that few have to be compared.
            alike = self._figures[one][name] == self._figures[two][name]
            if not (alike and torch.equal(tensors[one], tensors[two])):
                self._twins.discard((one, two))

    def walk(self, names: Iterable[str]) -> list[Diagnosis]:
        """Read and take in all tensors of these names; no two models have to fit in memory."""
        for name in names:
            self.see(name, {model: read(name) for model, read in self._models.items()})
        return self.diagnoses()

    def diagnoses(self) -> list[Diagnosis]:
        """One for each parent; only tensors that are too far away are read once more."""
        found, base = [], self._models[BASE]
        for name, figures in self._figures.items():
            findings = tuple(_findings(figures, base, self._models[name], self._heads))
            duplicates = tuple(sorted(one for one, two in self._twins if two == name))
            found.append(Diagnosis(name, figures, findings, duplicates))
        return found


def examine_parents(parents: Parents) -> Examination:
    """Of the models of a search."""
    models = {name: partial(parents.tensor, name) for name in parents.folders}
    return Examination(models, Heads.of(parents.base.config))


def is_far(figures: Figures) -> bool:
    """Whether a tensor has moved further than fine-tuning moves any."""
    return figures.delta_ratio > FAR or figures.cosine < TURNED


def _findings(
    figures: Mapping[str, Figures], base: Read, model: Read, heads: Heads | None
) -> Iterator[Finding]:
    far = {name for name, tensor in figures.items() if _matters(name) and is_far(tensor)}
    if _is_unrelated(figures, far):
        yield Finding("unrelated", tuple(sorted(far)))
        return
    explained: set[str] = set()
    for site in sites(figures):
        if far.isdisjoint(site.names):
            continue
        for finding in _at_site(site, base, model, heads):
            explained.update(finding.tensors)
            yield finding
    # Norms by themselves tell nothing: some architectures store their distance from one.
    if rest := {name for name in far - explained if group_of(name) != "norm"}:
        yield Finding("far", tuple(sorted(rest)))


def _matters(name: str) -> bool:
    """Biases may start at zero, and move by any ratio."""
    return not name.endswith("bias")


def _is_unrelated(figures: Mapping[str, Figures], far: Iterable[str]) -> bool:
    """Whether nearly all matrices, embeddings included, have nothing in common with the base's.

    Weights of norms do not count: they are all near to one number.
    """
    matrices = {name: f for name, f in figures.items() if group_of(name) != "norm" and f.base}
    strange = {name for name in far if name in matrices and matrices[name].cosine < _UNRELATED}
    embeddings = {name for name in matrices if group_of(name) in ("embed", "head")}
    size = sum(f.size for f in matrices.values())
    share = sum(matrices[name].size for name in strange) / size if size else 0.0
    return share > _NEARLY_ALL and embeddings <= strange


def _at_site(site: Site, base: Read, model: Read, heads: Heads | None) -> Iterator[Finding]:
    """What was done to the tensors of a site, each step with the one before taken back."""
    ours = {part: base(name) for part, name in site.weights.items()}
    theirs = {part: model(name) for part, name in site.weights.items()}
    if site.norm is not None:
        factor = symmetry.fold(base(site.norm), model(site.norm))
        behind = site.after_norm
        if any(symmetry.is_folded(factor, ours[part], theirs[part]) for part in behind):
            yield Finding("folded", (site.norm, *(site.weights[part] for part in behind)))
            theirs |= {part: theirs[part] * factor.to(theirs[part].dtype) for part in behind}
    far = {part for part in ours if is_far(compare(ours[part], theirs[part]))}
    for kind, parts in _transforms(ours, theirs, far, heads):
        yield Finding(kind, tuple(site.weights[part] for part in parts))


def _transforms(
    base: symmetry.Weights, model: symmetry.Weights, far: set[str], heads: Heads | None
) -> Iterator[tuple[Kind, str | tuple[str, ...]]]:
    """What explains that these parts of a site are far away, and which parts it changed."""
    if far & {"gate", "up", "down"}:
        if symmetry.is_permuted_mlp(base, model):
            yield "permuted_mlp", ("gate", "up", "down")
        elif symmetry.is_scaled(base, model):
            yield "scaled", ("up", "down")
    elif far and heads is not None and _fits(base, heads):
        if symmetry.is_permuted_heads(base, model, heads):
            yield "permuted_heads", "qkvo"
            return
        if far & {"v", "o"} and symmetry.is_locked_vo(base, model, heads):
            yield "locked_vo", "vo"
        if far & {"q", "k"} and symmetry.is_locked_qk(base, model, heads):
            yield "locked_qk", "qk"


def _fits(weights: symmetry.Weights, heads: Heads) -> bool:
    """Whether the projections have the rows that config.json says."""
    rows = {"q": heads.count, "k": heads.groups, "v": heads.groups}
    fits = all(weights[part].shape[0] == count * heads.size for part, count in rows.items())
    return fits and weights["o"].shape[1] == heads.count * heads.size
