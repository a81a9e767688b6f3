"""Names of tasks, groups and tags are found without parsing whole files."""

from __future__ import annotations

import textwrap
from pathlib import Path

from evals.task_names import Tag, names_in


def written(folder: Path, text: str, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def test_names_are_found_even_in_broken_files(tmp_path: Path) -> None:
    written(tmp_path, "task: one\n", "1.yaml")
    written(tmp_path, "group: all\ntask:\n  - one\n", "2.yaml")
    written(tmp_path, 'x: [\ntask: "two"  # broken\n', "3.yaml")
    written(tmp_path, "task: one\n", "4.yaml")
    names = names_in(tmp_path)
    assert names == {
        "one": tmp_path / "1.yaml",
        "all": tmp_path / "2.yaml",
        "two": tmp_path / "3.yaml",
    }


def test_tags_list_their_tasks_also_where_an_included_file_says_so(tmp_path: Path) -> None:
    written(tmp_path, "tag: [shared, b]\n", "_template")
    one = written(tmp_path, "include: _template\ntask: one\n", "1.yaml")
    two = written(tmp_path, "task: two\ntag:\n  - shared\n  - c\n", "2.yaml")
    three = written(tmp_path, 'include: _template\n"task": "three"\ntag: d\n', "3.yaml")
    assert names_in(tmp_path) == {
        "one": one,
        "two": two,
        "three": three,
        "shared": Tag(("one", "two")),
        "b": Tag(("one",)),
        "c": Tag(("two",)),
        "d": Tag(("three",)),
    }


def test_a_file_that_includes_itself_ends(tmp_path: Path) -> None:
    path = written(tmp_path, "include: 1.yaml\ntask: one\n", "1.yaml")
    assert names_in(tmp_path) == {"one": path}


def test_names_are_those_of_lm_evals_own_index(tmp_path: Path) -> None:
    import lm_eval
    from lm_eval.tasks._index import Kind, TaskIndex

    folder = Path(str(lm_eval.__file__)).parent / "tasks"
    for name in ("mmlu/default", "arc", "bbh/zeroshot", "blimp", "aclue"):
        index = TaskIndex.build([folder / name])
        ours = names_in(folder / name)
        assert len(index) > 1
        assert ours.keys() == index.keys()
        for entry in index.values():
            if entry.kind is Kind.TAG:
                assert ours[entry.name] == Tag(tuple(sorted(entry.tags)))
            else:
                assert ours[entry.name] == entry.yaml_path
