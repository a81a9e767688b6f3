"""``python -m evals.playground FOLDER``: make a playground and show what merging gains on it."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path

from evals.playground.margin import Bench, Row
from evals.playground.zoo import build
from evals.suite import Split

_COLUMNS = ("arith", "string", "facts", "text", "mean")


def main() -> None:
    """Build, score on the report split, and print a table."""
    parser = ArgumentParser(prog="python -m evals.playground", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--search", type=int, default=0, metavar="N", help="also search a merge, N evaluations"
    )
    arguments = parser.parse_args()
    playground = build(arguments.folder, arguments.seed, progress=_show)
    bench = Bench(playground)
    rows = bench.baselines(Split.REPORT)
    if arguments.search > 0:
        rows["searched"] = bench.score(bench.search(arguments.search), Split.REPORT)
    sys.stdout.write(table(rows))


def table(rows: Mapping[str, Row]) -> str:
    """A Markdown table, a line for every model."""
    lines = [f"| | {' | '.join(_COLUMNS)} |", f"|---|{'---:|' * len(_COLUMNS)}"]
    for name, values in rows.items():
        cells = " | ".join(f"{values[column]:.3f}" for column in _COLUMNS)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines) + "\n"


def _show(model: str, done: float) -> None:
    sys.stderr.write(f"\rtraining {model:<8} {done:4.0%}" + ("\n" if done >= 1 else ""))


if __name__ == "__main__":
    main()
