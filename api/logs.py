"""Logging of the service: one line per decision, with its fields."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}
_FILE_BYTES = 10 * 1024 * 1024
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Fields(logging.Formatter):
    """Appends what was given as ``extra`` as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            name: value
            for name, value in record.__dict__.items()
            if name not in _STANDARD and not name.startswith("_")  # Ray stamps every record
        }
        line = super().format(record)
        text = " ".join(f"{name}={value!r}" for name, value in fields.items())
        return f"{line} [{text}]" if text else line


def set_up(folder: Path, *, quiet: bool = False) -> None:
    """Log to stderr and to files in a folder, the oldest of which are dropped.

    Args:
        folder: is made where it does not exist.
        quiet: warnings only on stderr.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = RotatingFileHandler(folder / "nichemerge.log", maxBytes=_FILE_BYTES, backupCount=3)
    stream = logging.StreamHandler()
    stream.setLevel(logging.WARNING if quiet else logging.INFO)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    for handler in (file, stream):
        handler.setFormatter(Fields(_FORMAT))
        root.addHandler(handler)
    # One line for every page of a long poll or asset would drown what is worth reading.
    for noisy in ("uvicorn.access", "httpx", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
