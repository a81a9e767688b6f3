"""How the documents of a task are divided into search, select and report, and put in order.

A seeded draw, stratified by the right answer: the documents of each answer are shuffled, and the
strata laid one after the other are dealt out in a fixed pattern (systematic sampling, Cochran
1977, chapter 8). So each split has its share of the whole to one document, and nearly that of each
answer.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evals.suite import Split

# Half to search, a fifth to select, three tenths to report; spread, so that few have of each.
_PATTERN = tuple(
    {"s": Split.SEARCH, "c": Split.SELECT, "r": Split.REPORT}[letter] for letter in "srcsrsscsr"
)
# An answer is a class when so many documents share it on average; else answers are told apart by
# their length, in fifths.
_SHARED_BY = 5
_FIFTHS = 5


@dataclass(frozen=True, slots=True)
class Content:
    """What a document asks, and what is right.

    Two documents that ask the same are one, whatever else is written in them, for a model that was
    chosen by the one has seen the other.
    """

    question: str
    answer: str


def divided(contents: Sequence[Content], seed: int) -> list[Split]:
    """The split of each document; equal questions share one, wherever they stand.

    Args:
        contents: of the documents, in any order.
        seed: another gives another draw.
    """
    answers = {content.question: content.answer for content in reversed(contents)}
    strata = _strata(answers, seed)
    order = sorted(answers, key=lambda question: (strata[question], _place(question, seed)))
    splits = {question: _PATTERN[n % len(_PATTERN)] for n, question in enumerate(order)}
    return [splits[content.question] for content in contents]


def in_order(contents: Sequence[Content], seed: int) -> list[int]:
    """Places of the documents in the order in which they are asked, which says nothing of them."""
    places = [_place(content.question, seed) for content in contents]
    return sorted(range(len(contents)), key=lambda place: (places[place], place))


def digest(parts: Iterable[object]) -> str:
    """sha256 of plain data, in hex."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\n")
    return sha.hexdigest()


def _place(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{text}".encode()).digest()


def _strata(answers: dict[str, str], seed: int) -> dict[str, bytes]:
    """The stratum of each question, as something to sort by that says nothing else."""
    counts = Counter(answers.values())
    if len(counts) * _SHARED_BY <= len(answers):
        return {question: _place(answer, seed) for question, answer in answers.items()}
    by_length = sorted(answers, key=lambda question: (len(answers[question]), question))
    return {
        question: bytes([_FIFTHS * rank // len(by_length)])
        for rank, question in enumerate(by_length)
    }
