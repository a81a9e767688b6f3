"""The tables of merging, from models that are made and removed on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api.benchmark import measure_merging
from api.cli import main
from api.settings import Settings
from workers.bench.zoo import SIZES, Size


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(SIZES, "0.3M", Size(2, 128, 192, 1, vocabulary=512))
    return "0.3M"


def test_speeds_and_peaks_are_measured_and_the_models_removed(tiny: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    found = measure_merging(settings, parameters=tiny, dtype="float32", names=["dare_ties"])
    assert [speed.method for speed in found.speeds] == ["linear", "dare_ties"]
    assert [peak.method for peak in found.peaks] == ["linear", "dare_ties"]
    assert found.beside == ()
    assert list(settings.home.iterdir()) == []
    assert found.text().startswith("3 parents of 0.3M parameters in float32; ")
    assert found.text().count("| dare_ties ") == 2
    assert json.loads(json.dumps(found.document()))["speeds"][0]["times_linear"] == 1.0


def test_an_unknown_method_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NICHEMERGE_HOME", str(tmp_path / "home"))
    with pytest.raises(SystemExit) as left:
        main(["bench", "merge", "--method", "tiez"])
    assert left.value.code == 2
    assert "unknown merge method 'tiez'; did you mean 'ties'?" in capfd.readouterr().err.lower()
    assert not (tmp_path / "home").exists()


PROBLEM = """
class Corners:
    n = 2
    reference = [0.1, 0.1]

    def __call__(self, c):
        return [1 - abs(c[0] - 0.8), 1 - abs(c[1] - 0.2)]
"""


def test_an_optimizer_is_tried_on_a_function_of_a_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "problem.py").write_text(PROBLEM)
    arguments = ["--problem", f"{tmp_path}/problem.py:Corners", "--evaluations", "20"]
    with pytest.raises(SystemExit) as left:
        main(["bench", "search", *arguments, "--in-flight", "3", "--seed", "1", "--json"])
    assert left.value.code == 0
    found = json.loads(capfd.readouterr().out)["evaluations"]
    assert len(found) == 20
    assert found[0]["coefficients"] == [0, 0]
    assert found[0]["objectives"] == pytest.approx([0.2, 0.8])
    assert max(sum(point["objectives"]) for point in found) > 1.9


def test_a_problem_that_cannot_be_loaded_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["bench", "search", "--problem", "nowhere.py:f"])
    assert left.value.code == 2
    assert "nowhere.py is no file; write FILE.py:FACTORY" in capfd.readouterr().err


def test_racing_is_simulated_and_told_in_a_table(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["bench", "racing", "--searches", "2"])
    assert not left.value.code
    table = capfd.readouterr().out.splitlines()
    assert len(table) == 2 + 8
    assert all("most 20,000" in line or "most 19," in line for line in table[2:4])


def test_the_digits_experiment_is_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["bench", "m2n2", "--seeds", "1", "--steps", "30"])
    assert left.value.code == 0
    printed = capfd.readouterr().out
    for line in ("| from scratch ", "| from two specialists ", "| no split point "):
        assert line in printed
    assert "The best single merge of the two specialists has 57." in printed


def test_the_digits_experiment_is_told_run_by_run(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "m2n2", "--seeds", "1", "--steps", "10", "--json"])
    runs = json.loads(capfd.readouterr().out)["runs"]
    assert len({(run["variant"], run["start"], run["seed"]) for run in runs}) == len(runs) == 10
    assert all(0 < run["test"]["10"] < 1 for run in runs)
