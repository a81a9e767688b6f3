"""A search whose models are a few numbers and whose tasks are formulas; no torch, no files.

Merging is real (a weighted sum of the parents, block by block), and so is the geometry.
"""

import heapq
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from api.store import Submission
from evals.suite import Draw
from search.geometry import Geometry
from search.layout import Layout, Tensor
from search.method import MethodDeclaration, Parameter
from search.outcome import Score, Split
from search.racing import rungs, scored
from search.recipe import Recipe
from search.registry import UnknownName
from search.spec import parse_spec
from workers.messages import (
    Confirm,
    Confirmed,
    Evaluate,
    Evaluated,
    Export,
    Exported,
    Job,
    Rejected,
    Report,
    Result,
    Survey,
    Surveyed,
    Timings,
    Zoo,
)

PARENTS = ("add", "reverse")
LAYOUT = Layout.of(
    Tensor(name=f"model.layers.{layer}.{part}.weight", shape=(4, 3), dtype="F32")
    for layer in range(3)
    for part in ("self_attn.q_proj", "mlp.up_proj")
)
LINEAR = MethodDeclaration(
    name="linear",
    summary="Weighted sum.",
    source="arXiv:2203.05482",
    parameters=(
        Parameter("weight", "share of a parent", per_parent=True, low=0.0, high=1.0),
        Parameter("normalize", "divide by the sum of weights", kind="flag", default=True),
    ),
    uses_base=False,
)
KEYS = ("add/score", "reverse/acc")
DRAWS = tuple(
    Draw(task, split, LAYOUT.size, f"{task}/{split}") for split in Split for task in PARENTS
)

_rng = np.random.default_rng(20261121)
_ORDER = np.random.default_rng(1).permutation(LAYOUT.size)
MODELS = {name: _rng.normal(size=LAYOUT.size) for name in ("base", *PARENTS)}
# Each parent is right in one half of the model, so that a merge by blocks beats both.
_HALF = np.arange(LAYOUT.size) < LAYOUT.size // 2
TARGETS = {
    "add/score": np.where(_HALF, MODELS["add"], MODELS["reverse"]),
    "reverse/acc": np.where(_HALF, MODELS["add"] * 0.7, MODELS["reverse"]),
}


def declaration(name: str) -> MethodDeclaration:
    if name != LINEAR.name:
        raise UnknownName("merge method", name, [LINEAR.name])
    return LINEAR


def submission(
    optimizer: Mapping[str, Any] | None = None,
    *,
    evaluations: int = 60,
    parallel: int = 4,
    seed: int = 0,
    **changes: Any,
) -> Submission:
    spec = parse_spec(
        {
            "name": "analytic",
            "base": {"path": "models/base"},
            "parents": [{"name": name, "path": f"models/{name}"} for name in PARENTS],
            "method": "linear",
            "space": {
                "blocks": {"layers": 1},
                "parameters": {"weight": {"low": 0.0, "high": 1.0}, "normalize": False},
            },
            "objectives": [
                {"task": "add", "metric": "score"},
                {"task": "reverse", "metric": "acc"},
            ],
            "optimizer": dict(optimizer or {"name": "uniform"}),
            "budget": {"evaluations": evaluations, "parallel": parallel},
            "seed": seed,
            "racing": 0.05,
            **changes,
        }
    )
    zoo = Zoo("base", tuple((name, name) for name in PARENTS), "float32")
    return Submission(spec, LAYOUT, zoo, dict.fromkeys(KEYS, True), facts={"parameters": 72})


def merged(recipe: Recipe) -> NDArray[np.float64]:
    """The flattened model; absent normalization, a plain weighted sum per block."""
    model = np.zeros(LAYOUT.size)
    offsets = dict(zip((t.name for t in LAYOUT.tensors), LAYOUT.offsets, strict=False))
    for index, block in enumerate(LAYOUT.blocks(recipe.partition)):
        weights = recipe.at(index)["weight"]
        assert isinstance(weights, tuple)
        for piece in block.pieces:
            start = offsets[piece.tensor]
            cut = slice(start + piece.start, start + piece.stop)
            for name, weight in zip(recipe.parents, weights, strict=True):
                model[cut] += weight * MODELS[name][cut]
    return model


def scores(
    recipe: Recipe, split: Split = Split.SEARCH, count: int = LAYOUT.size
) -> dict[str, Score]:
    """Of the first examples; there is one for every weight.

    On two splits that the search does not see, the examples ask for something else.
    """
    shift = {Split.SEARCH: 0.0, Split.SELECT: 0.01, Split.REPORT: -0.01}[split]
    model = merged(recipe) + shift
    distance = np.abs(model - TARGETS["add/score"]).astype(np.float32)
    hits = (np.abs(model - TARGETS["reverse/acc"]) < 0.4).astype(np.float32)
    seen = _ORDER[:count]
    return {key: _score(x[seen], split) for key, x in zip(KEYS, (-distance, hits), strict=True)}


def _score(examples: NDArray[np.float32], split: Split) -> Score:
    mean, stderr = examples.mean(dtype=np.float64), examples.std(dtype=np.float64, ddof=1)
    stderr /= np.sqrt(len(examples))
    return Score(float(mean), float(stderr), len(examples), examples, split)


def geometry() -> Geometry:
    boundaries = np.array(LAYOUT.grid(), dtype=np.int64)
    models = np.stack(list(MODELS.values()))
    gram = np.stack(
        [models[:, start:stop] @ models[:, start:stop].T for start, stop in pairwise(boundaries)]
    )
    return Geometry(boundaries, gram)


def is_degenerate(recipe: Recipe) -> bool:
    """One recipe in sixteen cannot be merged; which ones is theirs to know."""
    return recipe.method == "linear" and recipe.digest.startswith("0")


def perform(job: Job) -> Result:
    match job.work:
        case Survey(needs_geometry):
            found = geometry() if needs_geometry else None
            return Surveyed({"base/model": "0" * 64}, found, draws=DRAWS)
        case Evaluate(recipe, race=race):
            if is_degenerate(recipe):
                return Rejected("the merge is not finite")
            found, left_early = scored(
                race, rungs(LAYOUT.size), lambda count: scores(recipe, count=count)
            )
            return Evaluated(found, Timings(0.001, 0.002, 0.003), left_early=left_early)
        case Confirm(recipe, suite, ends):
            count = ends[-1] if ends else LAYOUT.size
            return Confirmed(scores(recipe, suite.split, count), Timings(0.001, 0.002, 0.003))
        case Export(recipe, suite):
            files = {"model.safetensors": ("1" * 64, 288)}
            return Exported(files, scores(recipe, suite.split))


class AnalyticFleet:
    """Workers that take random time and nothing else; a fleet as the controller sees it."""

    def __init__(self, slots: int = 2, *, seed: int = 0, longest_s: float = 0.0) -> None:
        self._slots = slots
        self._delays = np.random.default_rng(seed)
        self._longest_s = longest_s
        self._free_at = [0.0] * slots
        self._due: list[tuple[float, str, Job]] = []
        self.submitted: list[Job] = []

    def submit(self, job: Job) -> None:
        self.submitted.append(job)
        start = max(heapq.heappop(self._free_at), time.monotonic())
        end = start + self._delays.uniform(0.0, self._longest_s)
        heapq.heappush(self._free_at, end)
        heapq.heappush(self._due, (end, job.id, job))

    def next_report(self, timeout_s: float) -> Report | None:
        if not self._due:
            time.sleep(min(timeout_s, 0.005))
            return None
        wait_s = self._due[0][0] - time.monotonic()
        if wait_s > timeout_s:
            time.sleep(timeout_s)
            return None
        if wait_s > 0:
            time.sleep(wait_s)
        _, _, job = heapq.heappop(self._due)
        return Report(job.id, perform(job), worker="analytic")

    def slots(self) -> int:
        return self._slots

    def close(self) -> None:
        self._due.clear()
