"""How the command line shows things: tables for people, JSON for programs, one line per problem."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from pydantic import BaseModel
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from api.client import Client
from api.schemas import (
    OVER,
    CandidateView,
    EventView,
    GainView,
    ObjectiveView,
    ResultView,
    ScoreView,
    SearchDetail,
    SearchView,
)
from search.problems import Problem

# A pipe or file has no width: nothing that a program may want is cut off there.
_PIPE_WIDTH = 200
out = Console(highlight=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)
err = Console(stderr=True, highlight=False)

_REFRESH_S = 1.0
_PLAIN_LINE_S = 5.0


def print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    """One JSON document on standard output."""
    if isinstance(value, BaseModel):
        text = value.model_dump_json(indent=2)
    else:
        text = json.dumps([item.model_dump(mode="json") for item in value], indent=2)
    out.out(text)


def print_problems(problems: Iterable[Problem]) -> None:
    """One line each."""
    for problem in problems:
        err.out(f"{problem.field}: {problem.message}")


def print_notes(notes: Iterable[Problem]) -> None:
    """One line each, for what is worth knowing but stops nothing."""
    print_problems(n.model_copy(update={"field": f"note: {n.field}"}) for n in notes)


def score_text(score: ScoreView | None) -> str:
    """A value with its standard error."""
    if score is None or score.value is None:
        return "-"
    return f"{score.value:.4f}" + ("" if score.stderr is None else f" ±{score.stderr:.4f}")


def objective_title(objective: ObjectiveView) -> str:
    """What heads a column of scores: the objective, its direction, and what it must hold."""
    remarks = [] if objective.higher_is_better else ["lower is better"]
    if objective.at_least is not None:
        remarks.append(f"at least {objective.at_least:.4g}")
    if objective.at_most is not None:
        remarks.append(f"at most {objective.at_most:.4g}")
    return objective.key + (f" ({', '.join(remarks)})" if remarks else "")


def candidate_table(
    objectives: Sequence[ObjectiveView], candidates: Iterable[CandidateView], title: str = ""
) -> Table:
    """Candidates and their scores, a row each; behind a score that violates its bound stands !."""
    table = Table("candidate", "from", title=title or None, title_justify="left")
    for objective in objectives:
        table.add_column(objective_title(objective), justify="right")
    for candidate in candidates:
        scores = [
            score_text(candidate.scores.get(o.key)) + (" !" if o.key in candidate.violates else "")
            for o in objectives
        ]
        if candidate.state == "infeasible":
            scores = [Text(candidate.reason or "infeasible").plain, *[""] * (len(objectives) - 1)]
        # Names come from users: never as markup.
        cells = (str(candidate.ordinal), _origin(candidate) + _left(candidate), *scores)
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _origin(candidate: CandidateView) -> str:
    if candidate.label.startswith("#"):
        return candidate.origin.move
    return candidate.label


def _left(candidate: CandidateView) -> str:
    """After how many examples it was behind, where it was."""
    if not candidate.left_early:
        return ""
    return f", left at {max(score.count for score in candidate.scores.values())} examples"


def front_table(search: SearchDetail, front: Sequence[CandidateView]) -> RenderableType:
    """The front beside base, parents and average."""
    on_front = candidate_table(search.objectives, front, "Front, on the search split")
    baselines = candidate_table(
        search.objectives, search.baselines, "Baselines, on the search split"
    )
    return Group(on_front, baselines)


def result_table(search: SearchDetail, result: ResultView) -> RenderableType:
    """What the winner scores on the report split, and how far it is ahead of what there was."""
    title = f"{result.winner.label} on the report split, 95 % intervals"
    table = Table("", title=title, title_justify="left")
    table.add_column("overall", justify="right")
    for objective in search.objectives:
        table.add_column(objective_title(objective), justify="right")
    scores = [_with_interval(result.winner.reported.get(o.key)) for o in search.objectives]
    table.add_row(*map(Text, (result.winner.label, "", *scores)))
    for other in result.comparisons:
        name = f"ahead of {other.name}" + (" (best parent)" if other.is_best_parent else "")
        gains = [_with_interval(other.gains.get(o.key), sign="+") for o in search.objectives]
        table.add_row(*map(Text, (name, _with_interval(other.overall, sign="+"), *gains)))
    return table


def _with_interval(score: ScoreView | GainView | None, sign: str = "") -> str:
    if score is None or score.value is None:
        return "-"
    text = f"{score.value:{sign}.4f}"
    if score.low is None or score.high is None:
        return text
    return f"{text} [{score.low:{sign}.3f}, {score.high:{sign}.3f}]"


def search_table(searches: Iterable[SearchView]) -> Table:
    """Searches, a row each."""
    table = Table(
        Column("id", no_wrap=True, min_width=32),
        "name",
        "state",
        "evaluations",
        "front",
        "hypervolume",
        "optimizer",
    )
    for search in searches:
        done = search.progress.scored + search.progress.infeasible
        volume = "-" if search.hypervolume is None else f"{search.hypervolume:.4g}"
        cells = (
            search.id,
            search.name,
            search.state,
            f"{done}/{search.progress.evaluations}",
            str(search.front_size),
            volume,
            search.optimizer,
        )
        table.add_row(*(Text(cell) for cell in cells))
    return table


def progress_text(search: SearchView) -> str:
    """How a search is doing, in one line."""
    progress = search.progress
    parts = [search.state, f"{progress.scored + progress.infeasible}/{progress.evaluations}"]
    if progress.infeasible:
        parts.append(f"{progress.infeasible} infeasible")
    if progress.unconfirmed:
        parts.append(f"{progress.unconfirmed} to score again")
    if search.best is not None:
        known = search.best.reported or search.best.scores
        scores = " ".join(
            "-" if score is None or score.value is None else f"{score.value:.3f}"
            for score in (known.get(o.key) for o in search.objectives)
        )
        split = "report" if search.best.reported else "search"
        parts.append(f"best {search.best.label} ({split}): {scores}")
    if search.hypervolume is not None:
        parts.append(f"hypervolume {search.hypervolume:.4g}")
    if progress.seconds_left:
        parts.append(f"{duration(progress.seconds_left)} left")
    if search.stopped is not None:
        parts.append(f"stopped early: {search.stopped}")
    return " | ".join(parts)


def size_text(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def follow(client: Client, search_id: str) -> SearchDetail:
    """Show a search until it is over: one live line on a terminal, else a line now and then."""
    if out.is_terminal:
        with Live(console=out, refresh_per_second=4) as live:
            return _refresh(client, search_id, lambda search: live.update(_bar(search)))
    return _refresh(client, search_id, _sparse_lines())


def _refresh(client: Client, search_id: str, show: Callable[[SearchDetail], None]) -> SearchDetail:
    search = client.search(search_id)
    show(search)
    for _ in _at_most_every(_REFRESH_S, client.watch(search_id, after=search.seq)):
        search = client.search(search_id)
        show(search)
    search = client.search(search_id)
    show(search)
    return search


def _at_most_every(seconds: float, events: Iterator[EventView]) -> Iterator[EventView]:
    shown = 0.0
    for event in events:
        if time.monotonic() - shown >= seconds:
            shown = time.monotonic()
            yield event


def _bar(search: SearchDetail) -> RenderableType:
    progress = search.progress
    done = progress.scored + progress.infeasible
    bar = ProgressBar(total=progress.evaluations, completed=done, width=24)
    line = Table.grid(padding=(0, 1))
    line.add_row(bar, Text(progress_text(search), overflow="ellipsis", no_wrap=True))
    return line


def _sparse_lines() -> Callable[[SearchDetail], None]:
    printed, last = float("-inf"), ""

    def show(search: SearchDetail) -> None:
        nonlocal printed, last
        over = search.state in OVER
        line = progress_text(search)
        if line != last and (over or time.monotonic() - printed >= _PLAIN_LINE_S):
            printed, last = time.monotonic(), line
            out.out(line)

    return show
