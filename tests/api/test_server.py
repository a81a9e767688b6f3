"""The service as a process: it starts, works, and leaves within seconds of being told to."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from api.client import Client
from api.store import Store
from tests.analytic import submission

SERVE = """
import sys
from pathlib import Path
from api.server import serve
from api.settings import Settings
from tests.analytic import AnalyticFleet

home, port, longest_s = sys.argv[1:]
settings = Settings(home=Path(home), port=int(port))
sys.exit(serve(settings, fleet=lambda: AnalyticFleet(longest_s=float(longest_s))))
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def service(home: Path, *, longest_s: float = 0.05) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(home), str(port), str(longest_s)],
        stderr=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        with Client(url) as client:
            deadline = time.monotonic() + 60
            while not client.ready():
                assert process.poll() is None, process.stderr and process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield url, process
    finally:
        process.kill()
        process.communicate()


def prepared(home: Path, evaluations: int) -> str:
    home.mkdir(parents=True)
    store = Store(f"sqlite:///{home}/nichemerge.db")
    search_id = store.create_search(submission(evaluations=evaluations))
    store.close()
    return search_id


def test_sigterm_ends_streams_and_searches_within_ten_seconds(tmp_path: Path) -> None:
    search_id = prepared(tmp_path / "home", 10_000)
    with service(tmp_path / "home", longest_s=0.2) as (url, process):
        seen: list[str] = []
        ended = threading.Barrier(21)

        def watch() -> None:
            with httpx.stream("GET", f"{url}/v1/searches/{search_id}/events", timeout=30) as answer:
                seen.extend(line for line in answer.iter_lines() if line.startswith("id:"))
            ended.wait(10)

        for _ in range(20):
            threading.Thread(target=watch, daemon=True).start()
        deadline = time.monotonic() + 30
        while len(seen) < 20 * 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(seen) >= 20 * 5
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - start < 10
        ended.wait(10)
    store = Store(f"sqlite:///{tmp_path}/home/nichemerge.db")
    assert store.lease(search_id, "someone else", ttl_s=1), "the lease was not given back"
    store.close()


def test_a_service_goes_on_where_the_last_one_was_stopped(tmp_path: Path) -> None:
    search_id = prepared(tmp_path / "home", 60)
    with service(tmp_path / "home") as (url, process), Client(url) as client:
        while client.search(search_id).progress.scored < 10:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    with service(tmp_path / "home") as (url, _), Client(url) as client:
        assert list(client.watch(search_id))[-1].kind == "finished"
        progress = client.search(search_id).progress
    assert progress.scored + progress.infeasible == 60


def test_a_taken_port_is_a_failure_and_not_a_hang(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "api.cli", "serve", "--port", str(port)]
        done = subprocess.run(
            [*command, "--home", str(tmp_path / "home")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nimport api.cli\n"
        "heavy = {'torch', 'ray', 'lm_eval', 'numpy', 'pydantic', 'fastapi', 'sqlalchemy'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "Exit codes: 0 done" in done.stdout
