"""The tour: from an empty folder to a downloaded checkpoint that scores what the service said.

Everything goes through the doors that users have: the commands, and lm-eval's own for the proof.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from api.client import Client, Unreachable
from api.schemas import CheckpointView, ObjectiveView, SearchDetail
from api.settings import Settings
from evals.playground import Playground, build

# fp32 sums in another order: the last digits of a likelihood, never an accuracy.
_TOLERANCE = 1e-5
_START_S = 60.0


class DemoFailed(RuntimeError):
    """A step of the tour did not work; the message says which, and where to look."""


def demo(
    settings: Settings, out: Path, *, evaluations: int = 100, keep: bool = False, seed: int = 0
) -> None:
    """Build the playground, search it, download the best, and score that folder with lm-eval.

    What exists is used again: the playground, a finished search of the same spec, downloaded files.

    Args:
        settings: of the service that is started; its home holds the playground.
        out: folder for the spec, the service's log and the checkpoint (``best``).
        evaluations: budget of the search.
        keep: leave the service up.
        seed: of the playground and of the search.

    Raises:
        DemoFailed: a step failed, or lm-eval's numbers are not ours.
    """
    console = Console(highlight=False)
    out.mkdir(parents=True, exist_ok=True)
    console.print(f"Dashboard, from step 2 on: [link={_url(settings)}]{_url(settings)}[/]")
    playground = _playground(console, settings.playground, seed)
    spec = out / "spec.yaml"
    spec.write_text(yaml.safe_dump(playground_spec(playground, evaluations, seed), sort_keys=False))
    with _service(settings, out, keep=keep) as client:
        console.print(f"[bold]2[/] Service: up, everything it keeps is in {settings.home}")
        search = _search(console, client, spec)
        _front(console, client, search)
        _result(console, client, search)
        checkpoint = _download(console, client, search, out / "best")
        if keep:
            console.print(f"The service stays up at {client.url}; stop it: kill {_pid(out)}")
    _proof(console, search.objectives, checkpoint, playground, out)


def _playground(console: Console, folder: Path, seed: int) -> Playground:
    started = time.monotonic()
    with Progress(console=console, transient=True) as bar:
        training = bar.add_task("[bold]1[/] Playground", total=1.0)
        playground = build(
            folder,
            seed,
            lambda model, done: bar.update(training, completed=done, description=model),
        )
    console.print(
        f"[bold]1[/] Playground: a base and {', '.join(playground.parents)}, "
        f"four tasks ({time.monotonic() - started:.0f} s)"
    )
    return playground


def playground_spec(playground: Playground, evaluations: int, seed: int) -> dict[str, Any]:
    """A search of the playground's merges, as a client sends it."""
    return {
        "name": "demo",
        "base": {"path": str(playground.base)},
        "parents": [{"name": name, "path": str(path)} for name, path in playground.parents.items()],
        "method": "task_arithmetic",
        "space": {
            "blocks": {"layers": 2, "modules": ["attention", "mlp"]},
            "parameters": {"weight": {"low": 0.0, "high": 1.5}},
        },
        "objectives": [
            objective.model_dump(mode="json", exclude_defaults=True)
            for objective in playground.objectives
        ],
        "optimizer": {"name": "cma_es"},
        "budget": {"evaluations": evaluations, "parallel": 4},
        "dtype": "float32",
        "seed": seed,
    }


def _url(settings: Settings) -> str:
    return f"http://{settings.host}:{settings.port}"


@contextmanager
def _service(settings: Settings, out: Path, *, keep: bool) -> Iterator[Client]:
    """A client of a running service: the one that an earlier tour left up, or a new one."""
    token = settings.api_token
    log, pid_file = out / "service.log", out / "service.pid"
    with Client(_url(settings), None if token is None else token.get_secret_value()) as client:
        if _ready(client):
            if _pid(out) is None:
                raise DemoFailed(f"{client.url} is another service; set NICHEMERGE_PORT")
            yield client
            return
        environment = {**os.environ, "NICHEMERGE_HOME": str(settings.home)}
        command = [sys.executable, "-m", "api.cli", "serve", "--port", str(settings.port)]
        with log.open("ab") as sink:
            process = subprocess.Popen(
                command, stdout=sink, stderr=sink, env=environment, start_new_session=True
            )
        pid_file.write_text(str(process.pid))
        try:
            _wait(client, process, log)
            yield client
        finally:
            if not keep:
                process.send_signal(signal.SIGTERM)
                process.wait()
                pid_file.unlink()


def _ready(client: Client) -> bool:
    try:
        return client.ready()
    except Unreachable:
        return False


def _pid(out: Path) -> int | None:
    """Process of the service that a tour with the same output folder left up, if it lives."""
    try:
        pid = int((out / "service.pid").read_text())
        os.kill(pid, 0)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return None
    return pid


def _wait(client: Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not _ready(client):
        if process.poll() is not None or time.monotonic() > deadline:
            raise DemoFailed(f"the service did not start; see {log}")
        time.sleep(0.2)


def _search(console: Console, client: Client, spec: Path) -> SearchDetail:
    key = f"demo-{hashlib.sha256(spec.read_bytes()).hexdigest()[:12]}"
    submitted = _nichemerge(client, "submit", str(spec), "--key", key, "--json", capture=True)
    search = SearchDetail.model_validate_json(submitted)
    console.print(f"[bold]3[/] Search: {client.url}/#/searches/{search.id}")
    _nichemerge(client, "watch", search.id)
    return client.search(search.id)


def _front(console: Console, client: Client, search: SearchDetail) -> None:
    console.print("[bold]4[/] The front, beside what there was (search split)")
    _nichemerge(client, "front", search.id)


def _result(console: Console, client: Client, search: SearchDetail) -> None:
    console.print("[bold]5[/] The best of the finalists, on examples that the search never saw")
    _nichemerge(client, "best", search.id)


def _download(
    console: Console, client: Client, search: SearchDetail, folder: Path
) -> CheckpointView:
    if search.best is None:
        raise DemoFailed(f"the search {search.id} has no scored candidate")
    console.print(f"[bold]6[/] Best: {search.best.label}, downloaded to {folder}")
    _nichemerge(client, "download", search.id, "--out", str(folder))
    return client.checkpoint(search.id, search.best.ordinal)


def _proof(
    console: Console,
    objectives: list[ObjectiveView],
    checkpoint: CheckpointView,
    playground: Playground,
    out: Path,
) -> None:
    """Score the folder with the stock command in a fresh process, and compare."""
    with console.status("[bold]7[/] Scoring the folder with the stock lm_eval command"):
        stock = _lm_eval(out, playground, sorted({o.task for o in objectives}))
    table = Table(title="7 The same folder, scored by us and by lm_eval (report split)")
    for heading in ("objective", "nichemerge", "lm_eval"):
        table.add_column(heading, justify="left" if heading == "objective" else "right")
    differ = []
    for objective in objectives:
        ours = checkpoint.scores[objective.key].value
        theirs = float(stock[objective.task][f"{objective.metric},none"])
        table.add_row(objective.key, f"{ours:.4f}", f"{theirs:.4f}")
        if ours is None or not math.isclose(ours, theirs, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
            differ.append(objective.key)
    console.print(table)
    if differ:
        raise DemoFailed(f"lm_eval's numbers are not ours: {', '.join(differ)}")
    console.print("The numbers are equal.")


def _lm_eval(out: Path, playground: Playground, tasks: list[str]) -> Mapping[str, Any]:
    """Results by task of ``lm_eval`` on the downloaded folder."""
    results = out / "lm_eval"
    earlier = set(results.rglob("results_*.json"))
    command = [
        *(sys.executable, "-m", "lm_eval", "--model", "hf"),
        *("--model_args", f"pretrained={out / 'best'},dtype=float32"),
        *("--tasks", ",".join(tasks), "--include_path", str(playground.tasks)),
        *("--device", "cpu", "--batch_size", "32", "--output_path", str(results)),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DemoFailed(f"lm_eval failed:\n{done.stderr[-2000:]}")
    (written,) = set(results.rglob("results_*.json")) - earlier
    found: Mapping[str, Any] = json.loads(written.read_text())["results"]
    return found


def _nichemerge(client: Client, *arguments: str, capture: bool = False) -> str:
    """Run one of our own commands as a user would; its output, where it is not for the user."""
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", *arguments, "--server", client.url],
        stdout=subprocess.PIPE if capture else None,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DemoFailed(f"'nichemerge {' '.join(arguments)}' failed")
    return done.stdout or ""
