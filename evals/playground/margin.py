"""What merging gains on a playground: its models, their average, and a merge found by search.

The search is the plainest that works, CMA-ES on a weight per parent and block; the service's own
optimizers are held against its figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cma
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from evals.evaluator import Evaluator
from evals.playground.zoo import Playground
from evals.suite import Split, Suite
from search.layout import LayerGroups, Layout, Tensor
from search.outcome import Scores

# By short name of the task; "mean" is over the four of them.
Row = Mapping[str, float]

_HIGHEST_WEIGHT = 1.5
_BLOCKS = LayerGroups(layers=2)


def row(scores: Scores) -> Row:
    """Scores as fractions: bits per byte b (negative, as higher is better) count as 2^b.

    This is the geometric mean of the probability that the model gives to a byte.
    """
    values = {
        key.removeprefix("nm_").split("/")[0]: 2**score.value
        if key.endswith("bits_per_byte")
        else score.value
        for key, score in scores.items()
    }
    return {**values, "mean": float(np.mean(list(values.values())))}


class Bench:
    """Merges of a playground's specialists, scored one after the other in one resident model."""

    def __init__(self, playground: Playground) -> None:
        self._playground = playground
        self._tokenizer = AutoTokenizer.from_pretrained(playground.base)
        self._model = AutoModelForCausalLM.from_pretrained(playground.base)
        self._weights = dict(self._model.named_parameters())
        self._base = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self._deltas = [self._delta(parent) for parent in playground.parents]
        layout = Layout.of(
            Tensor(name=name, shape=tuple(weight.shape), dtype="F32")
            for name, weight in self._base.items()
        )
        self._blocks = [
            [piece.tensor for piece in block.pieces] for block in layout.blocks(_BLOCKS)
        ]
        self._evaluators: dict[Split, Evaluator] = {}

    def score(self, weights: NDArray[np.float64] | Sequence[float], split: Split) -> Row:
        """Score base + sum of weight * (specialist - base).

        Args:
            weights: (parents,), or (blocks, parents).
            split: the examples.
        """
        table = np.broadcast_to(weights, (len(self._blocks), len(self._deltas)))
        with torch.no_grad():
            for names, coefficients in zip(self._blocks, table, strict=True):
                for name in names:
                    merged = self._weights[name].copy_(self._base[name])
                    for delta, weight in zip(self._deltas, coefficients, strict=True):
                        merged.add_(delta[name], alpha=float(weight))
        return row(self._evaluator(split).score())

    def baselines(self, split: Split) -> dict[str, Row]:
        """The base, the specialists and their uniform average."""
        names = list(self._playground.parents)
        points = {name: np.eye(len(names))[place] for place, name in enumerate(names)}
        points = {"base": np.zeros(len(names)), **points}
        points["average"] = np.full(len(names), 1 / len(names))
        return {name: self.score(weights, split) for name, weights in points.items()}

    def search(self, evaluations: int, seed: int = 0) -> NDArray[np.float64]:
        """The best (blocks, parents) weights for the mean on the search split."""
        shape = (len(self._blocks), len(self._deltas))
        options = {"bounds": [0, 1], "seed": seed + 1, "verbose": -9}
        strategy = cma.CMAEvolutionStrategy(np.full(shape, 0.5).ravel(), 0.25, options)
        best, best_mean = np.zeros(shape), -np.inf
        while evaluations > 0:
            genomes = strategy.ask()[:evaluations]
            tables = [_HIGHEST_WEIGHT * np.reshape(genome, shape) for genome in genomes]
            means = [self.score(table, Split.SEARCH)["mean"] for table in tables]
            evaluations -= len(genomes)
            if len(genomes) == strategy.popsize:
                strategy.tell(genomes, [-mean for mean in means])
            if max(means) > best_mean:
                best, best_mean = tables[int(np.argmax(means))], max(means)
        return best

    def _delta(self, parent: str) -> dict[str, torch.Tensor]:
        model = AutoModelForCausalLM.from_pretrained(self._playground.parents[parent])
        return {
            name: weight.detach() - self._base[name] for name, weight in model.named_parameters()
        }

    def _evaluator(self, split: Split) -> Evaluator:
        if split not in self._evaluators:
            suite = Suite(self._playground.objectives, split, (str(self._playground.tasks),))
            self._evaluators[split] = Evaluator(self._model, self._tokenizer, suite)
        return self._evaluators[split]
