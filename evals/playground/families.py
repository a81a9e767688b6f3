"""The skills of the playground: what is asked about each, what teaches it, and its easier cousin.

The base learns the cousins, so that it knows the formats and none of the skills; a specialist
learns one skill. Everything is drawn from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from evals.suite import Split

Document = dict[str, Any]
Item = TypeVar("Item")

COUNTS: Mapping[Split, int] = {Split.SEARCH: 200, Split.SELECT: 200, Split.REPORT: 300}

_ASKED = sum(COUNTS.values())
_LETTERS = "abcdefghij"
_DISTANCES = (-11, -10, -9, -2, -1, 1, 2, 9, 10, 11)
_RELATIONS = ("river", "ruler", "bread")
_ENTITIES, _OTHER_ENTITIES, _REGIONS = 240, 80, 16


@dataclass(frozen=True, slots=True)
class Lesson:
    """One training sequence; the loss is on the answer and the end of text, not on the prompt.

    A lesson without a prompt is plain text: it begins with the start token and all of it counts.
    """

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Family:
    """One skill.

    Args:
        splits: the documents of its lm-eval task; no two splits share one.
        lessons: what teaches the skill; disjoint from the documents, but for facts, which can
            only be learned by heart.
        cousins: what the base is taught instead.
    """

    splits: Mapping[Split, tuple[Document, ...]]
    lessons: tuple[Lesson, ...]
    cousins: tuple[Lesson, ...]


def families(seed: int) -> dict[str, Family]:
    """All four by name; each has a random stream of its own."""
    makers = {"arith": _arith, "string": _string, "facts": _facts, "text": _text}
    return {
        name: maker(np.random.default_rng([seed, place]))
        for place, (name, maker) in enumerate(makers.items())
    }


def _arith(rng: np.random.Generator) -> Family:
    """Sums of two numbers of two digits, without a carry.

    The cousins are sums of two digits, and of two numbers of two digits of which one is round.
    """
    columns = [(a, b) for a in range(10) for b in range(10 - a)]
    pairs = [
        (10 * tens_a + ones_a, 10 * tens_b + ones_b)
        for tens_a, tens_b in columns
        for ones_a, ones_b in columns
        if tens_a and tens_b
    ]
    round_pairs = [(a, b) for a, b in pairs if not (a % 10 and b % 10)]
    asked, taught = _parted(rng, [(a, b) for a, b in pairs if a % 10 and b % 10])
    return Family(
        splits=_split([_sum_document(rng, a, b) for a, b in asked]),
        lessons=tuple(_sum(a, b) for a, b in taught),
        cousins=tuple(_sum(a, b) for a, b in columns + round_pairs),
    )


def _sum(a: int, b: int) -> Lesson:
    return Lesson(f"{a}+{b}=", str(a + b))


def _sum_document(rng: np.random.Generator, a: int, b: int) -> Document:
    """Wrong answers are near misses: a slip in one column or in both."""
    near = [a + b + distance for distance in _DISTANCES if 0 < a + b + distance < 100]
    wrong = rng.choice(near, size=3, replace=False)
    return _choice(rng, f"{a}+{b}=", str(a + b), [str(w) for w in wrong])


def _string(rng: np.random.Generator) -> Family:
    """Five letters reversed; the cousin reverses two to four."""
    words = _distinct(_ASKED + 4000, lambda: _word(rng, 5, 5))
    asked, taught = words[:_ASKED], words[_ASKED:]
    short = [_word(rng, 2, 4) for _ in range(2000)]
    documents = [
        {"question": lesson.prompt, "answer": lesson.answer} for lesson in map(_reversal, asked)
    ]
    return Family(
        splits=_split(documents),
        lessons=tuple(map(_reversal, taught)),
        cousins=tuple(map(_reversal, short)),
    )


def _word(rng: np.random.Generator, shortest: int, longest: int) -> str:
    length = rng.integers(shortest, longest + 1)
    return "".join(rng.choice(list(_LETTERS), size=length))


def _reversal(word: str) -> Lesson:
    return Lesson(f"reverse {' '.join(word)} :", f" {' '.join(reversed(word))}")


def _facts(rng: np.random.Generator) -> Family:
    """Invented facts about invented places, to be learned by heart: each lies in some region.

    River, ruler and bread are those of the region. The cousins are about other places, so that the
    base knows the regions, but not what lies in them.
    """
    names = _distinct(_ENTITIES + _OTHER_ENTITIES + _REGIONS * len(_RELATIONS), lambda: _name(rng))
    places, values = names[: _ENTITIES + _OTHER_ENTITIES], names[_ENTITIES + _OTHER_ENTITIES :]
    regions = rng.integers(_REGIONS, size=len(places))
    facts = [
        (relation, place, values[number * _REGIONS :][:_REGIONS], int(region))
        for place, region in zip(places, regions, strict=True)
        for number, relation in enumerate(_RELATIONS)
    ]
    lessons = [
        Lesson(f"the {relation} of {place} is", f" {known[region]}")
        for relation, place, known, region in facts
    ]
    taught = _ENTITIES * len(_RELATIONS)
    asked = rng.permutation(taught)[:_ASKED]
    return Family(
        splits=_split([_fact_document(rng, lessons[i].prompt, *facts[i][2:]) for i in asked]),
        lessons=tuple(lessons[:taught]),
        cousins=tuple(lessons[taught:]),
    )


def _fact_document(
    rng: np.random.Generator, prompt: str, values: Sequence[str], region: int
) -> Document:
    """Wrong answers are what is true in other regions."""
    wrong = rng.choice([v for v in values if v != values[region]], size=3, replace=False)
    return _choice(rng, prompt, values[region], [str(value) for value in wrong])


def _name(rng: np.random.Generator) -> str:
    consonants, vowels = rng.choice(list("bdfgklmnprstvz"), 2), rng.choice(list("aeiou"), 2)
    return "".join(c + v for c, v in zip(consonants, vowels, strict=True))


_ADJECTIVES = ("old", "brave", "small", "quiet", "hungry", "clever", "tired", "happy")
_PLACES = {
    "fox": ("forest", "cave"),
    "fish": ("lake", "river"),
    "bird": ("tree", "garden"),
    "cow": ("field", "barn"),
    "baker": ("kitchen", "shop"),
    "sailor": ("harbour", "boat"),
    "farmer": ("field", "barn"),
    "teacher": ("school", "garden"),
}
_DOINGS = {"dawn": "wakes", "noon": "works", "dusk": "eats", "night": "sleeps"}


def _text(rng: np.random.Generator) -> Family:
    """Sentences in which the animal predicts the place, and the hour what is done there."""
    sentences = _distinct(_ASKED + 1200, lambda: _sentence(rng))
    asked, taught = sentences[:_ASKED], sentences[_ASKED:]
    lessons = tuple(Lesson("", sentence) for sentence in taught)
    return Family(
        splits=_split([{"text": sentence} for sentence in asked]), lessons=lessons, cousins=lessons
    )


def _sentence(rng: np.random.Generator) -> str:
    hour = str(rng.choice(list(_DOINGS)))
    being = str(rng.choice(list(_PLACES)))
    place = str(rng.choice(_PLACES[being]))
    first, second = rng.choice(_ADJECTIVES, size=2, replace=False)
    return f"at {hour} the {first} {second} {being} {_DOINGS[hour]} in the {place} ."


def _choice(rng: np.random.Generator, question: str, true: str, wrong: Sequence[str]) -> Document:
    """A document of a multiple-choice task, its choices shuffled."""
    choices = [true, *wrong]
    order = rng.permutation(len(choices))
    return {
        "question": question,
        "choices": [choices[i] for i in order],
        "answer": int(np.flatnonzero(order == 0)[0]),
    }


def _parted(rng: np.random.Generator, items: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """As many as are asked, and the rest, at random."""
    shuffled = [items[i] for i in rng.permutation(len(items))]
    return shuffled[:_ASKED], shuffled[_ASKED:]


def _distinct(count: int, draw: Callable[[], str]) -> list[str]:
    """The first ``count`` different draws, in order."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[draw()] = None
    return list(found)


def _split(documents: Sequence[Document]) -> dict[Split, tuple[Document, ...]]:
    """Consecutive stretches of the documents, which are in random order already."""
    ends = np.cumsum(list(COUNTS.values()))
    return {
        split: tuple(documents[end - COUNTS[split] : end])
        for split, end in zip(COUNTS, ends, strict=True)
    }
