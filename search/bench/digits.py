"""Merging networks that read handwritten digits: small enough to evaluate in a millisecond.

A network (64 pixels, 64 hidden units, 10 classes) is trained for a moment on all tasks, and a
specialist for each task goes on from it. A merge is base + sum of coefficient times difference; its
objectives are the held-out accuracies. As with large models, accuracies move in steps of single
examples, specialists forget, and the best merges lie where nobody would have put them by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import rotate
from sklearn.datasets import load_digits

Array = NDArray[np.float32]

_PIXELS, _HIDDEN, _CLASSES = 64, 64, 10
_TRAINING_IMAGES, _BATCH = 898, 128
_DEGREES = {2: 90, 3: 60, 4: 60, 8: 45}
_SPLITS = {
    2: (range(5), range(5, 10)),
    4: (range(3), range(3, 5), range(5, 8), range(8, 10)),
}
# In the place of a digit: the image belongs to another task.
_OTHERS = -1
# Of Adam.
_MEAN_DECAY, _SQUARE_DECAY, _EPSILON = 0.9, 0.999, 1e-8
# A merge is of use where no task is worse than the base by more than this.
_GIVEN_UP = 0.05


class _Images(NamedTuple):
    """(n, 64) pixels in [0, 1], and (n,) digits."""

    pixels: Array
    digits: NDArray[np.int64]


class _Training(NamedTuple):
    """Steps of the base, steps of a specialist, and its learning rate."""

    base: int
    specialist: int
    rate: float


@dataclass(frozen=True, slots=True, eq=False)
class DigitsMerge:
    """(n,) coefficients in [0, 1] to the (n,) accuracies of the merged network.

    Attributes:
        name: ``rotated-3``: digits turned by multiples of an angle; ``split-4``: disjoint classes.
        base: (weights,) of the network that all specialists come from.
        differences: (n, weights) specialists less base.
        held_out: the images that each task is scored on.
        reference: (n,) accuracies that a merge must exceed to be of use.
    """

    name: str
    base: Array
    differences: Array
    held_out: Sequence[_Images]
    reference: NDArray[np.float64]

    @property
    def n(self) -> int:
        """Number of coefficients, and of objectives."""
        return len(self.differences)

    def __call__(self, coefficients: NDArray[np.float64], /) -> ArrayLike:
        weights = self.base + coefficients.astype(np.float32) @ self.differences
        return _accuracies(weights, self.held_out)


def rotated(tasks: int, seed: int) -> DigitsMerge:
    """2, 3, 4 or 8 tasks: all digits, each task's turned by another angle."""
    images = _shuffled(seed)
    squares = images.pixels.reshape(-1, 8, 8)
    turned = [
        rotate(squares, task * _DEGREES[tasks], axes=(2, 1), reshape=False, order=1)
        for task in range(tasks)
    ]
    sets = [_Images(np.clip(t, 0, 1).reshape(-1, _PIXELS), images.digits) for t in turned]
    return _problem(f"rotated-{tasks}", sets, _Training(150, 60, 1e-3), seed)


def split(tasks: int, seed: int) -> DigitsMerge:
    """2 or 4 tasks: some digits each, behind one head, so that specialists forget the others."""
    images = _shuffled(seed)
    members = [np.isin(images.digits, list(group)) for group in _SPLITS[tasks]]
    sets = [_Images(images.pixels, np.where(own, images.digits, _OTHERS)) for own in members]
    return _problem(f"split-{tasks}", sets, _Training(60, 300, 2e-3), seed)


def _problem(name: str, sets: Sequence[_Images], training: _Training, seed: int) -> DigitsMerge:
    """Train base and specialists on the first part of each task's images, keep the rest."""
    rng = np.random.default_rng(seed)
    known = [_own(s, slice(None, _TRAINING_IMAGES)) for s in sets]
    held_out = [_own(s, slice(_TRAINING_IMAGES, None)) for s in sets]
    everything = _Images(*(np.concatenate(parts) for parts in zip(*known, strict=True)))
    base = _trained(_initial(rng), everything, training.base, 2e-3, rng)
    differences = np.stack(
        [_trained(base, k, training.specialist, training.rate, rng) - base for k in known]
    )
    reference = _accuracies(base, held_out) - _GIVEN_UP
    return DigitsMerge(name, base, differences, held_out, reference)


def _own(images: _Images, part: slice) -> _Images:
    rows = images.digits[part] != _OTHERS
    return _Images(images.pixels[part][rows], images.digits[part][rows])


def _shuffled(seed: int) -> _Images:
    pixels, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(seed - 1).permutation(len(digits))
    return _Images((pixels / 16).astype(np.float32)[order], digits[order])


def _initial(rng: np.random.Generator) -> Array:
    """(weights,) He et al. 2015; no biases."""
    first = rng.standard_normal((_PIXELS, _HIDDEN)) * np.sqrt(2 / _PIXELS)
    second = rng.standard_normal((_HIDDEN, _CLASSES)) * np.sqrt(2 / _HIDDEN)
    parts = (first.ravel(), np.zeros(_HIDDEN), second.ravel(), np.zeros(_CLASSES))
    return np.concatenate(parts).astype(np.float32)


def _layers(weights: Array) -> tuple[Array, Array, Array, Array]:
    """Views of weights and biases of both layers."""
    ends = np.cumsum([_PIXELS * _HIDDEN, _HIDDEN, _HIDDEN * _CLASSES])
    w1, b1, w2, b2 = np.split(weights, ends)
    return w1.reshape(_PIXELS, _HIDDEN), b1, w2.reshape(_HIDDEN, _CLASSES), b2


def _trained(
    weights: Array, images: _Images, steps: int, rate: float, rng: np.random.Generator
) -> Array:
    """Adam (Kingma & Ba 2015, algorithm 1) on the cross entropy, with random batches."""
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, steps + 1):
        rows = rng.integers(0, len(images.digits), _BATCH)
        gradient = _gradient(weights, images.pixels[rows], images.digits[rows])
        mean = _MEAN_DECAY * mean + (1 - _MEAN_DECAY) * gradient
        square = _SQUARE_DECAY * square + (1 - _SQUARE_DECAY) * gradient**2
        spread = np.sqrt(square / (1 - _SQUARE_DECAY**step)) + _EPSILON
        weights = weights - rate * (mean / (1 - _MEAN_DECAY**step) / spread)
    return weights


def _gradient(weights: Array, pixels: Array, digits: NDArray[np.int64]) -> Array:
    """(weights,) of the mean cross entropy of a batch."""
    w1, b1, w2, b2 = _layers(weights)
    hidden = np.maximum(pixels @ w1 + b1, 0)
    logits = hidden @ w2 + b2
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = shares / shares.sum(axis=1, keepdims=True)
    error[np.arange(len(digits)), digits] -= 1
    error /= len(digits)
    below = (error @ w2.T) * (hidden > 0)
    parts = (pixels.T @ below, below.sum(axis=0), hidden.T @ error, error.sum(axis=0))
    return np.concatenate([part.ravel() for part in parts])


def _accuracies(weights: Array, tasks: Sequence[_Images]) -> NDArray[np.float64]:
    w1, b1, w2, b2 = _layers(weights)
    right = [
        (np.maximum(t.pixels @ w1 + b1, 0) @ w2 + b2).argmax(axis=1) == t.digits for t in tasks
    ]
    return np.array([task.mean() for task in right])
