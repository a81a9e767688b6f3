"""What tells a broken model from a bad one."""

import random

import pytest

from evals.sanity import MARGIN_NATS, Vitals, ailment, is_loop

BASE, GOOD, BAD = Vitals(2.0), Vitals(1.5), Vitals(9.0)


@pytest.mark.parametrize("nats", [0.1, 2.0, 2.0 + MARGIN_NATS])
def test_a_merge_may_be_far_less_likely_than_base_and_best_parent(nats: float) -> None:
    assert ailment(Vitals(nats), BASE, [GOOD, BAD]) is None


@pytest.mark.parametrize("nats", [2.01 + MARGIN_NATS, float("inf"), float("nan")])
def test_beyond_the_margin_it_has_lost_its_language(nats: float) -> None:
    reason = ailment(Vitals(nats), BASE, [GOOD, BAD])
    assert reason is not None
    assert "base and best parent 2.0; the bound is 5 more" in reason


def test_one_bad_parent_does_not_excuse_a_merge() -> None:
    assert ailment(Vitals(13.0), BASE, [GOOD, BAD]) is not None
    assert ailment(Vitals(13.0), BASE, [BAD]) is None, "control: all parents are like that"


def test_a_base_that_cannot_be_asked_is_left_out() -> None:
    assert ailment(Vitals(6.4), None, [GOOD]) is None
    assert ailment(Vitals(6.6), None, [GOOD]) is not None
    assert ailment(Vitals(1e9), None, []) is None, "nothing to compare with"


def looping(*loops: bool) -> Vitals:
    return Vitals(2.0, loops)


def test_a_merge_that_answers_everything_in_a_loop_is_broken() -> None:
    fine = looping(False, False, False)
    reason = ailment(looping(True, True, True), fine, [fine])
    assert reason == (
        "the merge repeats itself without end: it answers each of 3 prompts in a loop, and neither "
        "base nor any parent does"
    )
    assert ailment(looping(True, False, True), fine, [fine]) is None


def test_where_a_parent_answers_in_a_loop_a_merge_may_too() -> None:
    fine = looping(False, False, False)
    assert ailment(looping(True, True, True), fine, [looping(True, True, False)]) is None
    one_prompt_left = looping(True, True, True)
    assert ailment(one_prompt_left, looping(True, False, False), [fine]) is not None


@pytest.mark.parametrize("piece", ["a", "ha", "the same again, ", "0123456789abcdef"])
def test_an_answer_that_says_one_thing_without_end_is_a_loop(piece: str) -> None:
    assert is_loop("Well: " + piece * 60)
    assert is_loop("Well: " + piece * 60 + piece[:1]), "cut in the middle of a piece"
    assert not is_loop("a" + piece * 60 + " and so on."), "control: it ends"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no no no",
        "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23",
        "A long answer that says many things before it comes to its end" + "." * 20,
        "".join(random.Random(0).choices("ab", k=400)),
    ],
)
def test_an_answer_that_ends_or_goes_on_otherwise_is_none(text: str) -> None:
    assert not is_loop(text)
