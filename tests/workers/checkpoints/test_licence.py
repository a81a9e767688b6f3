"""A licence is what the header of a model card says, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.checkpoints.licence import licence


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: apache-2.0\n---\n# A model", "apache-2.0"),
        ("---\nlicense: 'mit'\n---\n", "mit"),
        ("---\ntags: [merge]\nlicense: cc-by-nc-4.0 # no sales\n---\n", "cc-by-nc-4.0"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", None),
        ("---\n[[[\n---\n", None),
        ("# A model\n---\nlicense: mit\n---\n", None),
        ("---\n" + "[" * 2000 + "\n---\n", None),
    ],
)
def test_licences_are_read_from_model_cards(
    tmp_path: Path, card: str, expected: str | None
) -> None:
    (tmp_path / "README.md").write_text(card)
    assert licence(tmp_path) == expected


def test_a_folder_without_a_card_states_none(tmp_path: Path) -> None:
    assert licence(tmp_path) is None
