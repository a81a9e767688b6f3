"""Named things that live one to a file: merge methods, optimizers.

Adding a file to the package is all it takes: the registry imports its package at the first look-up.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import threading
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar


class Named(Protocol):
    """Anything with a name that users write."""

    @property
    def name(self) -> str:
        """The name as written in a spec."""


Entry = TypeVar("Entry", bound=Named)


class UnknownName(LookupError):
    """A name that nothing is registered under; the message suggests the nearest known one."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(sorted(known))
        super().__init__(f"unknown {kind} '{name}'; {suggestion(name, self.known)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """A half sentence that leads from a wrong name to a right one."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known: {', '.join(names)}" if names else "none is known"


class Registry(Generic[Entry]):
    """Entries by name, collected from every module of one package.

    Args:
        kind: what an entry is, as a user would call it ("merge method").
        package: dotted name of the package whose modules register themselves when imported.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._entries: dict[str, Entry] = {}
        self._loaded = self._loading = False
        self._lock = threading.RLock()

    def register(self, entry: Entry) -> Entry:
        """Add an entry under its name; usable as a class decorator. A duplicate is a bug."""
        if entry.name in self._entries:
            raise ValueError(f"two {self.kind}s are called '{entry.name}'")
        self._entries[entry.name] = entry
        return entry

    def __getitem__(self, name: str) -> Entry:
        """The entry called ``name``, or UnknownName."""
        self._load()
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownName(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __iter__(self) -> Iterator[Entry]:
        self._load()
        return (self._entries[name] for name in sorted(self._entries))

    def _load(self) -> None:
        if self._loaded:
            return
        # Whoever looks something up meanwhile waits, but for modules that are just being imported.
        with self._lock:
            if self._loaded or self._loading:
                return
            self._loading = True
            try:
                package = importlib.import_module(self._package)
                for module in pkgutil.iter_modules(package.__path__):
                    importlib.import_module(f"{self._package}.{module.name}")
            finally:
                self._loading = False
            self._loaded = True
