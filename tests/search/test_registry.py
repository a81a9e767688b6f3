from dataclasses import dataclass

import pytest

from search.registry import Registry, UnknownName


@dataclass(frozen=True)
class Thing:
    name: str


def registry(*names: str) -> Registry[Thing]:
    things: Registry[Thing] = Registry(
        "thing", "email"
    )  # any package whose modules may be imported
    for name in names:
        things.register(Thing(name))
    return things


def test_entries_come_sorted_by_name() -> None:
    assert [thing.name for thing in registry("ties", "linear")] == ["linear", "ties"]


def test_a_typo_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match=r"unknown thing 'linaer'; did you mean 'linear'\?"):
        registry("ties", "linear")["linaer"]


def test_without_a_near_name_all_are_listed() -> None:
    with pytest.raises(UnknownName, match="known: linear, ties"):
        registry("ties", "linear")["zzz"]


def test_two_entries_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two things are called 'ties'"):
        registry("ties", "ties")
