"""Which tasks, groups and tags the YAML files of a folder define.

Looks for the lines that name them and parses nothing else, so that lm-eval's own thirteen thousand
files take seconds, and a broken file is found under its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from evals.task_files import MAX_BYTES

# Folders that lm-eval does not look into.
_IGNORED = frozenset({"__pycache__", ".ipynb_checkpoints"})
_PLAIN = rb"[ \t]*([\"']?)(?P<name>[^\s\"'\[{#&*!|>][^\"'#\r\n]*)\1"
_TASK = re.compile(rb"^[\"']?task[\"']?:" + _PLAIN, re.MULTILINE)
_GROUP = re.compile(rb"^[\"']?group[\"']?:" + _PLAIN, re.MULTILINE)
# A key with a word, a list in brackets, or a list of lines below it.
_LISTED = {
    key: re.compile(rb"^[\"']?%b[\"']?:[^\r\n]*(\r?\n[ \t]*-[^\r\n]*)*" % key, re.MULTILINE)
    for key in (b"tag", b"include")
}


@dataclass(frozen=True, slots=True)
class Tag:
    """A name for several tasks, which says nothing of their scores together."""

    tasks: tuple[str, ...]


def names_in(folder: Path) -> dict[str, Path | Tag]:
    """What the files of a folder and below define; of two with one name, the first counts.

    A tag that is also the name of a task or group means that.
    """
    files: dict[str, Path] = {}
    tags: dict[str, list[str]] = {}
    texts: dict[Path, bytes] = {}
    for path in sorted(folder.rglob("*.yaml"), key=Path.as_posix):
        if not _IGNORED.isdisjoint(path.parts):
            continue
        text = _text(path, texts)
        group = _GROUP.search(text)
        found = group or _TASK.search(text)
        if found is None:
            continue
        name = found["name"].decode(errors="replace").strip()
        if files.setdefault(name, path) == path and group is None:
            for tag in _tags(path, texts, seen=frozenset()):
                tags.setdefault(tag, []).append(name)
    return {tag: Tag(tuple(sorted(tasks))) for tag, tasks in tags.items()} | files


def _tags(path: Path, texts: dict[Path, bytes], *, seen: frozenset[Path]) -> list[str]:
    """Of a file, or else of the last file that it includes and that has any."""
    own = _words(path, b"tag", texts)
    if own or path in seen:
        return own
    for include in reversed(_words(path, b"include", texts)):
        if found := _tags(path.parent / include, texts, seen=seen | {path}):
            return found
    return []


def _words(path: Path, key: bytes, texts: dict[Path, bytes]) -> list[str]:
    match = _LISTED[key].search(_text(path, texts))
    if match is None:
        return []
    try:
        document = yaml.safe_load(match[0].decode(errors="replace"))
    except yaml.YAMLError:  # told when the file itself is read
        return []
    value = next(iter(document.values())) if isinstance(document, Mapping) else None
    return [str(word) for word in (value if isinstance(value, list) else [value]) if word]


def _text(path: Path, texts: dict[Path, bytes]) -> bytes:
    """The beginning of a file; nothing where there is none. Included files are read once."""
    if path not in texts:
        try:
            with path.open("rb") as file:
                texts[path] = file.read(MAX_BYTES)
        except OSError:
            texts[path] = b""
    return texts[path]
