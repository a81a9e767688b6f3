import importlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

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


def test_nobody_sees_a_registry_that_is_half_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch takes seconds to import, while the controller and requests look up methods at once."""
    package = tmp_path / "slowly_loaded"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from search.registry import Registry\nthings = Registry('thing', 'slowly_loaded')\n"
    )
    (package / "late.py").write_text(
        "import time\n"
        "from types import SimpleNamespace\n"
        "from slowly_loaded import things\n"
        "time.sleep(0.3)\n"
        "things.register(SimpleNamespace(name='late'))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    things = importlib.import_module("slowly_loaded").things
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: things["late"].name, range(8)))
    assert found == ["late"] * 8
