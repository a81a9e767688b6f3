"""What tests of the web application share: analytic searches in a log, files, a real socket."""

import dataclasses
import hashlib
import socket
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from api.app import create_app
from api.artifacts import Artifacts, artifact_digest
from api.rebuild import build_run
from api.server import Server
from api.settings import Settings
from api.store import Provenance, Store
from api.validation import Accepted
from search.layout import Layout
from search.outcome import Candidate, Infeasible, Scored
from search.spec import parse_spec
from tests.analytic import AnalyticFleet, declaration, scores, submission
from workers.messages import Export, Exported, Job, Report, Surveyed, Timings
from workers.planning.memory import Memory
from workers.planning.needs import needs
from workers.planning.preflight import Preflight

TOKEN = "a-token-of-thirty-two-characters"


def accept(document: object) -> Accepted:
    """Take the analytic spec with changes; models and tasks are not looked for."""
    spec = parse_spec(document)
    found = Preflight(Layout(tensors=()), "float32", 72, 864, 288, (), ())
    given = dataclasses.replace(submission(), spec=spec)
    asked = needs(
        found,
        memory=Memory(2**30),
        disk_free_bytes=2**30,
        examples=4,
        evaluations=spec.budget.evaluations,
    )
    return Accepted(given, found, genes=12, needs=asked)


def recorded(
    store: Store,
    outcomes: int = 9,
    *,
    of: int = 12,
    name: str = "analytic",
    facts: Mapping[str, Any] | None = None,
    minimized: Collection[str] = (),
    **changes: Any,
) -> str:
    """A search whose first candidates are recorded: base, two parents, average, then others.

    Objectives in ``minimized`` are of metrics of which less is better.
    """
    submitted = submission(evaluations=of, name=name, **changes)
    directions = {key: key not in minimized for key in submitted.directions}
    facts = {**submitted.facts, **(facts or {})}
    given = dataclasses.replace(submitted, facts=facts, directions=directions)
    search_id = store.create_search(given)
    store.record_survey(search_id, Surveyed({"base/model": "0" * 64}, None))
    search = store.search(search_id)
    run = build_run(search, declaration("linear"), None)
    proposed: list[Candidate] = []
    for ordinal in range(outcomes):
        while run.absorbed < run.needed(ordinal):
            run.absorb(store.outcomes(search_id, run.absorbed, run.absorbed + 1)[0])
        candidate = run.propose(ordinal, proposed[run.absorbed :])
        proposed.append(candidate)
        store.enqueue(search_id, candidate)
        record(store, search_id, candidate)
    return search_id


def record(store: Store, search_id: str, candidate: Candidate) -> None:
    timings = Timings(0.1, 0.2, 0.3)
    if candidate.ordinal == 5:
        failed = Infeasible(candidate, "the merge is not finite")
        store.record(search_id, failed, Provenance("w0"))
        return
    outcome = Scored(candidate, scores(candidate.recipe))
    store.record(search_id, outcome, Provenance("w0", timings))


FILES = {
    "model.safetensors": bytes(range(256)) * 40,
    "config.json": b"{}",
    "empty.txt": b"",
    "additional_chat_templates/tools.jinja": b"{{ messages }}",
}


def stored(store: Store, artifacts: Artifacts, search_id: str, ordinal: int = 3) -> str:
    """Put a checkpoint of a candidate where downloads find it; its path in the API."""
    entry = store.candidate(search_id, ordinal)
    assert entry is not None
    folder = artifacts.staging(artifact_digest(search_id, entry.digest))
    facts = write_files(folder)
    body = {
        "digest": entry.digest,
        "files": {name: list(values) for name, values in facts.items()},
        "scores": {"add/score": {"value": -0.25, "stderr": "nan", "count": 4}},
    }
    store.append(search_id, "checkpoint_requested", ordinal=ordinal)
    store.append(search_id, "checkpoint_stored", body, ordinal=ordinal)
    return f"/v1/searches/{search_id}/candidates/{ordinal}/checkpoint"


def write_files(folder: Path) -> dict[str, tuple[str, int]]:
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return {name: (hashlib.sha256(c).hexdigest(), len(c)) for name, c in FILES.items()}


class WritingFleet(AnalyticFleet):
    """Also writes what it exports, and reports what it wrote."""

    def __init__(self) -> None:
        super().__init__()
        self._exports: dict[str, str] = {}

    def submit(self, job: Job) -> None:
        if isinstance(job.work, Export):
            self._exports[job.id] = job.work.destination
        super().submit(job)

    def next_report(self, timeout_s: float) -> Report | None:
        report = super().next_report(timeout_s)
        if report is None or not isinstance(report.result, Exported):
            return report
        files = write_files(Path(self._exports[report.job]))
        return dataclasses.replace(report, result=Exported(files, report.result.scores))


@contextmanager
def served(settings: Settings, store: Store, **options: Any) -> Iterator[tuple[str, Server]]:
    """A server on a free port, in a thread; yields its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = create_app(settings, store, **{"check": accept, "poll_s": 0.02, **options})
    server = Server(app, settings, threading.Event())
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", server
    finally:
        server.should_exit = True
        thread.join()


def problem_of(response: Any) -> dict[str, Any]:
    """The problem document of a response, checked for its form."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert set(body) == {"type", "title", "status", "detail", "errors"}
    assert body["status"] == response.status_code
    assert "Traceback" not in response.text
    assert all(set(error) == {"field", "message"} for error in body["errors"])
    return dict(body)
