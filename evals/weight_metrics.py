"""What can be said of a merge by its weights alone: objectives for which nothing is asked.

``{task: weights, metric: delta_norm}`` is an objective like any other, but for its examples: there
is one, the model, so the score has no error, and is the same on every split.
"""

from __future__ import annotations

from collections.abc import Mapping

TASK = "weights"

# Metric -> whether higher is better.
METRICS: Mapping[str, bool] = {
    # |merge - base| / |base|, of all merged weights as one vector: how far it has moved.
    "delta_norm": False,
    # The share of weights that are the base's to the last bit: what need not be stored or sent.
    "sparsity": True,
}
