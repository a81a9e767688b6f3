"""Searches that begin with the evaluations of an earlier one, in whatever space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from api.store import Search, Store, Submission, UnknownSearch
from search.problems import Invalid, Problem
from search.run import Kept
from search.spec import Continued, SearchSpec

_PAGE = 500


def unknown(document: object, store: Store) -> Iterator[Problem]:
    """The problem of a document that continues a search which does not exist."""
    continues = document.get("continues") if isinstance(document, dict) else None
    named = continues.get("search") if isinstance(continues, dict) else continues
    if isinstance(named, str):
        try:
            store.search(named)
        except UnknownSearch as error:
            yield Problem(field="continues", message=str(error))


def pinned(submission: Submission, earlier: Search, measured: int) -> Submission:
    """The submission with a number of evaluations to keep where its spec leaves that open.

    Args:
        submission: whose spec continues another search.
        earlier: that search.
        measured: how many of its evaluations have outcomes, from the first one on.

    Raises:
        Invalid: its outcomes tell nothing about this search, or leave nothing of its budget.
    """
    spec = submission.spec
    wanted = None if spec.continues is None else spec.continues.evaluations
    kept = measured if wanted is None else wanted
    problems = [*_differences(submission, earlier.submission)]
    if kept > measured:
        message = f"is {kept}, but the search has {measured} with an outcome"
        problems.append(Problem(field="continues.evaluations", message=message))
    elif kept == 0:
        problems.append(Problem(field="continues", message="has no evaluation with an outcome yet"))
    if kept >= spec.budget.evaluations:
        message = (
            f"is {spec.budget.evaluations}, but the search begins with {kept} evaluations that it "
            "keeps, and the budget counts them"
        )
        problems.append(Problem(field="budget.evaluations", message=message))
    if problems:
        raise Invalid(problems)
    continues = Continued(search=earlier.id, evaluations=kept)
    return replace(submission, spec=spec.model_copy(update={"continues": continues}))


def _differences(ours: Submission, theirs: Submission) -> Iterator[Problem]:
    """Why the outcomes of another search cannot be those of this one."""

    def asked(spec: SearchSpec) -> object:
        return [objective.key for objective in spec.objectives], spec.evaluation, spec.base

    missing = {p.name for p in theirs.spec.parents} - {p.name for p in ours.spec.parents}
    if missing:
        names = ", ".join(sorted(missing))
        message = f"merges {names} as well; name all of its parents, and more if you like"
        yield Problem(field="continues", message=message)
    if asked(ours.spec) != asked(theirs.spec) or ours.layout != theirs.layout:
        message = (
            "has another base, other objectives (or in another order) or another evaluation; its "
            "scores say nothing here"
        )
        yield Problem(field="continues", message=message)


def kept(store: Store, continued: Continued) -> list[Kept]:
    """What a search keeps of the one that it continues, in the order of its ordinals.

    Raises:
        Invalid: how much it keeps was never settled.
    """
    if continued.evaluations is None:
        message = "is not known; submit the spec to the service, which looks it up"
        raise Invalid([Problem(field="continues.evaluations", message=message)])
    found: list[Kept] = []
    while len(found) < continued.evaluations:
        limit = min(_PAGE, continued.evaluations - len(found))
        page = store.candidates(continued.search, after=len(found) - 1, limit=limit)
        if not page:
            break
        found += [Kept(continued.search, e.candidate.ordinal, e.candidate.recipe) for e in page]
    return found
