"""A search that never ran: generated candidates that arrive over time, in the API's own shapes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal

import numpy as np

from api.schemas import (
    CandidateDetail,
    CandidateView,
    CheckpointState,
    CheckpointView,
    ComparisonView,
    DuelView,
    EventView,
    ExampleView,
    FileView,
    GainView,
    NoiseView,
    ObjectiveView,
    OriginView,
    PacingView,
    Progress,
    ResultView,
    ScoreView,
    SearchDetail,
    SearchView,
    SideBySideView,
    SplitView,
    State,
    TimingsView,
    WayView,
)
from search.layout import LayerGroups, Segments
from search.pareto import front, hypervolume, reference_point
from search.problems import Problem
from search.recipe import Recipe, mixture
from search.spec import SearchSpec
from workers.doctor.summary import DiagnosisSummary, Distance
from workers.messages import Form

RecipeForm = Literal["blocks", "segments"]

_BLOCKS = (
    "embed",
    *(f"layers.{n}.{part}" for n in range(4) for part in ("attention", "mlp", "rest")),
    "final_norm",
)
# Candidates that were scored on select examples; the first of them on report examples as well.
FINALISTS = (20, 21, 30)

_CORNERS = {  # scores of base, specialists and average on (arith, string, facts, text in bits)
    "base": (0.16, 0.0, 0.24, 0.219),
    "arith": (0.99, 0.0, 0.24, 0.22),
    "string": (0.16, 1.0, 0.25, 0.221),
    "facts": (0.18, 0.0, 1.0, 0.218),
    "average": (0.26, 0.02, 0.43, 0.22),
}


class FakeSearch:
    """Sixty candidates or so; one outcome becomes known every ``pace_s`` seconds.

    Args:
        spec: what the search is called and made of; its parents' names may be anything.
        pace_s: 0 makes all outcomes known at once.
        form: whether recipes are about blocks of layers or about segments.
        hostile: text that stands wherever a user or a failing worker could have put some.
    """

    def __init__(
        self, identity: str, spec: SearchSpec, *, pace_s: float, form: RecipeForm, hostile: str = ""
    ) -> None:
        self.id = identity
        self.spec = spec
        self.form = form
        self.hostile = hostile
        self.events: list[EventView] = []
        self.checkpoints: dict[tuple[int, Form], CheckpointView] = {}
        self.evaluations = spec.budget.evaluations
        self.state: State = "surveying"
        self.stopped: str | None = None
        self.created_at = datetime.now(UTC)
        self._rng = np.random.default_rng(spec.seed)
        self._details: list[CandidateDetail] = []
        self._volumes: list[tuple[int, float]] = []
        self._pace_s = pace_s
        self._due = time.monotonic() + 4 * pace_s
        self._stored_at: dict[tuple[int, Form], float] = {}
        self.advance()

    @property
    def objectives(self) -> list[ObjectiveView]:
        return [
            ObjectiveView(
                key=objective.key,
                task=objective.task,
                metric=objective.metric,
                weight=objective.weight,
                higher_is_better=objective.metric != "bits_per_byte",
            )
            for objective in self.spec.objectives
        ]

    def advance(self) -> None:
        """Let happen what is due by now."""
        while self.state in ("surveying", "running") and time.monotonic() >= self._due:
            self._due = (self._due if self._pace_s else time.monotonic()) + self._pace_s
            if self.state == "surveying":
                self.state = "running"
                self._log("surveyed")
            elif len(self._details) < self.evaluations:
                self._evaluate()
            else:
                self.state = "finished"
                self._log("finished")
        for which, moment in list(self._stored_at.items()):
            if time.monotonic() >= moment:
                del self._stored_at[which]
                self._store(*which)

    def command(self, kind: str, evaluations: int | None) -> None:
        self._due = time.monotonic() + self._pace_s
        match kind:
            case "pause":
                self.state = "paused"
            case "resume":
                self.state = "running"
            case "cancel":
                self.state = "cancelled"
            case "extend":
                self.evaluations += evaluations or 0
                self.stopped = None
                self.state = "running" if self.state == "finished" else self.state
        self._log(kind)

    def stop(self, reason: str) -> None:
        """Find that it stagnates."""
        self.evaluations, self.stopped = len(self._details), reason
        self._log("stopped")

    def request_checkpoint(self, ordinal: int, form: Form) -> CheckpointView:
        if (ordinal, form) not in self.checkpoints:
            digest = self._details[ordinal].digest
            self.checkpoints[ordinal, form] = CheckpointView(
                state="requested", form=form, ordinal=ordinal, digest=digest, files={}, scores={}
            )
            self._stored_at[ordinal, form] = time.monotonic() + 0.6
            self._log("checkpoint_requested", ordinal, form=form)
        return self.checkpoints[ordinal, form]

    def candidates(self) -> list[CandidateView]:
        """In a finished search the baselines were confirmed, with the scores that they had.

        So were three more, with a little less.
        """
        views = [_view(detail) for detail in self._details]
        if self.state != "finished":
            return views
        for place, view in enumerate(views):
            given = place < len(_CORNERS)
            if given or place in FINALISTS:
                selected = view.scores if given else _less(view.scores)
                reported = selected if given or place == FINALISTS[0] else {}
                found = {"selected": selected, "reported": reported}
                views[place] = view.model_copy(update=found)
        return views

    def candidate(self, ordinal: int) -> CandidateDetail | None:
        if not 0 <= ordinal < len(self._details):
            return None
        known = [
            CheckpointState(form=form, state=view.state)
            for (of, form), view in self.checkpoints.items()
            if of == ordinal
        ]
        return self._details[ordinal].model_copy(update={"checkpoints": known})

    def front(self) -> list[CandidateView]:
        scored = [c for c in self.candidates() if c.state == "scored"]
        if not scored:
            return []
        mask = front([self._point(candidate) for candidate in scored])
        return [candidate for candidate, kept in zip(scored, mask, strict=True) if kept]

    def picked(self, weights: dict[str, float]) -> CandidateView | None:
        """The one on the front with the greatest weighted sum, as the objectives come."""
        wanted = [weights[objective.key] for objective in self.objectives]
        return max(self.front(), key=lambda c: float(np.dot(self._point(c), wanted)), default=None)

    def view(self) -> SearchView:
        best = max(self.front(), key=lambda c: sum(self._point(c)), default=None)
        return SearchView(
            id=self.id,
            name=self.hostile or self.spec.name,
            state=self.state,
            created_at=self.created_at,
            method=self.spec.method,
            optimizer=self.spec.optimizer.name,
            objectives=self.objectives,
            progress=self._progress(),
            best=best,
            front_size=len(self.front()),
            hypervolume=self._volumes[-1][1] if self._volumes else None,
            seq=len(self.events),
            stopped=self.stopped,
        )

    def detail(self) -> SearchDetail:
        return SearchDetail(
            **dict(self.view()),
            spec=self.spec,
            baselines=self.candidates()[: len(_CORNERS)],
            hypervolume_history=self._volumes,
            warnings=[Problem(field="parents[1].path", message="has no licence" + self.hostile)],
            diagnoses=[
                DiagnosisSummary(
                    name,
                    Distance(0.0312, 0.9995, 1.0004, frozen=0.25),
                    {"mlp": Distance(0.0441, None, 1.0009, frozen=0.0)},
                    duplicates=(self.hostile,) if self.hostile else (),
                )
                for name in self._names()
            ],
            splits=[
                SplitView(task=objective.task, split=split, count=count, digest="0" * 64)
                for objective in self.spec.objectives
                for split, count in (("search", 200), ("select", 80), ("report", 120))
            ],
            result=self._result() if self.state == "finished" else None,
            noise={
                objective.key: NoiseView(count=16, largest=2.5e-7, flips=0)
                for objective in self.spec.objectives
            },
            pacing=PacingView(
                tokens=1024,
                threads=1,
                tried=[
                    WayView(tokens=1024, threads=1, seconds=0.125),
                    WayView(tokens=512, threads=2, seconds=0.25),
                ],
            ),
        )

    def _result(self) -> ResultView | None:
        """Nine tenths of what the best promised on the search split, as these things go."""
        best = self.view().best
        if best is None:
            return None
        reported = {}
        for key, entry in best.scores.items():
            value, higher = 0.9 * (entry.value or 0.0), entry.higher_is_better
            reported[key] = ScoreView(
                value=value,
                stderr=0.02,
                count=120,
                higher_is_better=higher,
                low=value - 0.04,
                high=value + 0.04,
            )
        gain = GainView(value=0.25, low=0.125, high=0.375)
        return ResultView(
            winner=best.model_copy(update={"reported": reported}),
            finalists=[best],
            comparisons=[
                ComparisonView(
                    name=candidate.label,
                    ordinal=candidate.ordinal,
                    is_best_parent=candidate.ordinal == 1,
                    overall=gain,
                    gains=dict.fromkeys(reported, gain),
                )
                for candidate in self.candidates()[: len(_CORNERS)]
            ],
        )

    def compare(self, ordinal: int, baseline: int) -> SideBySideView:
        """Whatever the scores, every example of the first objective is won and all others tied."""
        won = [
            ExampleView(
                example=n,
                document=f"{n:016x}",
                question=f"What is {n} plus {n}? {self.hostile}".strip(),
                answer=f"{2 * n} {self.hostile}".strip(),
                score=1.0,
                baseline_score=0.0,
            )
            for n in range(20)
        ]
        duels = [
            DuelView(key=objective.key, wins=0, losses=0, ties=200, won=[], lost=[])
            for objective in self.objectives
        ]
        duels[0] = DuelView(key=duels[0].key, wins=150, losses=0, ties=50, won=won, lost=[])
        return SideBySideView(ordinal=ordinal, baseline=baseline, split="search", objectives=duels)

    def _point(self, candidate: CandidateView) -> list[float]:
        return [
            (entry.value or 0.0) * (1 if entry.higher_is_better else -1)
            for entry in candidate.scores.values()
        ]

    def _progress(self) -> Progress:
        infeasible = sum(detail.state == "infeasible" for detail in self._details)
        left = self.evaluations - len(self._details)
        return Progress(
            proposed=len(self._details),
            scored=len(self._details) - infeasible,
            infeasible=infeasible,
            evaluations=self.evaluations,
            seconds_left=left * self._pace_s if self.state == "running" else None,
        )

    def _evaluate(self) -> None:
        ordinal = len(self._details)
        lost = ordinal >= len(_CORNERS) and ordinal % 13 == 12
        recipe = self._recipe(ordinal)
        now = datetime.now(UTC)
        reason = f"layers.2.mlp: the merged weights are not finite {self.hostile}".strip()
        detail = CandidateDetail(
            ordinal=ordinal,
            state="infeasible" if lost else "scored",
            seq=len(self.events) + 1,
            origin=self._origin(ordinal),
            label=self._label(ordinal),
            digest=recipe.digest,
            scores={} if lost else self._scores(ordinal),
            reason=reason if lost else None,
            timings=TimingsView(merge_s=0.02, forward_s=0.21, other_s=0.01),
            worker=self.hostile or f"worker-{ordinal % 2}",
            proposed_at=now - timedelta(seconds=1),
            recorded_at=now,
            recipe=recipe,
            mergekit=None if self.form == "segments" else _mergekit(recipe),
            can_be_adapter=self.form == "blocks",
            engine={"torch": "2.13.0", "dtype": "float32", "device": "a processor", "plan": "p"},
        )
        self._details.append(detail)
        self._measure()
        self._log("infeasible" if lost else "scored", ordinal, _view(detail))

    def _measure(self) -> None:
        points = [self._point(c) for c in self.candidates() if c.state == "scored"]
        if len(points) >= len(_CORNERS):
            volume = hypervolume(points, reference_point(points[: len(_CORNERS)]))
            self._volumes.append((len(self._details), volume))

    def _names(self) -> list[str]:
        return [self.hostile or parent.name for parent in self.spec.parents]

    def _label(self, ordinal: int) -> str:
        labels = ["base", *self._names(), "average"]
        return labels[ordinal] if ordinal < len(labels) else f"#{ordinal}"

    def _origin(self, ordinal: int) -> OriginView:
        moves = ["base", "parent", "parent", "parent", "average"]
        if ordinal < len(moves):
            return OriginView(
                move=moves[ordinal], parents=[], detail={"name": self._label(ordinal)}
            )
        if ordinal == len(moves):
            return OriginView(move="kept", parents=[], detail={"search": "0123", "ordinal": 17})
        if ordinal < 14:
            return OriginView(move="sample", parents=[], detail={"status": self._status(ordinal)})
        parents = sorted({int(p) for p in self._rng.integers(1, ordinal, size=2)})
        split = round(float(self._rng.uniform()), 3)
        detail: dict[str, float | str] = {"split": split, self.hostile or "ratio": 0.5}
        detail["status"] = self._status(ordinal)
        return OriginView(move="crossover", parents=parents, detail=detail)

    def _status(self, ordinal: int) -> str:
        return f"Has looked at {ordinal} merges. {self.hostile}".strip()

    def _scores(self, ordinal: int) -> dict[str, ScoreView]:
        """Baselines as they are; later candidates lean towards all skills at once."""
        corners = np.array(list(_CORNERS.values()))
        if ordinal < len(corners):
            values = corners[ordinal]
        else:
            share = self._rng.dirichlet((1.2, 1.2, 1.2))
            skill = 0.35 + 0.6 * min(1.0, ordinal / 50) * self._rng.uniform(0.6, 1.0)
            values = corners[0] + (corners[1:4] - corners[0]).max(axis=0) * np.append(
                skill * share**0.55, 0.0
            )
            values[3] = 0.219 + 0.004 * self._rng.normal()
        counts = len(self.objectives)
        return {
            objective.key: ScoreView(
                value=round(float(np.clip(values[i % 4], 0, 1)), 4),
                stderr=_stderr(values[i % 4]) if objective.higher_is_better else 0.0009,
                count=200,
                higher_is_better=objective.higher_is_better,
            )
            for i, objective in zip(range(counts), self.objectives, strict=True)
        }  # fmt: skip

    def _recipe(self, ordinal: int) -> Recipe:
        names = tuple(self._names())
        count = len(names)
        if ordinal < len(_CORNERS):
            weight = (
                np.eye(count)[ordinal - 1] if 0 < ordinal <= count else np.full(count, 1 / count)
            )
            return mixture(names, tuple(float(w) for w in weight))
        if self.form == "segments":
            cuts = sorted({0, 1_830_000, *(int(c) for c in self._rng.integers(1, 1_830_000, 5))})
            rows = self._rng.normal(0.35, 0.4, (len(cuts) - 1, count)).round(4)
            return Recipe(
                method="linear",
                parents=names,
                partition=Segments(boundaries=tuple(cuts)),
                blocks=tuple(f"{a}:{b}" for a, b in pairwise(cuts)),
                parameters={"weight": tuple(map(tuple, rows.tolist())), "normalize": False},
            )
        blocks = tuple(f"{self.hostile}{block}" for block in _BLOCKS)
        weight = (self._rng.uniform(0, 1.5, (len(blocks), count))).round(4)
        density = self._rng.uniform(0.2, 1.0, (len(blocks), count)).round(4)
        return Recipe(
            method=self.spec.method,
            parents=names,
            partition=LayerGroups(layers=1, modules=("attention", "mlp")),
            blocks=blocks,
            parameters={
                "weight": tuple(map(tuple, weight.tolist())),
                "density": tuple(map(tuple, density.tolist())),
                "lambda": tuple(self._rng.uniform(0.5, 1.5, len(blocks)).round(4).tolist()),
                "normalize": False,
            },
        )

    def _store(self, ordinal: int, form: Form) -> None:
        detail = self._details[ordinal]
        weights = {"model": "model.safetensors", "adapter": "adapter_model.safetensors"}[form.kind]
        names = ("config.json", weights, "recipe.json", "tokenizer.json")
        self.checkpoints[ordinal, form] = CheckpointView(
            state="stored",
            form=form,
            error=0.0 if form.rank is None else 0.125,
            ordinal=ordinal,
            digest=detail.digest,
            files={
                name: FileView(sha256=detail.digest, size_bytes=len(file_content(ordinal, name)))
                for name in names
            },
            scores=detail.scores,
        )
        self._log("checkpoint_stored", ordinal, form=form)

    def _log(
        self,
        kind: str,
        ordinal: int | None = None,
        candidate: CandidateView | None = None,
        *,
        form: Form | None = None,
    ) -> None:
        self.events.append(
            EventView(
                seq=len(self.events) + 1,
                kind=kind,
                ordinal=ordinal,
                at=datetime.now(UTC),
                candidate=candidate,
                progress=self._progress(),
                hypervolume=self._volumes[-1][1] if self._volumes else None,
                state=self.state,
                detail={} if form is None else {"form": form.model_dump()},
            )
        )


def _stderr(share: float) -> float:
    """Of a share of 200 examples."""
    return round(float(np.sqrt(np.clip(share * (1 - share), 0, 1) / 200)), 4)


def file_content(ordinal: int, name: str) -> bytes:
    """What the fake checkpoint holds under a name."""
    return f"{name} of candidate {ordinal}\n".encode() * 40


def _less(scores: Mapping[str, ScoreView]) -> dict[str, ScoreView]:
    """What was a little lucky, on other examples: with 95 % intervals."""
    return {
        key: entry.model_copy(
            update={"value": value, "low": value - 0.0625, "high": value + 0.03125}
        )
        for key, entry in scores.items()
        for value in (0.9 * (entry.value or 0.0),)
    }


def _view(detail: CandidateDetail) -> CandidateView:
    return CandidateView(**{name: getattr(detail, name) for name in CandidateView.model_fields})


def _mergekit(recipe: Recipe) -> str:
    models = "\n".join(f"  - model: models/{parent}" for parent in recipe.parents)
    return f"merge_method: {recipe.method}\nmodels:\n{models}\ndtype: float32\n"
