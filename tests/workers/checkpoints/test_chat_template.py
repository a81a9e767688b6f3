from __future__ import annotations

import json
from pathlib import Path

import pytest

from workers.checkpoints.chat_template import chat_template, difference


def test_a_template_is_found_wherever_it_is_kept(tmp_path: Path) -> None:
    assert chat_template(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ old }}\n"}))
    assert chat_template(tmp_path) == "{{ old }}"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "{{ between }}"}))
    assert chat_template(tmp_path) == "{{ between }}"
    (tmp_path / "chat_template.jinja").write_text("{{ new }}\n")
    assert chat_template(tmp_path) == "{{ new }}"


def test_several_templates_are_compared_as_one(tmp_path: Path) -> None:
    several = [{"name": "default", "template": "a"}, {"name": "tools", "template": "b"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    assert json.loads(chat_template(tmp_path) or "") == several


@pytest.mark.parametrize("content", ["", "[]", "{", '{"chat_template": null}'])
def test_a_broken_file_has_no_template(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer_config.json").write_text(content)
    assert chat_template(tmp_path) is None


def test_only_a_template_that_a_parent_was_trained_with_and_loses_is_told() -> None:
    assert difference("a", "a") is None
    assert difference("a", None) is None
    assert "the base's goes into the merged model" in (difference("a", "b") or "")
    assert "the base has none" in (difference(None, "b") or "")
