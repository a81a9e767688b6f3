"""The licence that a model card states."""

from __future__ import annotations

import re
from pathlib import Path

_CARD_BYTES = 64 * 1024
_HEADER = re.compile(r"---\n(.*?\n)---\n", re.S)
_LICENCE = re.compile(r"^license:[ \t]*[\"']?([\w.+-]+)", re.M)


def licence(folder: Path) -> str | None:
    """What the header of README.md says, where there is one; None where nothing is stated.

    One line is looked for: a card may come from anywhere, and a whole YAML document can be made to
    take long.
    """
    try:
        with (folder / "README.md").open(encoding="utf-8", errors="replace") as file:
            text = file.read(_CARD_BYTES)
    except OSError:
        return None
    header = _HEADER.match(text)
    stated = _LICENCE.search(header[1]) if header else None
    return stated[1] if stated else None
