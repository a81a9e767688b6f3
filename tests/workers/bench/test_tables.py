from __future__ import annotations

from workers.bench.tables import Row, columns, machine, table


def test_the_table_is_aligned_markdown() -> None:
    lines = table([Row("short", 1.0, "s"), Row("a longer name", 0.123456, "GB/s", "a note")])
    widths = {len(line) for line in lines.splitlines()}
    assert len(widths) == 1
    assert "| a longer name | 0.1235 GB/s | a note     |" in lines


def test_numbers_have_four_digits() -> None:
    assert columns(("method", "ms"), [("ties", 12.34567)]).splitlines() == [
        "| method | ms    |",
        "|--------|-------|",
        "| ties   | 12.35 |",
    ]


def test_the_machine_is_named() -> None:
    assert "cores" in machine()
    assert "torch" in machine()
