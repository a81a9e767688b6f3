from __future__ import annotations

import re
from itertools import combinations

import pytest

from evals.playground.families import COUNTS, Document, Family, families
from evals.suite import Split

NAMES = ("arith", "string", "facts", "text")


@pytest.fixture(scope="module")
def skills() -> dict[str, Family]:
    return families(seed=0)


def prompt(document: Document) -> str:
    return str(document.get("question", document.get("text")))


def test_a_seed_gives_the_same_families_and_another_seed_gives_others(
    skills: dict[str, Family],
) -> None:
    assert families(seed=0) == skills
    other = families(seed=1)
    assert all(other[name].splits != skills[name].splits for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_splits_have_the_promised_sizes_and_share_no_document(
    name: str, skills: dict[str, Family]
) -> None:
    prompts = {
        split: {prompt(document) for document in documents}
        for split, documents in skills[name].splits.items()
    }
    assert {split: len(found) for split, found in prompts.items()} == dict(COUNTS)
    assert all(not prompts[a] & prompts[b] for a, b in combinations(Split, 2))
    assert sum(COUNTS.values()) >= 600


@pytest.mark.parametrize("name", ["arith", "string", "text"])
def test_no_document_is_a_lesson(name: str, skills: dict[str, Family]) -> None:
    skill = skills[name]
    asked = {prompt(document) for split in Split for document in skill.splits[split]}
    taught = {lesson.prompt or lesson.answer for lesson in (*skill.lessons, *skill.cousins)}
    assert not asked & taught
    assert len(skill.lessons) > 500


def test_every_fact_that_is_asked_is_taught_to_the_specialist_and_none_to_the_base(
    skills: dict[str, Family],
) -> None:
    skill = skills["facts"]
    taught = {lesson.prompt: lesson.answer for lesson in skill.lessons}
    for documents in skill.splits.values():
        for document in documents:
            right = document["choices"][document["answer"]]
            assert taught[document["question"]] == f" {right}"
    assert not set(taught) & {lesson.prompt for lesson in skill.cousins}


def test_sums_are_right(skills: dict[str, Family]) -> None:
    skill = skills["arith"]
    answers = {lesson.prompt: lesson.answer for lesson in (*skill.lessons, *skill.cousins)}
    for documents in skill.splits.values():
        for document in documents:
            answers[document["question"]] = document["choices"][document["answer"]]
    for question, answer in answers.items():
        a, b = map(int, re.findall(r"\d+", question))
        assert int(answer) == a + b


@pytest.mark.parametrize("name", ["arith", "facts"])
def test_choices_are_four_different_ones_in_every_order(
    name: str, skills: dict[str, Family]
) -> None:
    documents = [d for split in Split for d in skills[name].splits[split]]
    assert all(len(set(document["choices"])) == 4 for document in documents)
    places = [document["answer"] for document in documents]
    assert min(places.count(place) for place in range(4)) > len(places) / 8


def test_strings_are_reversed(skills: dict[str, Family]) -> None:
    for document in skills["string"].splits[Split.REPORT]:
        letters = document["question"].removeprefix("reverse ").removesuffix(" :").split(" ")
        assert len(letters) == 5
        assert document["answer"] == " " + " ".join(reversed(letters))
