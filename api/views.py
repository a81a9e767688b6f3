"""From the nouns of the search to what the API says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from api.progress import Checkpoint
from api.progress import Progress as ProgressOfLog
from api.reading import Reading, Readings
from api.schemas import (
    CandidateDetail,
    CandidateView,
    CheckpointState,
    CheckpointView,
    ComparisonView,
    EventView,
    FileView,
    FrontView,
    GainView,
    MethodView,
    NoiseView,
    ObjectiveView,
    OptimizerView,
    OriginView,
    PacingView,
    ParameterView,
    Progress,
    ResultView,
    ScoreView,
    SearchDetail,
    SearchView,
    SplitView,
    TimingsView,
    WayView,
    finite,
)
from api.selection import OVERALL
from api.store import Entry, Event, Search, Summary, scores_from_json
from evals.batching import Pacing
from search.method import MethodDeclaration, Parameter
from search.optimizer import OptimizerClass
from search.paired import Difference
from search.problems import Problem
from search.run import STATUS
from workers.checkpoints.lowrank import obstacles
from workers.mergekit import mergekit_yaml
from workers.messages import Form

# Told by the candidate, and much to repeat with every event.
_ELSEWHERE = {"scores", "engine", "models"}


def score_views(
    scores: Mapping[str, Summary], directions: Mapping[str, bool]
) -> dict[str, ScoreView]:
    """Scores in the metric's own sign."""
    return {
        key: ScoreView.of(
            score.value,
            score.stderr,
            score.count,
            higher_is_better=directions[key],
            low=score.low,
            high=score.high,
        )
        for key, score in scores.items()
        if key in directions
    }


def label(entry: Entry) -> str:
    """What plots call a candidate."""
    origin = entry.candidate.origin
    if origin.is_baseline:
        return str(origin.detail.get("name", origin.move))
    return f"#{entry.candidate.ordinal}"


def candidate_view(entry: Entry, reading: Reading, *, on_front: bool) -> CandidateView:
    """A row of the log."""
    return CandidateView(**_candidate(entry, reading), on_front=on_front)


def candidate_detail(
    entry: Entry, reading: Reading, *, on_front: bool, checkpoints: Mapping[Form, Checkpoint]
) -> CandidateDetail:
    """One candidate whole."""
    submission = reading.search.submission
    zoo = submission.zoo
    recipe = entry.candidate.recipe
    return CandidateDetail(
        **_candidate(entry, reading),
        on_front=on_front,
        recipe=recipe,
        mergekit=mergekit_yaml(recipe, submission.layout, {"base": zoo.base, **dict(zoo.parents)}),
        checkpoints=[
            CheckpointState(form=form, state=checkpoint.state)
            for form, checkpoint in checkpoints.items()
        ],
        can_be_adapter=not obstacles(recipe, adapters(reading.search)),
        engine=dict(entry.engine),
    )


def adapters(search: Search) -> list[str]:
    """Names of the parents that are LoRA adapters."""
    return list(search.submission.facts.get("adapters", ()))


def _candidate(entry: Entry, reading: Reading) -> dict[str, Any]:
    """The fields that both views of a candidate share."""
    candidate, outcome = entry.candidate, entry.outcome
    directions, selection = reading.search.submission.directions, reading.selection
    origin = candidate.origin
    timings = entry.timings
    return {
        "ordinal": candidate.ordinal,
        "state": "pending" if outcome is None else outcome.kind,
        "seq": None if outcome is None else outcome.seq,
        "origin": OriginView(
            move=origin.move,
            parents=list(origin.parents),
            detail={name: _plain(value) for name, value in origin.detail.items()},
        ),
        "label": label(entry),
        "digest": entry.digest,
        "scores": {} if outcome is None else score_views(outcome.scores, directions),
        "selected": score_views(selection.selected.get(candidate.ordinal, {}), directions),
        "reported": score_views(selection.reported.get(candidate.ordinal, {}), directions),
        "left_early": entry.left_early,
        "reason": None if outcome is None else outcome.body.get("reason"),
        "timings": None
        if timings is None
        else TimingsView(
            merge_s=timings.merge_s, forward_s=timings.forward_s, other_s=timings.other_s
        ),
        "violates": [] if outcome is None else _violates(outcome.scores, reading),
        "worker": entry.worker,
        "cached": entry.cached,
        "proposed_at": entry.proposed_at,
        "recorded_at": None if outcome is None else outcome.at,
    }


def _plain(value: float | str) -> float | str:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def objective_views(reading: Reading) -> list[ObjectiveView]:
    """The objectives in the order of the spec."""
    search, constraints = reading.search, reading.standings.constraints
    directions = search.submission.directions
    return [
        ObjectiveView(
            key=objective.key,
            task=objective.task,
            metric=objective.metric,
            weight=objective.weight,
            higher_is_better=directions[objective.key],
            at_least=finite(low if directions[objective.key] else -high),
            at_most=finite(high if directions[objective.key] else -low),
        )
        for objective, low, high in zip(
            search.spec.objectives,
            constraints.low.tolist(),
            constraints.high.tolist(),
            strict=True,
        )
    ]


def _violates(scores: Mapping[str, Summary], reading: Reading) -> list[str]:
    """Keys of the objectives whose constraints these scores miss."""
    keys = [objective.key for objective in reading.search.spec.objectives]
    constraints = reading.standings.constraints
    if not constraints or any(key not in scores for key in keys):
        return []
    missed = constraints.violated(np.array([scores[key].value for key in keys]))
    return [key for key, misses in zip(keys, missed, strict=True) if misses]


def progress_view(progress: ProgressOfLog, proposed: int) -> Progress:
    """How far a search is."""
    return Progress(
        proposed=max(proposed, progress.scored + progress.infeasible),
        scored=progress.scored,
        infeasible=progress.infeasible,
        evaluations=progress.evaluations,
        unconfirmed=len(progress.unconfirmed),
        seconds_left=finite(progress.seconds_left),
    )


def search_view(reading: Reading, readings: Readings, proposed: int) -> SearchView:
    """One search, as in lists."""
    return SearchView(**_search(reading, readings, proposed))


def search_detail(reading: Reading, readings: Readings, proposed: int) -> SearchDetail:
    """One search whole."""
    search, standings = reading.search, reading.standings
    front = frozenset(standings.front)
    baselines = readings.entries(search.id, standings.baselines.values())
    return SearchDetail(
        **_search(reading, readings, proposed),
        spec=search.spec,
        baselines=[
            candidate_view(entry, reading, on_front=entry.candidate.ordinal in front)
            for entry in baselines
        ],
        splits=[
            SplitView(task=d.task, split=d.split.value, count=d.count, digest=d.digest)
            for d in reading.progress.draws
        ],
        result=result_view(reading, readings),
        hypervolume_history=[(count, volume) for count, volume in standings.history],
        warnings=[
            *_told_before(search),
            *reading.progress.warnings,
            *reading.notices.problems,
        ],
        diagnoses=list(reading.progress.diagnoses),
        noise={
            key: NoiseView(
                count=noise["count"], largest=finite(float(noise["largest"])), flips=noise["flips"]
            )
            for key, noise in reading.notices.noise.items()
        },
        pacing=_pacing_view(reading.progress.pacing),
    )


def _pacing_view(pacing: Pacing | None) -> PacingView | None:
    if pacing is None:
        return None
    tried = [
        WayView(tokens=way.tokens, threads=way.threads, seconds=seconds)
        for way, seconds in pacing.seconds.items()
    ]
    chosen = pacing.batching
    return PacingView(tokens=chosen.tokens, threads=chosen.threads, tried=tried)


def _told_before(search: Search) -> list[Problem]:
    """Warnings of the preflight, as of submission."""
    return [Problem.model_validate(told) for told in search.submission.facts.get("warnings", ())]


def result_view(reading: Reading, readings: Readings) -> ResultView | None:
    """What the search has come to, as far as it was measured."""
    search, selection = reading.search, reading.selection
    front = frozenset(reading.standings.front)

    def views(ordinals: Iterable[int]) -> list[CandidateView]:
        return [
            candidate_view(entry, reading, on_front=entry.candidate.ordinal in front)
            for entry in readings.entries(search.id, ordinals)
        ]

    if selection.winner is None:
        return None
    (winner,) = views([selection.winner])
    return ResultView(
        winner=winner,
        finalists=views(selection.finalists),
        comparisons=[
            ComparisonView(
                name=name,
                ordinal=selection.baselines[name],
                is_best_parent=name == selection.best_parent,
                overall=_gain_view(gains[OVERALL]) if OVERALL in gains else None,
                gains={key: _gain_view(gain) for key, gain in gains.items() if key != OVERALL},
            )
            for name, gains in selection.gains.items()
        ],
    )


def _gain_view(gain: Difference) -> GainView:
    return GainView(value=finite(gain.value), low=finite(gain.low), high=finite(gain.high))


def _search(reading: Reading, readings: Readings, proposed: int) -> dict[str, Any]:
    """The fields that both views of a search share."""
    search, progress, standings = reading.search, reading.progress, reading.standings
    best = reading.best()
    entry = None if best is None else readings.entry(search.id, best)
    return {
        "id": search.id,
        "name": search.spec.name,
        "state": progress.state,
        "created_at": search.created_at,
        "method": ", ".join(search.spec.method_names),
        "optimizer": search.spec.optimizer.name,
        "objectives": objective_views(reading),
        "progress": progress_view(progress, proposed),
        "status": _status(readings, search.id, proposed),
        "best": None
        if entry is None
        else candidate_view(entry, reading, on_front=best in standings.front),
        "front_size": len(standings.front),
        "hypervolume": finite(standings.hypervolume),
        "stopped": progress.stopped,
        "seq": progress.seq,
        "problems": list(progress.problems),
    }


def _status(readings: Readings, search_id: str, proposed: int) -> str | None:
    """What the optimizer said of itself when it proposed its newest candidate."""
    newest = readings.entry(search_id, proposed - 1) if proposed else None
    status = None if newest is None else newest.candidate.origin.detail.get(STATUS)
    return None if status is None else str(status)


def front_view(reading: Reading, readings: Readings, keys: list[str]) -> FrontView:
    """The front in some objectives, in the order in which they were asked for."""
    search = reading.search
    by_key = {objective.key: objective for objective in objective_views(reading)}
    return FrontView(
        objectives=[by_key[key] for key in keys],
        items=[
            candidate_view(entry, reading, on_front=True)
            for entry in readings.entries(search.id, reading.standings.front_in(keys))
        ],
    )


def event_view(event: Event, entry: Entry | None, reading: Reading, proposed: int) -> EventView:
    """An entry of the log; ``reading`` has just been fed with it."""
    standings = reading.standings
    candidate = None
    if entry is not None:
        on_front = entry.candidate.ordinal in standings.front
        candidate = candidate_view(entry, reading, on_front=on_front)
    return EventView(
        seq=event.seq,
        kind=event.kind,
        ordinal=event.ordinal,
        at=event.at,
        candidate=candidate,
        progress=progress_view(reading.progress, proposed),
        hypervolume=finite(standings.hypervolume),
        state=reading.progress.state,
        detail={name: value for name, value in event.body.items() if name not in _ELSEWHERE},
    )


def checkpoint_view(
    entry: Entry, search: Search, form: Form, checkpoint: Checkpoint
) -> CheckpointView:
    """The checkpoint of a candidate."""
    body = checkpoint.body
    return CheckpointView(
        state=checkpoint.state,
        form=form,
        ordinal=entry.candidate.ordinal,
        digest=body.get("digest", entry.digest),
        files={
            name: FileView(sha256=sha256, size_bytes=size)
            for name, (sha256, size) in sorted(body.get("files", {}).items())
        },
        scores=score_views(scores_from_json(body.get("scores", {})), search.submission.directions),
        error=body.get("error", 0.0),
        reason=body.get("reason"),
    )


def method_view(declaration: MethodDeclaration) -> MethodView:
    """A merge method, from its declaration."""
    return MethodView(
        name=declaration.name,
        summary=declaration.summary,
        source=declaration.source,
        uses_base=declaration.uses_base,
        minimum_parents=declaration.minimum_parents,
        maximum_parents=declaration.maximum_parents,
        cost=declaration.cost,
        presets={name: dict(preset) for name, preset in declaration.presets.items()},
        parameters=[_parameter_view(parameter) for parameter in declaration.parameters],
    )


def _parameter_view(parameter: Parameter) -> ParameterView:
    searched, counted = parameter.kind == "float", parameter.kind in ("float", "integer")
    return ParameterView(
        name=parameter.name,
        description=parameter.description,
        kind=parameter.kind,
        per_parent=parameter.per_parent,
        per_block=parameter.per_block,
        default=parameter.default,
        low=finite(parameter.low) if searched else None,
        high=finite(parameter.high) if searched else None,
        minimum=finite(parameter.minimum) if counted else None,
        maximum=finite(parameter.maximum) if counted else None,
        log=parameter.log,
        choices=list(parameter.choices),
    )


def optimizer_view(optimizer: OptimizerClass) -> OptimizerView:
    """An optimizer, from its declaration."""
    return OptimizerView(
        name=optimizer.name,
        summary=optimizer.summary,
        source=optimizer.source,
        options=optimizer.options.model_json_schema(),
    )
