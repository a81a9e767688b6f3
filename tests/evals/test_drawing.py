"""Examples are divided by chance, but never unevenly, and never the same one twice."""

import random
from collections import Counter

import pytest

from evals.drawing import Content, divided, in_order
from evals.suite import Split

CLASSES = [Content(f"question {n}", "ABCD"[n % 7 % 4]) for n in range(403)]
TEXTS = [Content(f"question {n}", "x" * (n * n % 211 + 1) + str(n)) for n in range(403)]


def shares(splits: list[Split]) -> list[float]:
    return [splits.count(split) / len(splits) for split in Split]


@pytest.mark.parametrize("contents", [CLASSES, TEXTS])
@pytest.mark.parametrize("seed", [0, 1])
def test_half_is_to_search_a_fifth_to_select_the_rest_to_report(
    contents: list[Content], seed: int
) -> None:
    assert shares(divided(contents, seed)) == pytest.approx([0.5, 0.2, 0.3], abs=2 / 403)


def test_every_answer_has_its_share_in_every_split() -> None:
    splits = divided(CLASSES, 0)
    for answer, count in Counter(content.answer for content in CLASSES).items():
        of_answer = [s for c, s in zip(CLASSES, splits, strict=True) if c.answer == answer]
        assert shares(of_answer) == pytest.approx([0.5, 0.2, 0.3], abs=2 / count)


def test_short_and_long_answers_have_their_share_where_every_answer_is_another() -> None:
    splits = divided(TEXTS, 0)
    by_length = sorted(range(len(TEXTS)), key=lambda n: len(TEXTS[n].answer))
    for part in (by_length[:200], by_length[200:]):
        assert shares([splits[n] for n in part]) == pytest.approx([0.5, 0.2, 0.3], abs=0.03)


def test_equal_questions_are_never_divided() -> None:
    twice = [*CLASSES, *(Content(c.question, "A") for c in CLASSES)]
    splits = divided(twice, 0)
    assert splits[:403] == splits[403:]


def test_the_order_in_a_file_means_nothing() -> None:
    shuffled = random.Random(0).sample(CLASSES, len(CLASSES))
    once = dict(zip(CLASSES, divided(CLASSES, 0), strict=True))
    assert dict(zip(shuffled, divided(shuffled, 0), strict=True)) == once
    asked = [shuffled[n] for n in in_order(shuffled, 0)]
    assert asked == [CLASSES[n] for n in in_order(CLASSES, 0)]


def test_another_seed_gives_another_draw_and_another_order() -> None:
    assert divided(CLASSES, 0) != divided(CLASSES, 1)
    assert in_order(CLASSES, 0) != in_order(CLASSES, 1)


def test_control_the_draw_is_a_draw() -> None:
    """Over seeds every document is searched on about half of the time."""
    few = CLASSES[:40]
    times = Counter(
        n for seed in range(200) for n, s in enumerate(divided(few, seed)) if s is Split.SEARCH
    )
    # within five standard errors of a half
    assert all(65 <= times[n] <= 135 for n in range(40))


def test_three_documents_are_enough_for_three_splits() -> None:
    assert set(divided(CLASSES[:3], 0)) == set(Split)
