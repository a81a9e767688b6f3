"""Whether two checkpoints mean the same by a token id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.folder import read_json, some
from workers.headers import Malformed

# Largest tokenizer.json that is read; those of 2026 have up to 35 MB.
_MAX_TOKENIZER_BYTES = 128 * 2**20
_FAST = "tokenizer.json"
_SLOW = ("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model")
# What else decides how text is cut.
_RULES = ("normalizer", "pre_tokenizer")

# Files that a checkpoint's tokenizer consists of, whatever its kind.
TOKENIZER_FILES = (
    _FAST,
    *_SLOW,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A tokenizer, as far as two of them can be compared without loading either.

    Args:
        ids: token to id; empty where only whole files can be compared.
        rules: name of a part that decides how text is cut, to its content.
    """

    ids: Mapping[str, int]
    rules: Mapping[str, str]


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


def differences(base: Vocabulary, parent: Vocabulary) -> Iterator[str]:
    """What two tokenizers disagree about; tokens that only one of them has are no disagreement."""
    shared = base.ids.keys() & parent.ids.keys()
    moved = [token for token in shared if base.ids[token] != parent.ids[token]]
    if moved:
        token = min(moved, key=lambda t: base.ids[t])
        yield (
            f"gives other ids to {len(moved)} tokens ({some([token])} is {parent.ids[token]}, in "
            f"the base {base.ids[token]})"
        )
    taken = {number: token for token, number in base.ids.items()}
    renamed = [
        token
        for token, number in parent.ids.items()
        if token not in base.ids and number in taken and taken[number] not in parent.ids
    ]
    if renamed:
        yield f"has other tokens under the ids of the base's ({some(renamed)})"
    rules = sorted(base.rules.keys() & parent.rules.keys())
    other = [name for name in rules if base.rules[name] != parent.rules[name]]
    if other:
        yield f"cuts text by other rules ({', '.join(other)})"


def only_in(parent: Vocabulary, base: Vocabulary) -> list[str]:
    """Tokens that the base does not have, at ids that it does not use."""
    used = set(base.ids.values())
    return [t for t, number in parent.ids.items() if t not in base.ids and number not in used]


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
    rules["merges"] = hashlib.sha256(repr(_merges(model)).encode()).hexdigest()
    return Vocabulary(ids, rules)


def _merges(model: Mapping[str, Any]) -> list[str]:
    """Merges in one spelling: older files write ``"a b"``, newer ones ``["a", "b"]``."""
    merges = model.get("merges") or ()
    return [m if isinstance(m, str) else " ".join(map(str, m)) for m in merges]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
