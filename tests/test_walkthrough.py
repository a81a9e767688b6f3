"""What a newcomer does, through the doors that they have: commands, browser, downloaded files."""

import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from playwright.sync_api import Page
from transformers import AutoModelForCausalLM, AutoTokenizer

from api.client import Client
from evals.playground import Playground
from tests.api.dashboard import walk
from tests.browser import Watch

pytestmark = [pytest.mark.playground, pytest.mark.ray, pytest.mark.xdist_group("playground")]


@dataclass(frozen=True)
class Tour:
    """A finished `nichemerge demo --keep`."""

    printed: str
    url: str
    out: Path
    pid: int


# Of the session: pytest runs the browser's tests first, and a module's fixture would end with them.
@pytest.fixture(scope="session")
def tour(trained: Playground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    out = tmp_path_factory.mktemp("demo-run")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = {
        **os.environ,
        "NICHEMERGE_HOME": str(trained.folder.parent),
        "NICHEMERGE_PORT": str(port),
        "COLUMNS": "160",
    }
    command = [sys.executable, "-m", "api.cli", "demo", "--evaluations", "24", "--keep"]
    done = subprocess.run(
        [*command, "--out", str(out)], env=environment, capture_output=True, text=True, check=False
    )
    log = out / "service.log"
    assert done.returncode == 0, done.stdout + done.stderr + log.read_text()[-3000:]
    pid = int((out / "service.pid").read_text())
    yield Tour(done.stdout, f"http://127.0.0.1:{port}", out, pid)
    if _lives(pid):
        os.kill(pid, signal.SIGKILL)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def test_the_tour_shows_the_front_beside_what_there_was(tour: Tour) -> None:
    for name in ("base", "arith", "string", "facts", "average"):
        assert re.search(rf"\b{name}\b", tour.printed)
    assert "24" in tour.printed


def test_lm_eval_finds_the_numbers_that_we_said(tour: Tour) -> None:
    assert "The numbers are equal." in tour.printed


def test_the_downloaded_folder_loads_anywhere(tour: Tour) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tour.out / "best")
    model = AutoModelForCausalLM.from_pretrained(tour.out / "best")
    with torch.no_grad():
        logits = model(**tokenizer("the river of", return_tensors="pt")).logits
    assert logits.isfinite().all()


@pytest.mark.browser
def test_a_search_from_the_form_to_the_archive_in_the_browser(
    tour: Tour, watched_page: Page, watch: Watch, tmp_path: Path
) -> None:
    spec = yaml.safe_load((tour.out / "spec.yaml").read_text())
    spec |= {"name": "from-the-form", "optimizer": {"name": "m2n2", "population": 8}}
    walk.submit(watched_page, tour.url, yaml.safe_dump(spec))
    walk.watch_points_arrive(watched_page, timeout_ms=120_000)
    walk.wait_until_finished(watched_page, timeout_ms=180_000)
    ordinal = walk.select_last(watched_page)
    archive = walk.download(watched_page, tmp_path, timeout_ms=120_000)
    with tarfile.open(archive) as tar:
        names = {Path(name).name for name in tar.getnames()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "recipe.json"} <= names
    assert ordinal > 0
    assert watch.complaints == []
    assert watch.external(tour.url) == []


def test_the_service_ends_within_ten_seconds_and_the_search_is_still_there(tour: Tour) -> None:
    with Client(tour.url) as client:
        found = {search.name: search for search in client.searches()}
    assert found["demo"].state == "finished"
    os.kill(tour.pid, signal.SIGTERM)
    deadline = time.monotonic() + 10.0
    while _lives(tour.pid):
        assert time.monotonic() < deadline, "the service did not end in time"
        time.sleep(0.1)
