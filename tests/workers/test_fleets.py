"""What every fleet promises, and what the Ray fleet does when machines fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray

from search.recipe import mixture
from tests.workers.fake_runner import FakeRunner, Unstartable, attempts, job
from tests.workers.tiny_zoo import make_suite, make_zoo
from workers.fleet import Fleet, FleetDown
from workers.local_fleet import LocalFleet
from workers.messages import Evaluate, Evaluated, Job, Rejected, Report
from workers.ray_fleet import RayFleet, connect
from workers.worker import Worker

RAY = [pytest.mark.ray, pytest.mark.xdist_group("ray")]
on_ray = [pytest.param(RayFleet, marks=RAY)]
MakeFleet = Callable[..., RayFleet]


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """One Ray for all tests here: a fleet joins the Ray that its process already has."""
    connect(None, slots=2)
    yield
    ray.shutdown()


@pytest.fixture
def ray_fleet(local_ray: None) -> Iterator[MakeFleet]:
    fleets: list[RayFleet] = []

    def make(**options: object) -> RayFleet:
        fleets.append(RayFleet(**{"make": FakeRunner, "slots": 2, **options}))  # type: ignore[arg-type]  # a table of options
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.close()


@pytest.fixture(params=["local", pytest.param("ray", marks=RAY)])
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    if request.param == "ray":
        yield request.getfixturevalue("ray_fleet")()
        return
    local = LocalFleet(FakeRunner().run, slots=2)
    yield local
    local.close()


def reports(fleet: Fleet, count: int, timeout_s: float = 90) -> list[Report]:
    """As many as have come in time; a worker's process starts within seconds, or a busy minute."""
    got, end = [], time.monotonic() + timeout_s
    while len(got) < count and time.monotonic() < end:
        report = fleet.next_report(0.2)
        got += [report] if report else []
    return got


def wait_for_attempt(of: object, fleet: Fleet, among: set[int] = frozenset()) -> int:
    """Process id of a worker that began a job and is not among those already seen."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        assert fleet.next_report(0.05) is None
        if new := set(attempts(of)) - among:
            return new.pop()
    raise TimeoutError


def test_every_job_is_reported_exactly_once_with_its_own_result(
    fleet: Fleet, tmp_path: Path
) -> None:
    names = [f"plain-{'x' * length}" for length in range(12)]
    for name in names:
        fleet.submit(job(name, tmp_path))
    got = {report.job: report for report in reports(fleet, 12)}
    assert sorted(got) == sorted(names)
    assert all(
        isinstance(report.result, Evaluated)
        and report.result.scores["length/acc"].value == len(report.job)
        and report.attempt == 1
        for report in got.values()
    )
    assert fleet.next_report(0.1) is None


def test_a_rejection_is_a_result_like_any_other(fleet: Fleet, tmp_path: Path) -> None:
    fleet.submit(job("reject", tmp_path))
    (report,) = reports(fleet, 1)
    assert (report.result, report.attempt) == (Rejected("not today"), 1)


def test_a_fault_of_the_machine_is_retried_and_in_the_end_rejected(
    fleet: Fleet, tmp_path: Path
) -> None:
    fleet.submit(job("fail", tmp_path))
    (report,) = reports(fleet, 1)
    assert isinstance(report.result, Rejected)
    assert report.result.reason.startswith("lost 3 times: ")
    assert "the disk is gone" in report.result.reason
    assert report.attempt == 3


def test_nothing_to_report_is_none_in_the_time_asked_for(fleet: Fleet) -> None:
    start = time.monotonic()
    assert fleet.next_report(0.3) is None
    assert 0.25 <= time.monotonic() - start < 2


def test_reports_come_in_order_of_arrival(tmp_path: Path) -> None:
    fleet = LocalFleet(FakeRunner().run)
    names = [f"plain-{index}" for index in range(20)]
    for name in names:
        fleet.submit(job(name, tmp_path))
    assert [report.job for report in reports(fleet, 20)] == names
    fleet.close()


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
class TestFaultsOfRay:
    def test_a_killed_worker_costs_a_retry_and_nothing_else(
        self, ray_fleet: MakeFleet, tmp_path: Path
    ) -> None:
        fleet = ray_fleet(slots=1)
        victim = job("once", tmp_path)
        fleet.submit(victim)
        fleet.submit(job("plain-after", tmp_path))
        os.kill(wait_for_attempt(victim, fleet), signal.SIGKILL)
        first, second = reports(fleet, 2)
        assert (first.job, first.attempt) == ("once", 2)
        assert (second.job, second.attempt) == ("plain-after", 1)
        assert isinstance(first.result, Evaluated)
        assert first.result.scores["length/acc"].value == len("once")
        assert fleet.next_report(0.2) is None

    def test_with_a_single_attempt_a_killed_worker_is_a_rejection(
        self, ray_fleet: MakeFleet, tmp_path: Path
    ) -> None:
        """The control of the test above: the kill is real."""
        fleet = ray_fleet(slots=1, max_attempts=1)
        victim = job("once", tmp_path)
        fleet.submit(victim)
        os.kill(wait_for_attempt(victim, fleet), signal.SIGKILL)
        (report,) = reports(fleet, 1)
        assert report.result == Rejected("lost: the worker died")

    def test_a_job_that_kills_every_worker_is_rejected_and_the_fleet_works_on(
        self, ray_fleet: MakeFleet, tmp_path: Path
    ) -> None:
        fleet = ray_fleet(slots=1)
        poison = job("wait", tmp_path)
        fleet.submit(poison)
        fleet.submit(job("plain", tmp_path))
        seen: set[int] = set()
        for _ in range(3):
            pid = wait_for_attempt(poison, fleet, seen)
            seen.add(pid)
            os.kill(pid, signal.SIGKILL)
        first, second = reports(fleet, 2)
        assert (first.job, first.result) == ("wait", Rejected("lost 3 times: the worker died"))
        assert (second.job, second.attempt) == ("plain", 1)

    def test_a_hanging_job_is_killed_by_the_timeout_even_when_it_holds_the_interpreter(
        self, ray_fleet: MakeFleet, tmp_path: Path
    ) -> None:
        fleet = ray_fleet(slots=1, timeout_s=1.5, max_attempts=1)
        stuck = job("hold", tmp_path)
        fleet.submit(stuck)
        pid = wait_for_attempt(stuck, fleet)
        start = time.monotonic()
        (report,) = reports(fleet, 1)
        assert time.monotonic() - start < 1.5 + 2
        assert report.result == Rejected("lost: no answer within 1.5 s")
        assert gone(pid, within_s=3)
        fleet.submit(job("plain", tmp_path))
        assert reports(fleet, 1)[0].attempt == 1

    def test_workers_that_cannot_start_are_said_to_be_down_and_jobs_are_kept(
        self, ray_fleet: MakeFleet, tmp_path: Path
    ) -> None:
        fleet = ray_fleet(make=Unstartable, slots=1)
        fleet.submit(job("plain", tmp_path))
        with pytest.raises(FleetDown, match="no worker could be started"):
            reports(fleet, 1)

    def test_real_workers_score_as_a_worker_in_this_process_does(
        self, ray_fleet: MakeFleet, tmp_path: Path
    ) -> None:
        zoo, suite = make_zoo(tmp_path / "zoo"), make_suite(tmp_path / "suite")
        recipe = mixture(("p0", "p1"), (0.3, 0.7))
        evaluate = Job("real", zoo, Evaluate(recipe, suite))
        fleet = ray_fleet(make=None, slots=1)
        fleet.submit(evaluate)
        (report,) = reports(fleet, 1)
        here = Worker().run(evaluate)
        assert isinstance(report.result, Evaluated), report.result
        assert isinstance(here, Evaluated)
        assert report.result.scores == here.scores

    def test_a_host_keeps_its_signals_its_terminal_and_no_processes_when_closed(
        self, tmp_path: Path
    ) -> None:
        host = subprocess.Popen(
            [sys.executable, "-m", "tests.workers.ray_host", str(tmp_path)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        wait_for_file(tmp_path / "ready")
        processes = descendants(host.pid)
        assert len(processes) > 5, "control: Ray's processes are seen"
        host.send_signal(signal.SIGTERM)
        output, _ = host.communicate(timeout=10)
        assert (tmp_path / "closed").exists()
        assert (host.returncode, output) == (0, "")
        assert all(gone(pid, within_s=3) for pid in processes)


def wait_for_file(file: Path, within_s: float = 40) -> None:
    end = time.monotonic() + within_s
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [found for child in children for found in (child, *descendants(child))]


def gone(pid: int, within_s: float) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.05)
    return False
