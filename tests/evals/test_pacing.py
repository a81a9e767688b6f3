"""How forward passes are made is measured on what will be asked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from evals import harness, pacing
from evals.batching import Batching
from evals.engine import PASS_TOKENS
from evals.fingerprint import device_name
from evals.requests import Unscorable
from evals.suite import Split, Suite
from search.spec import Objective

USUAL = Batching(PASS_TOKENS["cpu"], 1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def loaded(lab: Any, tokenizer: Any) -> harness.Loaded:
    objectives = (
        Objective(task="t_choice", metric="acc"),
        Objective(task="t_write", metric="exact_match"),
    )
    return harness.load(Suite(objectives, Split.SEARCH, (str(lab.tasks),)), tokenizer)


def test_a_suite_that_takes_no_time_is_not_worth_a_measurement(
    loaded: harness.Loaded, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "_WORTH_S", math.inf)
    found = pacing.pace(model, tokenizer, loaded, "cpu", threads=1, cores=4)
    assert (found.batching, found.seconds) == (USUAL, {})
    assert found.device == device_name("cpu")


def test_threads_up_to_the_cores_and_some_sizes_are_tried_on_what_is_asked(
    loaded: harness.Loaded, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "_WORTH_S", 0.0)
    found = pacing.pace(model, tokenizer, loaded, "cpu", threads=1, cores=3)
    at_usual_size = [way.threads for way in found.seconds if way.tokens == USUAL.tokens]
    assert sorted(at_usual_size) == [1, 2, 3]
    best = found.batching
    others = {way.tokens for way in found.seconds if way.threads == best.threads}
    assert others == {256, 512, 1024, 2048}
    assert min(found.seconds.values()) > 0
    assert torch.get_num_threads() == best.threads, "as the search will have it"


def test_no_run_is_begun_when_time_is_up_and_every_way_has_one(
    loaded: harness.Loaded, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "_WORTH_S", 0.0)
    monkeypatch.setattr(pacing, "_LONGEST_S", 0.0)
    found = pacing.pace(model, tokenizer, loaded, "cpu", threads=1, cores=1)
    assert len(found.seconds) == 4


def test_a_model_that_answers_nothing_cannot_be_paced(
    loaded: harness.Loaded, model: Any, tokenizer: Any
) -> None:
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    with pytest.raises(Unscorable):
        pacing.pace(model, tokenizer, loaded, "cpu", threads=1, cores=1)
