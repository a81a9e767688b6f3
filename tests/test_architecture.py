"""The tree says what it promises: imports point one way, foreign libraries have one door each."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("search", "evals", "workers", "api")
DOORS = {
    # mergekit_loop is a script of another environment, which has its own lm_eval.
    "lm_eval": {"evals/harness/", "workers/bench/stock.py", "workers/bench/mergekit_loop.py"},
    "ray": {"workers/ray_fleet.py"},
    "sqlalchemy": {"api/store/"},
    "alembic": {"api/store/"},
}


def imports(path: Path) -> set[str]:
    """Top-level names of all that a module imports, also inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("library", DOORS)
def test_a_foreign_library_is_imported_behind_one_door(library: str) -> None:
    doors = DOORS[library]
    importers = {str(p.relative_to(ROOT)) for p in modules() if library in imports(p)}
    assert importers, f"nothing imports {library}: is the rule outdated?"
    strays = {name for name in importers if not any(name.startswith(door) for door in doors)}
    assert not strays


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_from_api_to_workers_to_evals_to_search(package: str) -> None:
    above = set(PACKAGES[PACKAGES.index(package) + 1 :])
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in (ROOT / package).rglob("*.py")
        for name in imports(path) & above
    }
    assert not wrong


def test_deploy_holds_no_python() -> None:
    assert not list((ROOT / "deploy").rglob("*.py"))


def test_tests_mirror_the_tree() -> None:
    strays = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / "tests" / package).rglob("test_*.py")
        if not (ROOT / path.relative_to(ROOT / "tests")).parent.is_dir()
    ]
    assert not strays
