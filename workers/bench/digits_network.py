"""The digits network of the M2N2 paper: data, forward pass, and the models it starts from.

Abrantes et al. 2025 (arXiv:2508.16204), whose "MNIST" is scikit-learn's digits: 8x8 images with
values of 0 to 16, the first four fifths to search on and the rest to test on, and a network of
64-256-10 with 19,210 weights. A model is its flat vector of weights, in the order of the layers,
of each the matrix (inputs, outputs) before the biases.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfinv
from sklearn.datasets import load_digits

Vector = NDArray[np.float32]
Matrix = NDArray[np.float32]

PIXELS, HIDDEN, CLASSES = 64, 256, 10
_FIRST = (PIXELS + 1) * HIDDEN
_SECOND = _FIRST + HIDDEN * CLASSES
WEIGHTS = _SECOND + CLASSES
# Standard deviation of random weights.
SPREAD = 0.01
# Rows at a time, whose hidden activations stay in the cache.
_ROWS = 360
# numpy compares with a row in half the time that it takes to compare with a number.
_OFF = np.zeros(HIDDEN, np.float32)


class Examples:
    """Images with their labels.

    Args:
        images: (examples, 64).
        labels: (examples,) digits.
    """

    def __init__(self, images: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
        # A pixel that is always 1 makes the biases one more row of the first matrix.
        self.images: Matrix = np.column_stack((images, np.ones(len(images)))).astype(np.float32)
        self.labels = labels
        # Pixels that are off everywhere add nothing.
        self._used = np.flatnonzero(self.images.any(axis=0))
        self._inputs: Matrix = np.ascontiguousarray(self.images[:, self._used])
        self._hidden: Matrix = np.empty((_ROWS, HIDDEN), np.float32)

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, digits: range) -> Examples:
        """Those of some digits alone."""
        mine = np.isin(self.labels, list(digits))
        return Examples(self.images[mine, :PIXELS].astype(np.float64), self.labels[mine])

    def right(self, weights: Vector) -> NDArray[np.bool_]:
        """(examples,) whether a model's class is the label."""
        first, second, biases = layers(weights)
        first = first[self._used]
        outputs = np.empty((len(self), CLASSES), np.float32)
        for start in range(0, len(self), _ROWS):
            rows = slice(start, start + _ROWS)
            hidden = self._hidden[: len(self._inputs[rows])]
            np.matmul(self._inputs[rows], first, out=hidden)
            np.maximum(hidden, _OFF, out=hidden)
            np.matmul(hidden, second, out=outputs[rows])
        right: NDArray[np.bool_] = (outputs + biases).argmax(axis=1) == self.labels
        return right

    def accuracy(self, weights: Vector) -> float:
        """Share of the examples that a model has right."""
        return float(self.right(weights).mean())


def layers(weights: Vector) -> tuple[Matrix, Matrix, Vector]:
    """Views: the first layer with its biases as last row (65, 256), the second, its biases."""
    return (
        weights[:_FIRST].reshape(PIXELS + 1, HIDDEN),
        weights[_FIRST:_SECOND].reshape(HIDDEN, CLASSES),
        weights[_SECOND:],
    )


def digits() -> tuple[Examples, Examples]:
    """Examples to search on (1,437) and to test on (360)."""
    images, labels = load_digits(return_X_y=True)
    cut = int(0.8 * len(images))
    return Examples(images[:cut], labels[:cut]), Examples(images[cut:], labels[cut:])


def specialists(train: Examples) -> tuple[Vector, Vector]:
    """The two models of the paper's figure: one that has seen 0 to 4 a little, one 5 to 9.

    From the same random weights as theirs (JAX 0.4, PRNGKey(42)), ten steps on all examples.
    """
    low, high = _split(np.array([0, 42], np.uint32))
    return (
        _trained(SPREAD * _normal(low), train.of(range(5))),
        _trained(SPREAD * _normal(high), train.of(range(5, 10))),
    )


def _trained(weights: Vector, examples: Examples, *, steps: int = 10) -> Vector:
    """Adam on the mean cross entropy; rates as in the authors' code."""
    weights = weights.copy()
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, steps + 1):
        gradient = _gradient(weights, examples)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        slope = np.sqrt(square / (1 - 0.999**step)) + 1e-8
        weights -= (0.003 * mean / (1 - 0.9**step) / slope).astype(np.float32)
    return weights


def _gradient(weights: Vector, examples: Examples) -> Vector:
    first, second, biases = layers(weights)
    hidden = np.maximum(examples.images @ first, 0.0)
    logits = hidden @ second + biases
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    share[np.arange(len(examples)), examples.labels] -= 1.0
    share /= len(examples)
    back = (share @ second.T) * (hidden > 0)
    parts = (examples.images.T @ back, hidden.T @ share, share.sum(axis=0))
    return np.concatenate([part.ravel() for part in parts])


# Random numbers as in JAX before 0.5: threefry2x32 (Salmon et al. 2011), counters in two halves.
_TURNS = ((13, 15, 26, 6), (17, 29, 16, 24))


def _split(key: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """(2, 2) two keys from one."""
    return threefry(key, np.arange(4, dtype=np.uint32)).reshape(2, 2)


def _normal(key: NDArray[np.uint32]) -> Vector:
    """(weights,) standard normals."""
    bits = threefry(key, np.arange(WEIGHTS, dtype=np.uint32))
    unit = ((bits >> np.uint32(9)) | np.uint32(0x3F800000)).view(np.float32) - np.float32(1)
    lowest = np.nextafter(np.float32(-1), np.float32(0))
    uniform = np.maximum(lowest, unit * (np.float32(1) - lowest) + lowest)
    normals: Vector = (np.sqrt(2.0) * erfinv(uniform.astype(np.float64))).astype(np.float32)
    return normals


def threefry(key: NDArray[np.uint32], counters: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """(2n,) random bits of as many counters; the first half is encrypted with the second."""
    x, y = counters[: len(counters) // 2].copy(), counters[len(counters) // 2 :].copy()
    keys = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    x += keys[0]
    y += keys[1]
    for turn in range(5):
        for bits in _TURNS[turn % 2]:
            x += y
            y = (y << np.uint32(bits)) | (y >> np.uint32(32 - bits))
            y ^= x
        x += keys[(turn + 1) % 3]
        y += keys[(turn + 2) % 3]
        y += np.uint32(turn + 1)
    return np.concatenate((x, y))
