"""One search as its controller sees it: what the log says, and which job follows from that."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, assert_never

from api.cache import Cache, score_key
from api.continuing import kept
from api.progress import Progress
from api.rebuild import build_run, chosen_optimizer, suite
from api.schemas import OVER
from api.selection import Selection
from api.store import Known, PhaseKind, Provenance, Search, Store, scores_to_json
from evals.suite import Split, Suite
from search.method import MethodDeclaration, one_of
from search.outcome import (
    KEPT,
    Candidate,
    Confirmation,
    HeldOut,
    Infeasible,
    Scored,
    Scores,
    Unconfirmed,
)
from search.problems import Invalid, Problem
from search.racing import Race
from search.registry import UnknownName
from search.run import SearchRun
from workers.messages import (
    Confirm,
    Confirmed,
    Evaluate,
    Evaluated,
    Export,
    Exported,
    Form,
    Job,
    Rejected,
    Report,
    Survey,
    Surveyed,
)

log = logging.getLogger(__name__)

_PAGE = 1000
# So many known scores are recorded before other searches have their turn.
_KNOWN_AT_ONCE = 100


class Overtaken(RuntimeError):
    """Someone else committed a candidate of this search: read the log before going on."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """A job and what it is for; a survey is for no candidate.

    ``content`` is what its scores depend on (`Cache.content`).
    """

    job: Job
    search_id: str
    candidate: Candidate | None
    content: str = ""


class Attended:
    """A search that this controller holds the lease of.

    The log is read, never a report: after a crash the same lines run, only over more events.

    Args:
        store: the log.
        search: which.
        declaration: merge method by name; UnknownName when there is none.
        destination: search id, recipe digest, form -> folder that is written to. A recipe
            alone is not enough: two searches may call different models by one name.
    """

    def __init__(
        self,
        store: Store,
        search: Search,
        *,
        declaration: Callable[[str], MethodDeclaration],
        destination: Callable[[str, str, Form], str],
    ) -> None:
        self.search = search
        self.progress = Progress(search.spec)
        self._selection = Selection(search.spec, search.submission.directions)
        self._store = store
        self._declaration = declaration
        self._destination = destination
        self._cache = Cache(store, search)
        self._measured_by: dict[str, str] = {}
        self._twins: list[Assignment] = []
        self._run: SearchRun | None = None
        self.catch_up()
        self._proposed = store.proposed(search.id)
        self._unanswered = deque(self._pending())
        self._window: deque[Candidate] = deque()

    @property
    def settled(self) -> bool:
        """Whether nothing is to be done until something new is in the log."""
        over = self.progress.state in OVER
        return over and next(self._requested(), None) is None

    def catch_up(self) -> None:
        """Read what is new in the log; when that completes a phase of the search, say so."""
        while True:
            full = True
            while full:
                page = self._store.events(self.search.id, after=self.progress.seq, limit=_PAGE)
                self.progress.feed(page)
                self._selection.feed(page)
                full = len(page) == _PAGE
            phase = self._next_phase()
            if phase is None:
                return
            # Written only if nothing came in between, such as an extension.
            self._store.append(self.search.id, *phase, after=self.progress.seq)

    def next_job(self, busy: Callable[[str], bool]) -> Assignment | None:
        """The next job, its candidate committed; None while there is nothing to start.

        Args:
            busy: whether a job with this id is under way.

        Raises:
            Overtaken: the candidate was committed by someone else.
            Invalid: the search cannot go on.
        """
        for ordinal, form in self._requested():
            job_id = self._job_id("checkpoint", ordinal, form)
            if not busy(job_id):
                return self._export(job_id, ordinal, form)
        if self.progress.state == "surveying" and not busy(self._job_id("survey")):
            return self._survey()
        if self.progress.state == "running":
            return self._evaluation(busy)
        return self._confirmation(busy)

    def fail(self, problems: Sequence[Problem]) -> None:
        """End the search for a reason that its user can read."""
        fail(self._store, self.search.id, problems)
        self.catch_up()

    def _next_phase(self) -> tuple[PhaseKind, dict[str, Any]] | None:
        """What follows from a log in which this phase has all that it waits for."""
        progress, selection, search_id = self.progress, self._selection, self.search.id
        match progress.state:
            case "running" if progress.exhausted:
                size = progress.evaluations, progress.examples_to_select
                scores = self._search_scores(selection.shortlist(*size))
                return "selecting", selection.open(scores, *size)
            case "selecting" if not progress.unconfirmed:
                following = selection.go_on(progress.examples_to_select)
                if following is not None:
                    return "selecting", following
                return "reporting", selection.name_winner()
            case "reporting" if not progress.unconfirmed:
                _, wanted = progress.confirming
                scores = {n: self._store.confirmed(search_id, n, Split.REPORT) for n in wanted}
                return "finished", selection.compare(scores)
        return None

    def _search_scores(self, ordinals: Sequence[int]) -> dict[int, Scores]:
        """With all examples, in the order of the ordinals as given."""
        return {
            ordinal: outcome.scores
            for ordinal in ordinals
            for outcome in self._store.outcomes(self.search.id, ordinal, ordinal + 1)
            if isinstance(outcome, Scored)
        }

    def _confirmation(self, busy: Callable[[str], bool]) -> Assignment | None:
        """Another look at a finalist or a baseline, in the phases that follow the search."""
        if self.progress.state not in ("selecting", "reporting"):
            return None
        split, wanted = self.progress.confirming
        for ordinal in self.progress.unconfirmed:
            rungs = wanted[ordinal]
            job_id = self._job_id(split, *rungs[-1:], ordinal)
            if busy(job_id):
                continue
            candidate = self._candidate(ordinal)
            work = Confirm(candidate.recipe, self._suite(split), rungs)
            content = self._cache.content(work)
            known = self._cache.find(content)
            if known is None:
                return self._assign(job_id, work, candidate, content)
            if known.reason is None:
                scores = self._store.confirmed(known.search_id, known.ordinal, split, known.first)
                found: Confirmation = HeldOut(candidate, split, scores, known.first)
            else:
                found = Unconfirmed(candidate, split, known.reason, known.first)
            self._store.record_confirmation(self.search.id, found, known.provenance)
            self.catch_up()
        return None

    def _evaluation(self, busy: Callable[[str], bool]) -> Assignment | None:
        """The next candidate that has to be measured; known outcomes are recorded on the way."""
        for _ in range(_KNOWN_AT_ONCE):
            assignment = self._next_evaluation(busy)
            if assignment is None:
                return None
            known = self._known(assignment)
            if known is None:
                self._measured_by[assignment.content] = assignment.job.id
                return assignment
            (outcome,) = self._store.outcomes(known.search_id, known.ordinal, known.ordinal + 1)
            if assignment.candidate is not None:
                outcome = replace(outcome, candidate=assignment.candidate)
                self._store.record(self.search.id, outcome, known.provenance)
                self.catch_up()
        return None

    def _known(self, assignment: Assignment) -> Known | None:
        """Who has measured a candidate before."""
        work, candidate = assignment.job.work, assignment.candidate
        if isinstance(work, Evaluate) and candidate is not None and candidate.origin.move == KEPT:
            return self._cache.kept(candidate.origin, work)
        return self._cache.find(assignment.content)

    def _next_evaluation(self, busy: Callable[[str], bool]) -> Assignment | None:
        """One that nobody is measuring; twins of what is under way wait, as they were proposed."""
        if self.progress.state != "running":
            return None
        for twin in self._twins:
            if not busy(self._measured_by[twin.content]):
                self._twins.remove(twin)
                return twin
        while (candidate := self._next_candidate(busy)) is not None:
            work = self._evaluate(candidate)
            content = self._cache.content(work)
            job_id = self._job_id("evaluate", candidate.ordinal)
            assignment = self._assign(job_id, work, candidate, content)
            if not content or not busy(self._measured_by.get(content, "")):
                return assignment
            self._twins.append(assignment)
        return None

    def _next_candidate(self, busy: Callable[[str], bool]) -> Candidate | None:
        """One that a controller before us committed, or a new one."""
        while self._unanswered:
            candidate = self._unanswered.popleft()
            known = self.progress.recorded(candidate.ordinal)
            if not known and not busy(self._job_id("evaluate", candidate.ordinal)):
                return candidate
        return self._new_candidate()

    def _new_candidate(self) -> Candidate | None:
        """Absorb as much as the next candidate follows from, propose it, commit it."""
        ordinal = self._proposed
        if ordinal >= self.progress.evaluations:
            return None
        run = self._run = self._run or self._build()
        if self.progress.complete < run.needed(ordinal):
            return None
        self._absorb(run, ordinal)
        with _blaming_the_optimizer(self.search):
            reason = run.stops(ordinal, since=self.progress.stopped_at)
        if reason is not None:
            self._stop(ordinal, reason)
            return None
        with _blaming_the_optimizer(self.search):
            candidate = run.propose(ordinal, self._between(run.absorbed, ordinal))
        if not self._store.enqueue(self.search.id, candidate):
            raise Overtaken(f"candidate {ordinal} of {self.search.id} was committed by another")
        self._window.append(candidate)
        self._proposed += 1
        return candidate

    def _stop(self, ordinal: int, reason: str) -> None:
        """End the evaluations before this one; unless an extension or another command came in."""
        body = {"evaluations": ordinal, "reason": reason}
        self._store.append(self.search.id, "stopped", body, after=self.progress.seq)
        self.catch_up()

    def _between(self, start: int, stop: int) -> list[Candidate]:
        """Candidates that were proposed and not absorbed; after a restart they are in the log."""
        while self._window and self._window[0].ordinal < start:
            self._window.popleft()
        if len(self._window) < stop - start:
            entries = self._store.candidates(self.search.id, after=start - 1, limit=stop - start)
            self._window = deque(entry.candidate for entry in entries)
        return list(self._window)

    def _absorb(self, run: SearchRun, ordinal: int) -> None:
        """Exactly as much as the candidate at an ordinal follows from."""
        while run.absorbed < run.needed(ordinal):
            stop = min(run.needed(ordinal), run.absorbed + _PAGE)
            outcomes = self._store.outcomes(self.search.id, run.absorbed, stop)
            with _blaming_the_optimizer(self.search):
                for outcome in outcomes:
                    run.absorb(outcome)

    def _build(self) -> SearchRun:
        try:
            declaration = one_of(list(map(self._declaration, self.search.spec.method_names)))
        except UnknownName as error:
            raise Invalid([Problem(field="method", message=str(error))]) from None
        geometry = self._store.geometry(self.search.id)
        continues = self.search.spec.continues
        found = [] if continues is None else kept(self._store, continues)
        with _blaming_the_optimizer(self.search):
            return build_run(self.search, declaration, geometry, found)

    def _pending(self) -> Iterator[Candidate]:
        """Candidates that a controller before us committed, and nobody has answered yet.

        What another commits while we read is not ours: we find it out when we propose it too.
        """
        after = self.progress.complete - 1
        while page := self._store.candidates(
            self.search.id, after=after, limit=_PAGE, pending=True
        ):
            for entry in page:
                after = entry.candidate.ordinal
                if after >= self._proposed:
                    return
                yield entry.candidate

    def _requested(self) -> Iterator[tuple[int, Form]]:
        for which, checkpoint in self.progress.checkpoints.items():
            if checkpoint.state == "requested":
                yield which

    def _survey(self) -> Assignment:
        spec = self.search.spec
        needs_geometry = chosen_optimizer(spec).needs_geometry or spec.space.needs_geometry
        work = Survey(needs_geometry, self._suite(Split.SEARCH), self._cache.pacing())
        return self._assign(self._job_id("survey"), work, None)

    def _evaluate(self, candidate: Candidate) -> Evaluate:
        return Evaluate(
            candidate.recipe,
            self._suite(Split.SEARCH),
            gated=not candidate.origin.is_baseline,
            race=self._race(candidate.ordinal),
        )

    def _race(self, ordinal: int) -> Race | None:
        """Against whom a candidate runs: what was known when it was proposed, and no more.

        Candidates are assigned in ordinal order, those that were pending at a restart first: so
        each finds the run where it was, and gets the very same race.
        """
        if not self.search.spec.racing:
            return None
        run = self._run = self._run or self._build()
        self._absorb(run, ordinal)
        return run.race(ordinal)

    def _export(self, job_id: str, ordinal: int, form: Form) -> Assignment:
        candidate = self._candidate(ordinal)
        work = Export(
            candidate.recipe,
            self._suite(Split.REPORT),
            self._destination(self.search.id, candidate.recipe.digest, form),
            card={
                "search": self.search.spec.name,
                "search id": self.search.id,
                "seed of the search": self.search.spec.seed,
                "candidate": ordinal,
                "genes": self.search.submission.facts.get("genes", "unknown"),
                "sha256": self._store.hashes(self.search.id),
                **self.search.spec.evaluation.model_dump(exclude_defaults=True),
            },
            form=form,
            baselines=tuple(self._baselines(ordinal)),
        )
        return self._assign(job_id, work, candidate)

    def _baselines(self, ordinal: int) -> Iterator[tuple[str, Scores]]:
        """Report scores of base, parents and average, where they were measured."""
        for name, other in self._selection.baselines.items():
            if other != ordinal and other in self._selection.reported:
                yield name, self._store.confirmed(self.search.id, other, Split.REPORT)

    def _candidate(self, ordinal: int) -> Candidate:
        entry = self._store.candidate(self.search.id, ordinal)
        if entry is None:
            raise LookupError(f"{self.search.id} has no candidate {ordinal}")
        return entry.candidate

    def _suite(self, split: Split) -> Suite:
        return suite(self.search, split, self.progress.draws, self.progress.pacing)

    def _assign(
        self,
        job_id: str,
        work: Evaluate | Confirm | Survey | Export,
        candidate: Candidate | None,
        content: str = "",
    ) -> Assignment:
        job = Job(job_id, self.search.submission.zoo, work)
        return Assignment(job, self.search.id, candidate, content)

    def _job_id(self, kind: str, *which: int | Form) -> str:
        return "/".join([self.search.id, kind, *map(str, which)])


def fail(store: Store, search_id: str, problems: Sequence[Problem]) -> None:
    """Write that a search cannot go on, and why."""
    body = {"problems": [problem.model_dump() for problem in problems]}
    log.error("search failed: %s", body, extra={"event": "search_failed", "search": search_id})
    store.append(search_id, "failed", body)


def write(store: Store, assignment: Assignment, report: Report) -> None:
    """Put what came of a job into the log; the second report of a job changes nothing.

    A candidate that was rejected is infeasible; but where the models themselves are at fault the
    search has failed.
    """
    search_id, candidate = assignment.search_id, assignment.candidate
    match report.result:
        case Surveyed() as surveyed:
            store.record_survey(search_id, surveyed)
        case Evaluated(scores, left_early=left_early) as result if candidate is not None:
            outcome = Scored(candidate, scores, left_early)
            store.record(search_id, outcome, _measured(assignment, result, report.worker))
        case Confirmed(scores) as result if candidate is not None:
            held_out = HeldOut(candidate, _split(assignment), scores, _first(assignment))
            provenance = _measured(assignment, result, report.worker)
            store.record_confirmation(search_id, held_out, provenance)
        case Exported(files, scores, error) if candidate is not None:
            body = {
                "digest": candidate.recipe.digest,
                "files": {name: list(facts) for name, facts in files.items()},
                "scores": scores_to_json(scores),
                "error": error,
                "form": _form(assignment),
            }
            store.append(search_id, "checkpoint_stored", body, ordinal=candidate.ordinal)
        case Rejected() as rejected:
            _reject(store, assignment, rejected, worker=report.worker)
        case _:
            raise TypeError(f"{type(report.result).__name__} is no answer to {assignment.job.id}")


def _form(assignment: Assignment) -> dict[str, Any]:
    work = assignment.job.work
    if not isinstance(work, Export):
        raise TypeError(f"{assignment.job.id} writes no checkpoint")
    return work.form.model_dump()


def _reject(store: Store, assignment: Assignment, rejected: Rejected, *, worker: str) -> None:
    search_id, candidate = assignment.search_id, assignment.candidate
    problems = [Problem(field=field, message=message) for field, message in rejected.problems]
    match assignment.job.work:
        case Survey():
            fail(store, search_id, problems or [Problem(field="models", message=rejected.reason)])
        case Evaluate():
            if problems:
                fail(store, search_id, problems)
            elif candidate is not None:
                outcome = Infeasible(candidate, rejected.reason)
                store.record(search_id, outcome, _measured(assignment, rejected, worker))
        case Confirm():
            if problems:
                fail(store, search_id, problems)
            elif candidate is not None:
                split, first = _split(assignment), _first(assignment)
                nothing = Unconfirmed(candidate, split, rejected.reason, first)
                store.record_confirmation(
                    search_id, nothing, _measured(assignment, rejected, worker)
                )
        case Export():
            ordinal = None if candidate is None else candidate.ordinal
            body = {"reason": rejected.reason, "form": _form(assignment)}
            store.append(search_id, "checkpoint_failed", body, ordinal=ordinal)
        case _ as never:
            assert_never(never)


def _measured(
    assignment: Assignment, result: Evaluated | Confirmed | Rejected, worker: str
) -> Provenance:
    """Of what a worker reports; what says which engine it is of can be used again."""
    engine, content = result.fingerprint, assignment.content
    key = score_key(content, engine) if content and engine else None
    timings = None if isinstance(result, Rejected) else result.timings
    return Provenance(worker, timings, engine, key)


def _split(assignment: Assignment) -> Split:
    """Of a job that scores; what it has scored says so as well, and they must agree."""
    work = assignment.job.work
    if isinstance(work, Survey) or work.suite.split is None:
        raise TypeError(f"{assignment.job.id} scores no split")
    return work.suite.split


def _first(assignment: Assignment) -> int | None:
    """Of how many first examples a second look is; None of all."""
    work = assignment.job.work
    return work.rungs[-1] if isinstance(work, Confirm) and work.rungs else None


@contextmanager
def _blaming_the_optimizer(search: Search) -> Iterator[None]:
    """Turn whatever an optimizer raises into the failure of its search, and of nothing else."""
    try:
        yield
    except Invalid:
        raise
    except Exception as error:  # a plug-in may raise anything; others go on
        name = search.spec.optimizer.name
        log.exception("optimizer failed", extra={"event": "optimizer_failed", "search": search.id})
        message = f"'{name}' stopped with {type(error).__name__}: {error}"
        raise Invalid([Problem(field="optimizer", message=message)]) from error
