"""The Python client and the command line, against a live server with a controller."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from api import cli
from api.artifacts import Artifacts, artifact_digest
from api.client import Client, Damaged, ServerProblem, Unreachable
from api.controller import Controller
from api.settings import Settings
from api.store import Store
from tests.analytic import declaration
from tests.serving import FILES, TOKEN, WritingFleet, recorded, served, stored

WEIGHTS = "model.safetensors"


@pytest.fixture
def url(settings: Settings, store: Store, artifacts: Artifacts) -> Iterator[str]:
    """A service with a controller, over analytic models."""
    stop = threading.Event()
    fleet = WritingFleet()
    controller = Controller(
        store,
        fleet,
        declaration=declaration,
        destination=lambda *which: str(artifacts.staging(artifact_digest(*which))),
        poll_s=0.01,
    )
    thread = threading.Thread(target=controller.run, args=(stop,))
    with served(settings, store, artifacts=artifacts) as (address, _):
        thread.start()
        yield address
        stop.set()
        thread.join()


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as opened:
        yield opened


@pytest.fixture
def spec(document: dict[str, Any], tmp_path: Path) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_search_from_submission_to_checkpoint(
    client: Client, document: dict[str, Any], tmp_path: Path
) -> None:
    search = client.submit(document, key="k")
    assert client.submit(yaml.safe_dump(document), key="k").id == search.id
    seqs, states = [], set()
    for event in client.watch(search.id):
        seqs.append(event.seq)
        states.add(event.state)
    assert seqs == list(range(1, len(seqs) + 1))
    assert states == {"running", "selecting", "reporting", "finished"}
    assert client.search(search.id).state == "finished"
    assert [s.id for s in client.searches()] == [search.id]
    assert [c.ordinal for c in client.candidates(search.id)] == list(range(12))
    best = client.best(search.id)
    result = client.search(search.id).result
    assert result is not None
    assert best == result.winner
    assert best.reported.keys() == best.selected.keys() == best.scores.keys()
    assert best.ordinal in [
        c.ordinal for c in (*result.finalists, *client.search(search.id).baselines)
    ]
    assert client.candidate(search.id, best.ordinal).recipe.method == "linear"


def test_watching_what_is_over_ends_at_once(client: Client, document: dict[str, Any]) -> None:
    search = client.submit(document)
    whole = [event.seq for event in client.watch(search.id)]
    assert [event.seq for event in client.watch(search.id)] == whole
    assert [event.seq for event in client.watch(search.id, after=whole[-1])] == []


def test_watching_goes_on_over_an_extension(client: Client, document: dict[str, Any]) -> None:
    search = client.submit(document)
    list(client.watch(search.id))
    client.command(search.id, "extend", evaluations=3)
    kinds = [event.kind for event in client.watch(search.id)]
    assert kinds.count("finished") == 2
    assert kinds.count("scored") + kinds.count("infeasible") == 15


def test_a_watcher_survives_a_restart_of_the_server(settings: Settings, store: Store) -> None:
    search_id = recorded(store, 6)
    seen: list[int] = []
    with served(settings, store) as (address, server):
        port = int(address.rsplit(":", 1)[1])
        watcher = Client(address, patience_s=20)
        events = watcher.watch(search_id)
        seen += [next(events).seq for _ in range(4)]
        server.should_exit = True
    again = Settings(home=settings.home, port=port)
    store.append(search_id, "cancel")
    with _on_port(again, store):
        seen += [event.seq for event in events]
    watcher.close()
    assert seen == list(range(1, 9))


@contextmanager
def _on_port(settings: Settings, store: Store) -> Iterator[None]:
    """A server on the port of the settings."""
    from api.app import create_app
    from api.server import Server

    server = Server(create_app(settings, store, poll_s=0.02), settings, threading.Event())
    thread = threading.Thread(target=server.run)
    thread.start()
    yield
    server.should_exit = True
    thread.join()


def download(url: str, path: str, folder: Path, **options: Any) -> list[Path]:
    _, _, _, search_id, _, ordinal, _ = path.split("/")
    with Client(url, **options) as client:
        return client.download(search_id, int(ordinal), folder)


def test_a_download_is_whole_and_checked(
    settings: Settings, store: Store, artifacts: Artifacts, tmp_path: Path
) -> None:
    path = stored(store, artifacts, recorded(store, 6))
    with served(settings, store, artifacts=artifacts) as (url, _):
        paths = download(url, path, tmp_path / "out")
        out = tmp_path / "out"
        assert {str(p.relative_to(out)): p.read_bytes() for p in paths} == FILES
        before = {p: p.stat().st_mtime_ns for p in paths}
        assert {p: p.stat().st_mtime_ns for p in download(url, path, tmp_path / "out")} == before
    assert not list((tmp_path / "out").glob("*.partial"))


@pytest.mark.parametrize("have", [0, 1, 5000, len(FILES[WEIGHTS])])
def test_a_broken_download_is_resumed(
    settings: Settings, store: Store, artifacts: Artifacts, tmp_path: Path, have: int
) -> None:
    path = stored(store, artifacts, recorded(store, 6))
    partial = tmp_path / "out" / f"{WEIGHTS}.partial"
    partial.parent.mkdir()
    partial.write_bytes(FILES[WEIGHTS][:have])
    received: list[int] = []
    with served(settings, store, artifacts=artifacts) as (url, _), Client(url) as client:
        _, _, _, search_id, _, ordinal, _ = path.split("/")
        client.download(
            search_id,
            int(ordinal),
            tmp_path / "out",
            told=lambda name, count: received.append(count) if name == WEIGHTS else None,
        )
    assert sum(received) == len(FILES[WEIGHTS]) - have
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_a_wrong_beginning_is_thrown_away(
    settings: Settings, store: Store, artifacts: Artifacts, tmp_path: Path
) -> None:
    path = stored(store, artifacts, recorded(store, 6))
    partial = tmp_path / "out" / f"{WEIGHTS}.partial"
    partial.parent.mkdir()
    partial.write_bytes(b"?" * 100)
    with served(settings, store, artifacts=artifacts) as (url, _):
        download(url, path, tmp_path / "out")
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_a_file_that_is_not_what_was_promised_is_not_kept(
    settings: Settings, store: Store, artifacts: Artifacts, tmp_path: Path
) -> None:
    path = stored(store, artifacts, recorded(store, 6))
    search_id = path.split("/")[3]
    entry = store.candidate(search_id, 3)
    assert entry is not None
    weights = artifacts.staging(artifact_digest(search_id, entry.digest)) / WEIGHTS
    weights.write_bytes(b"?" * len(FILES[WEIGHTS]))
    with served(settings, store, artifacts=artifacts) as (url, _), pytest.raises(Damaged):
        download(url, path, tmp_path / "out")
    assert not list((tmp_path / "out").glob(f"{WEIGHTS}*"))


def test_no_server_is_said_plainly(tmp_path: Path) -> None:
    with Client("http://127.0.0.1:9", timeout_s=2) as client:
        with pytest.raises(Unreachable, match="no nichemerge server answers"):
            client.search("x")
        assert not client.ready()


def test_a_problem_of_the_server_keeps_its_fields(client: Client, document: Any) -> None:
    with pytest.raises(ServerProblem) as caught:
        client.submit({**document, "seed": -1})
    assert caught.value.problem.errors[0].field == "seed"
    with pytest.raises(ServerProblem, match="There is no search 'x'"):
        client.search("x")


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in this process; its exit code, output and complaints."""
    monkeypatch.delenv("NICHEMERGE_URL", raising=False)
    monkeypatch.delenv("NICHEMERGE_API_TOKEN", raising=False)

    def run_command(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        text = capfd.readouterr()
        code = left.value.code
        return (code if isinstance(code, int) else 0), text.out, text.err

    return run_command


def test_the_commands_of_a_search(run: Run, url: str, spec: Path, tmp_path: Path) -> None:
    server = ("--server", url)
    code, out, _ = run("validate", spec, *server)
    assert code == 0
    assert "12 searched coefficients" in out
    code, out, err = run("submit", spec, *server)
    search = out.strip()
    assert code == 0
    assert f"{url}/#/searches/{search}" in err
    code, out, _ = run("watch", search, *server)
    assert code == 0
    assert "finished | 12/12" in out
    assert "hypervolume" in out
    code, out, _ = run("list", *server)
    assert search in out
    code, out, _ = run("front", search, *server)
    assert code == 0
    assert all(name in out for name in ("base", "reverse", "average", "add/score"))
    code, out, _ = run("best", search, *server)
    assert code == 0
    assert all(name in out for name in ("report split", "ahead of base", "ahead of average"))
    code, out, _ = run("download", search, "--out", tmp_path / "best", *server)
    assert code == 0
    assert (tmp_path / "best" / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    code, out, _ = run("extend", search, 3, *server)
    assert code == 0
    assert run("watch", search, *server)[0] == 0
    code, _, err = run("pause", search, *server)
    assert (code, "it cannot pause" in err) == (1, True)


def test_adapters_are_downloaded_as_such(run: Run, store: Store, url: str, tmp_path: Path) -> None:
    search = recorded(store, 6, facts={"adapters": ["add", "reverse"]})
    arguments = ("download", search, "--candidate", 3, "--server", url)
    code, out, _ = run(*arguments, "--adapter", "--rank", 8, "--out", tmp_path / "cut")
    assert code == 0
    assert "Relative error of the whole change at rank 8: 0.00e+00" in out
    code, out, _ = run(*arguments, "--adapter", "--json", "--out", tmp_path / "exact")
    assert code == 0
    assert json.loads(out)["form"] == {"kind": "adapter", "rank": None}
    assert (tmp_path / "exact" / "config.json").is_file()
    code, _, err = run(*arguments, "--rank", 8, "--out", tmp_path / "none")
    assert (code, "--adapter" in err) == (2, True)


def test_every_examples_score_is_downloaded_as_a_file(
    run: Run, url: str, store: Store, tmp_path: Path
) -> None:
    search_id, file = recorded(store), tmp_path / "examples.parquet"
    chosen = ("--candidate", 3, "--candidate", 4, "--split", "search", "--server", url)
    code, printed, _ = run("examples", search_id, "--out", file, *chosen)
    assert (code, printed) == (0, f"{file.stat().st_size} bytes in {file}\n")
    rows = pq.read_table(file).to_pylist()
    assert {row["candidate"] for row in rows} == {3, 4}
    assert {row["score"] for row in rows if row["metric"] == "acc"} <= {0.0, 1.0}
    assert run("examples", "nope", "--out", tmp_path / "no.parquet", "--server", url)[0] == 2
    assert [path.name for path in tmp_path.glob("*.parquet*")] == [file.name]


def test_every_command_speaks_json(run: Run, url: str, spec: Path, tmp_path: Path) -> None:
    server = ("--json", "--server", url)
    search = json.loads(run("submit", spec, *server)[1])["id"]
    lines = run("watch", search, *server)[1].splitlines()
    assert json.loads(lines[-1])["state"] == "finished"
    for command in (
        ("validate", spec),
        ("list",),
        ("front", search),
        ("best", search),
        ("download", search, "--out", tmp_path / "best"),
        ("extend", search, 2),
        ("methods",),
        ("optimizers",),
        ("tasks",),
    ):
        code, out, _ = run(*command, *server)
        assert code == 0, command
        json.loads(out)


def test_catalogues_are_tables_for_people(run: Run, url: str) -> None:
    assert "ties" in run("methods", "--server", url)[1]
    assert "m2n2" in run("optimizers", "--server", url)[1]
    assert run("tasks", "--server", url)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("submit", "none.yaml"), 2, "none.yaml cannot be read"),
        (("watch", "unknown"), 2, "There is no search 'unknown'"),
        (("front", "unknown"), 2, "There is no search 'unknown'"),
        (("cancel", "unknown"), 2, "There is no search 'unknown'"),
        (("extend", "unknown", "0"), 2, "evaluations"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_what_goes_wrong_is_a_line_and_a_code(
    run: Run, url: str, arguments: tuple[str, ...], code: int, says: str
) -> None:
    left, _, err = run(*arguments, "--server", url)
    assert left == code
    assert says.lower() in err.lower()
    assert "Traceback" not in err


def test_every_problem_of_a_spec_is_a_line(run: Run, url: str, spec: Path) -> None:
    document = yaml.safe_load(spec.read_text()) | {"seed": -1, "parents": [], "nmae": 1}
    spec.write_text(yaml.safe_dump(document))
    for command in ("validate", "submit"):
        code, _, err = run(command, spec, "--server", url)
        assert code == 2
        fields = {line.partition(":")[0] for line in err.splitlines()}
        assert {"seed", "parents", "nmae"} <= fields


def test_no_server_is_exit_code_three(run: Run, spec: Path) -> None:
    code, _, err = run("list", "--server", "http://127.0.0.1:9")
    assert code == 3
    assert "nichemerge serve" in err


def test_a_missing_token_is_told(run: Run, settings: Settings, store: Store) -> None:
    guarded = Settings(home=settings.home, api_token=TOKEN)
    with served(guarded, store) as (url, _):
        code, _, err = run("list", "--server", url)
        assert code == 2
        assert "API token" in err
        assert run("list", "--server", url, "--token", TOKEN)[0] == 0


def test_an_exposed_server_without_a_token_does_not_start(run: Run, tmp_path: Path) -> None:
    code, _, err = run("serve", "--host", "0.0.0.0", "--home", tmp_path)
    assert code == 2
    assert "NICHEMERGE_API_TOKEN" in err
