"""The chat template of a checkpoint folder, without loading its tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

from workers.checkpoints.folder import read_json
from workers.checkpoints.headers import Malformed

_PLAIN = "chat_template.jinja"
_IN_JSON = ("chat_template.json", "tokenizer_config.json")
_MAX_BYTES = 64 * 2**20


def chat_template(folder: Path) -> str | None:
    """The text of the template, or of all where there are several; None without any.

    Newer files have it as a file of its own, older ones in the tokenizer's configuration. A file
    that cannot be read has none; it is reported where it is needed.
    """
    try:
        if (folder / _PLAIN).is_file():
            with (folder / _PLAIN).open(encoding="utf-8", errors="replace") as file:
                return file.read(_MAX_BYTES).strip()
        for name in _IN_JSON:
            if (folder / name).is_file() and (text := read_json(folder / name, _MAX_BYTES)):
                template = text.get("chat_template")
                if isinstance(template, str):
                    return template.strip()
                if template:
                    return json.dumps(template, sort_keys=True)
    except (OSError, Malformed):
        return None
    return None


def difference(base: str | None, parent: str | None) -> str | None:
    """What to say of a parent that was trained with another template; None where they agree."""
    if parent is None or parent == base:
        return None
    whose = "the base has none, and so has" if base is None else "the base's goes into"
    return (
        f"has a chat template of its own; {whose} the merged model. Put the one that answers "
        "should follow into the base's folder"
    )
