from __future__ import annotations

import errno
import gc
import logging
import weakref
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from evals import pacing
from evals.batching import Batching, Pacing
from evals.fingerprint import device_name
from evals.suite import Split, Suite
from search.outcome import Scores
from search.recipe import Recipe, Step, mixture
from tests.tiny import save_llama
from tests.workers.tiny_zoo import make_suite, make_zoo
from workers.merge_folder import merge_into_folder
from workers.messages import (
    Calibration,
    Confirm,
    Confirmed,
    Evaluate,
    Evaluated,
    Job,
    Rejected,
    Survey,
    Surveyed,
    Zoo,
)
from workers.resident import Recent
from workers.worker import Worker

AVERAGE = mixture(("p0", "p1"), (0.5, 0.5))


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return make_suite(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return make_zoo(tmp_path_factory.mktemp("zoo"))


def evaluated(worker: Worker, zoo: Zoo, suite: Suite, recipe: Recipe) -> Evaluated:
    result = worker.run(Job("j", zoo, Evaluate(recipe, suite)))
    assert isinstance(result, Evaluated), result
    return result


def rejected(worker: Worker, zoo: Zoo, suite: Suite, recipe: Recipe) -> Rejected:
    result = worker.run(Job("j", zoo, Evaluate(recipe, suite)))
    assert isinstance(result, Rejected), result
    return result


def test_a_recipe_is_scored_on_every_objective_with_higher_better(zoo: Zoo, suite: Suite) -> None:
    scores = evaluated(Worker(), zoo, suite, AVERAGE).scores
    assert set(scores) == {"tiny_choice/acc", "tiny_text/bits_per_byte"}
    assert 0 <= scores["tiny_choice/acc"].value <= 1
    assert scores["tiny_text/bits_per_byte"].value < 0
    assert all(score.count == 12 for score in scores.values())


def test_scores_do_not_depend_on_what_was_scored_before(zoo: Zoo, suite: Suite) -> None:
    worker = Worker()
    first = evaluated(worker, zoo, suite, AVERAGE).scores
    other = evaluated(worker, zoo, suite, mixture(("p0",), (1.0,))).scores
    again = evaluated(worker, zoo, suite, AVERAGE).scores
    fresh = evaluated(Worker(), zoo, suite, AVERAGE).scores
    assert first == again == fresh
    assert first != other, "control: another recipe scores otherwise"


def test_a_parent_alone_scores_as_its_own_folder_does(zoo: Zoo, suite: Suite) -> None:
    parent = replace(zoo, base=zoo.parents[0][1])
    alone = evaluated(Worker(), zoo, suite, mixture(("p0",), (1.0,))).scores
    assert alone == evaluated(Worker(), parent, suite, mixture(("base",), (1.0,))).scores


PATH = AVERAGE.model_copy(
    update={"path": (Step(model="p0", layer=1), Step(layer=0), Step(layer=0, scale=1.2))}
)


def test_a_path_scores_as_the_folder_that_it_makes(zoo: Zoo, suite: Suite, tmp_path: Path) -> None:
    merge_into_folder(PATH, zoo, tmp_path / "out")
    alone = Zoo(str(tmp_path / "out"), (), zoo.dtype)
    found = evaluated(Worker(), alone, suite, mixture(("base",), (1.0,))).scores
    assert evaluated(Worker(), zoo, suite, PATH).scores == found


def test_what_follows_a_path_is_scored_as_if_it_had_not_been(zoo: Zoo, suite: Suite) -> None:
    worker, other = Worker(), replace(suite, split=Split.REPORT)
    evaluated(worker, zoo, suite, PATH)
    for asked in (other, suite):  # the engine of the one is made when the model has a path
        after, fresh = (evaluated(w, zoo, asked, AVERAGE) for w in (worker, Worker()))
        assert after.scores == fresh.scores
        assert after.fingerprint == fresh.fingerprint
        again = evaluated(worker, zoo, asked, PATH)
        assert again.scores == evaluated(Worker(), zoo, asked, PATH).scores


def test_times_are_told_apart(zoo: Zoo, suite: Suite) -> None:
    timings = evaluated(Worker(), zoo, suite, AVERAGE).timings
    assert min(timings.merge_s, timings.forward_s, timings.other_s) > 0


def test_a_merge_that_overflows_is_rejected_and_the_next_one_scored(zoo: Zoo, suite: Suite) -> None:
    worker = Worker()
    reason = rejected(worker, zoo, suite, mixture(("p0", "p1"), (3e38, 3e38))).reason
    assert "finite" in reason
    evaluated(worker, zoo, suite, AVERAGE)


def test_a_merge_that_is_finite_and_broken_is_rejected_before_it_is_scored(
    zoo: Zoo, suite: Suite
) -> None:
    worker, nonsense = Worker(), mixture(("p0", "p1"), (40.0, -30.0))
    reason = rejected(worker, zoo, suite, nonsense).reason
    assert reason.startswith("the merge lost its language: ")
    assert rejected(Worker(), zoo, suite, nonsense).reason == reason, "whoever is asked first"
    result = worker.run(Job("j", zoo, Evaluate(nonsense, suite, gated=False)))
    assert isinstance(result, Evaluated), "what others are compared with is scored all the same"


def test_the_gate_changes_no_score(zoo: Zoo, suite: Suite) -> None:
    ungated = Worker().run(Job("j", zoo, Evaluate(AVERAGE, suite, gated=False)))
    assert isinstance(ungated, Evaluated)
    assert evaluated(Worker(), zoo, suite, AVERAGE).scores == ungated.scores


def test_scores_say_which_engine_they_are_of(zoo: Zoo, suite: Suite) -> None:
    engine = evaluated(Worker(), zoo, suite, AVERAGE).fingerprint
    assert engine == evaluated(Worker(), zoo, suite, mixture(("p0",), (1.0,))).fingerprint
    assert engine["torch"] == torch.__version__
    assert engine["plan"].startswith("float32, cpu, ")
    assert engine["plan"].endswith("1 threads")
    half = evaluated(Worker(), replace(zoo, dtype="bfloat16"), suite, AVERAGE).fingerprint
    assert half["plan"].startswith("bfloat16, cpu, ")
    assert half == {**engine, "plan": half["plan"]}


def test_a_survey_tells_what_will_be_asked_and_how_exactly(zoo: Zoo, suite: Suite) -> None:
    surveyed = Worker().run(Job("s", zoo, Survey(needs_geometry=False, suite=suite)))
    assert isinstance(surveyed, Surveyed)
    counts = {(one.task, one.split): len(one.documents) for one in surveyed.documents}
    assert counts == {(draw.task, draw.split): draw.count for draw in surveyed.draws}
    assert counts["tiny_choice", Split.SEARCH] == 12
    choice = surveyed.documents[0].documents
    assert sorted(one.index for one in choice) == list(range(12))
    assert all(len(one.question) == 8 and len(one.answer) == 3 for one in choice)
    found = surveyed.calibration
    assert found is not None
    assert found.fingerprint == evaluated(Worker(), zoo, suite, AVERAGE).fingerprint
    assert set(found.noise) == {"tiny_choice/acc", "tiny_text/bits_per_byte"}
    assert all(noise.count == 12 and noise.largest < 1e-5 for noise in found.noise.values())


def surveyed_by(worker: Worker, zoo: Zoo, work: Survey) -> Calibration:
    surveyed = worker.run(Job("s", zoo, work))
    assert isinstance(surveyed, Surveyed)
    assert surveyed.calibration is not None
    return surveyed.calibration


def test_a_survey_finds_how_all_workers_make_their_forward_passes(
    zoo: Zoo, suite: Suite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "_WORTH_S", 0.0)
    found = surveyed_by(Worker(cores=2), zoo, Survey(needs_geometry=False, suite=suite))
    assert found.pacing is not None
    chosen = found.pacing.batching
    assert {way.threads for way in found.pacing.seconds} == {1, 2}
    asked = replace(suite, batching=chosen)
    assert evaluated(Worker(), zoo, asked, AVERAGE).fingerprint == found.fingerprint
    assert found.fingerprint["plan"].endswith(f"{chosen.tokens} tokens, {chosen.threads} threads")


def test_what_was_measured_of_the_same_is_kept_where_it_holds(zoo: Zoo, suite: Suite) -> None:
    here = device_name("cpu")
    odd = Pacing(Batching(333, 2), here, {})

    def kept(known: Pacing, cores: int) -> bool:
        work = Survey(needs_geometry=False, suite=suite, paced=known)
        return surveyed_by(Worker(cores=cores), zoo, work).pacing == known

    assert kept(odd, 2)
    assert not kept(odd, 1), "two threads on one core"
    assert not kept(replace(odd, device="an abacus"), 2)


def test_a_job_is_done_as_its_suite_says_and_else_as_usual(zoo: Zoo, suite: Suite) -> None:
    worker = Worker()
    for batching in (Batching(64, 2), None, Batching(128, 1)):
        engine = evaluated(worker, zoo, replace(suite, batching=batching), AVERAGE).fingerprint
        tokens, threads = (batching.tokens, batching.threads) if batching else (1024, 1)
        assert engine["plan"].endswith(f", {tokens} tokens, {threads} threads")


def test_the_digest_of_a_model_changes_with_whatever_a_score_may_depend_on(
    tmp_path: Path,
) -> None:
    def digests(zoo: Zoo) -> dict[str, str]:
        surveyed = Worker().run(Job("s", zoo, Survey(needs_geometry=False)))
        assert isinstance(surveyed, Surveyed)
        return surveyed.models

    first, same = make_zoo(tmp_path / "1"), make_zoo(tmp_path / "2")
    before = digests(first)
    assert digests(same) == before
    assert len(set(before.values())) == 3
    config = Path(first.base) / "generation_config.json"
    config.write_text(config.read_text().replace("{", '{"repetition_penalty": 1.1,', 1))
    after = digests(first)
    assert {name for name in before if after[name] != before[name]} == {"base"}


def test_a_bug_rejects_one_candidate_and_is_logged_with_its_traceback(
    zoo: Zoo, suite: Suite, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        """Stands where a recipe should be."""

    with caplog.at_level(logging.ERROR, "workers.worker"):
        reason = rejected(Worker(), zoo, suite, Broken()).reason  # type: ignore[arg-type]  # the bug
    assert reason.startswith("unexpected AttributeError: ")
    assert "\n" not in reason
    assert caplog.records[0].exc_info is not None


def test_folders_that_cannot_be_read_are_problems_with_their_file(
    tmp_path: Path, suite: Suite
) -> None:
    zoo = make_zoo(tmp_path)
    file = Path(zoo.parents[1][1]) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    result = rejected(Worker(), zoo, suite, AVERAGE)
    assert any("model.safetensors" in field + message for field, message in result.problems)


def test_a_model_that_was_trained_again_is_read_again(tmp_path: Path, suite: Suite) -> None:
    zoo, worker = make_zoo(tmp_path), Worker()
    before = evaluated(worker, zoo, suite, AVERAGE).scores
    save_llama(Path(zoo.parents[0][1]), seed=99, dtype="float32")
    after = evaluated(worker, zoo, suite, AVERAGE).scores
    assert before != after
    assert after == evaluated(Worker(), zoo, suite, AVERAGE).scores


def test_a_survey_needs_no_model(zoo: Zoo) -> None:
    result = Worker().run(Job("s", zoo, Survey(needs_geometry=False)))
    assert isinstance(result, Surveyed)


def test_a_survey_divides_the_examples_of_the_tasks(zoo: Zoo, suite: Suite) -> None:
    surveyed = Worker().run(Job("s", zoo, Survey(needs_geometry=False, suite=suite)))
    assert isinstance(surveyed, Surveyed)
    counts = {(draw.task, draw.split): draw.count for draw in surveyed.draws}
    for task in ("tiny_choice", "tiny_text"):
        assert [counts[task, split] for split in Split] == [12, 5, 60]


def test_scores_of_each_split_say_what_they_are(zoo: Zoo, suite: Suite) -> None:
    worker = Worker()
    for split, count in ((Split.SELECT, 5), (Split.REPORT, 60)):
        confirmed = worker.run(Job("c", zoo, Confirm(AVERAGE, replace(suite, split=split))))
        assert isinstance(confirmed, Confirmed)
        assert {(s.split, s.count) for s in confirmed.scores.values()} == {(split, count)}
    assert {s.split for s in evaluated(worker, zoo, suite, AVERAGE).scores.values()} == {
        Split.SEARCH
    }


def test_a_round_scores_the_first_examples_and_goes_on_where_it_was(zoo: Zoo, suite: Suite) -> None:
    held, worker = replace(suite, split=Split.REPORT), Worker()

    def confirmed(by: Worker, *rungs: int) -> Scores:
        result = by.run(Job("c", zoo, Confirm(AVERAGE, held, rungs)))
        assert isinstance(result, Confirmed)
        return result.scores

    few = confirmed(worker, 15)
    evaluated(worker, zoo, suite, mixture(("p0",), (1.0,)))
    more = confirmed(worker, 15, 30)
    assert {score.count for score in few.values()} == {15}
    assert {score.count for score in more.values()} == {30}
    assert more == confirmed(Worker(), 15, 30), "whoever was somewhere else scores the same"
    for key, score in more.items():
        assert score.examples[:15].tolist() == few[key].examples.tolist()


def test_examples_that_changed_since_the_survey_are_a_problem_with_the_task(
    zoo: Zoo, suite: Suite
) -> None:
    held = replace(suite, digests=(("tiny_choice", "0" * 64),))
    ((field, message),) = rejected(Worker(), zoo, held, AVERAGE).problems
    assert field == "tiny_choice"
    assert "no longer those that the search began with" in message


@dataclass
class Faulty:
    """Stands where a recipe should be, and fails as a disk does when it is read."""

    fault: OSError

    @property
    def method(self) -> str:
        raise self.fault


def test_faults_of_the_machine_are_raised_and_not_blamed_on_the_candidate(
    zoo: Zoo, suite: Suite
) -> None:
    gone = Faulty(OSError(errno.EIO, "Input/output error"))
    with pytest.raises(OSError, match="Input/output"):
        Worker().run(Job("j", zoo, Evaluate(gone, suite)))  # type: ignore[arg-type]  # the fault


def test_a_full_disk_is_told_at_once(zoo: Zoo, suite: Suite) -> None:
    full = Faulty(OSError(errno.ENOSPC, "the checkpoint needs 9 bytes, and 8 are free"))
    reason = rejected(Worker(), zoo, suite, full).reason  # type: ignore[arg-type]  # the fault
    assert reason == "the checkpoint needs 9 bytes, and 8 are free"


def test_the_longest_unused_thing_makes_room() -> None:
    made: list[str] = []
    recent = Recent[str, str](lambda key: made.append(key) or key.upper(), capacity=2)  # type: ignore[func-returns-value]  # None, on purpose
    assert [recent[key] for key in "abacab"] == list("ABACAB")
    assert made == ["a", "b", "c", "b"]


def test_an_evicted_model_is_freed_at_once(tmp_path: Path, suite: Suite) -> None:
    worker = Worker(zoos=1)
    first, second = make_zoo(tmp_path / "1"), make_zoo(tmp_path / "2")
    evaluated(worker, first, suite, AVERAGE)
    resident = worker._resident(first)
    parameter = weakref.ref(next(resident.model.parameters()))
    del resident
    gc.disable()
    try:
        evaluated(worker, second, suite, AVERAGE)
        assert parameter() is None
    finally:
        gc.enable()


def test_one_thread_for_each_slot() -> None:
    Worker(threads=1)
    assert torch.get_num_threads() == 1
