"""Whether two checkpoints mean the same by a token id, and which rows belong together if not."""

from __future__ import annotations

import filecmp
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.checkpoints.folder import read_json, some
from workers.checkpoints.headers import Malformed

# Largest tokenizer.json that is read; those of 2026 have up to 35 MB.
_MAX_TOKENIZER_BYTES = 128 * 2**20
_FAST = "tokenizer.json"
_SLOW = ("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model")
# What else decides how text is cut.
_RULES = ("normalizer", "pre_tokenizer")
# Of the base's tokens; with fewer in common, two tokenizers are no variants of one.
_SHARED = 0.5

# Files that a checkpoint's tokenizer consists of, whatever its kind.
_FILES = (
    _FAST,
    *_SLOW,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
# Where transformers puts the templates of a model that has several.
TEMPLATES = "additional_chat_templates"
_TEMPLATE = re.compile(r"[A-Za-z0-9][\w.-]{0,80}\.jinja")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer, as far as two of them can be compared without loading either.

    Args:
        ids: token to id; empty where only whole files can be compared.
        rules: name of a part that decides how text is cut, to its content; they are the same in
            all tokenizers of a family.
        merges: digest of the list of merges.
    """

    ids: Mapping[str, int]
    rules: Mapping[str, str]
    merges: str = ""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where the rows of the base's embeddings lie in those of a parent.

    Args:
        moves: ids of the base with those of the parent, where the two are not equal; -1 where the
            parent has nothing that belongs there. Empty when both have one vocabulary.
        kept: tokens that have one id in both.
        moved: tokens that have another id in the parent.
        missing: tokens that the parent lacks: the base's rows stay.
        dropped: tokens that only the parent has: the merged model has no place for them.
        problems: why nothing can be aligned.
        remerged: whether letters are joined by other merges.
    """

    moves: Mapping[int, int] = field(default_factory=dict)
    kept: int = 0
    moved: int = 0
    missing: int = 0
    dropped: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    remerged: bool = False

    def rows(self, ours: int, theirs: int) -> NDArray[np.int64] | None:
        """For each row of the base's table that of the parent's, -1 to keep the base's.

        None when that is the same row everywhere. Rows behind the tokens (padding) belong to
        those in their place.

        Args:
            ours: rows of the base's table.
            theirs: rows of the parent's.
        """
        index = np.arange(ours)
        for number, other in self.moves.items():
            if 0 <= number < ours:
                index[number] = other
        index[index >= theirs] = -1
        return None if ours <= theirs and np.array_equal(index, np.arange(ours)) else index

    @property
    def summary(self) -> str | None:
        """The plan in words; None where nothing is to be told."""
        if not (self.moved or self.missing or self.dropped or self.remerged):
            return None
        parts = [f"{self.kept} tokens have the base's ids"]
        if self.moved:
            parts.append(f"the rows of {self.moved} are moved to theirs")
        if self.missing:
            parts.append(f"{self.missing} are missing and keep the base's rows")
        if self.dropped:
            parts.append(f"{some(self.dropped)} of its own are left out")
        if self.remerged:
            parts.append("it joins letters by other merges")
        return "its tokenizer differs: " + ", ".join(parts)


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """The tokenizer of a checkpoint folder, or None when it has none.

    Raises:
        Malformed: tokenizer.json cannot be read; the message names it.
    """
    if (folder / _FAST).is_file():
        try:
            return _fast(read_json(folder / _FAST, _MAX_TOKENIZER_BYTES))
        except Malformed as error:
            raise Malformed(f"{_FAST} {error}") from None
    slow = [name for name in _SLOW if (folder / name).is_file()]
    if not slow:
        return None
    return Vocabulary({}, {name: _sha256(folder / name) for name in slow})


def tokenizer_files(folder: Path) -> list[str]:
    """Names of the files that a folder's tokenizer consists of, with all chat templates."""
    templates = sorted(path.name for path in (folder / TEMPLATES).glob("*.jinja"))
    names = (*_FILES, *(f"{TEMPLATES}/{name}" for name in templates if _TEMPLATE.fullmatch(name)))
    return [name for name in names if (folder / name).is_file()]


def alignment(base: Path, parent: Path) -> Alignment:
    """Align the vocabularies of two checkpoint folders by token.

    Where either has no list of tokens, both are taken to have the same.

    Raises:
        Malformed: a tokenizer.json cannot be read; the message names it.
    """
    ours, theirs = base / _FAST, parent / _FAST
    if ours.is_file() and theirs.is_file() and filecmp.cmp(ours, theirs, shallow=False):
        return Alignment()  # not even read: this is the usual case
    mine, other = read_vocabulary(base), read_vocabulary(parent)
    return Alignment() if mine is None or other is None else align(mine, other)


def align(base: Vocabulary, parent: Vocabulary) -> Alignment:
    """Align two vocabularies by token."""
    problems = tuple(_foreign(base, parent))
    if problems or not base.ids or not parent.ids:
        return Alignment(problems=problems)
    used = set(base.ids.values())
    moves = dict.fromkeys(set(parent.ids.values()) - used, -1)
    differing = {n: parent.ids.get(t, -1) for t, n in base.ids.items() if parent.ids.get(t) != n}
    missing = sum(other < 0 for other in differing.values())
    return Alignment(
        moves | differing,
        kept=len(base.ids) - len(differing),
        moved=len(differing) - missing,
        missing=missing,
        dropped=tuple(sorted(parent.ids.keys() - base.ids.keys())),
        remerged=base.merges != parent.merges,
    )


def _foreign(base: Vocabulary, parent: Vocabulary) -> Iterator[str]:
    """Why two tokenizers are not of one family."""
    rules = sorted(base.rules.keys() & parent.rules.keys())
    other = [name for name in rules if base.rules[name] != parent.rules[name]]
    if other:
        yield f"cuts text by other rules ({', '.join(other)})"
    shared = len(base.ids.keys() & parent.ids.keys())
    if base.ids and parent.ids and shared < _SHARED * len(base.ids):
        yield f"has only {shared} of the base's {len(base.ids)} tokens"


def _fast(document: dict[str, Any]) -> Vocabulary:
    model = document.get("model")
    if not isinstance(model, dict):
        raise Malformed("has no model")
    match model.get("vocab"):
        case dict(vocab):
            ids = {str(t): n for t, n in vocab.items() if isinstance(n, int)}
        case list(pieces):
            ids = {str(piece[0]): n for n, piece in enumerate(pieces) if piece}
        case _:
            raise Malformed("has no vocabulary")
    for token in document.get("added_tokens") or ():
        ids[str(token.get("content"))] = int(token.get("id", -1))
    rules = {name: repr(document.get(name)) for name in _RULES}
    rules["model"] = str(model.get("type"))
    merges = hashlib.sha256(repr(_merges(model)).encode()).hexdigest()
    return Vocabulary(ids, rules, merges)


def _merges(model: Mapping[str, Any]) -> list[str]:
    """Merges in one spelling: older files write ``"a b"``, newer ones ``["a", "b"]``."""
    merges = model.get("merges") or ()
    return [m if isinstance(m, str) else " ".join(map(str, m)) for m in merges]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
