"""The command line, run in this process."""

from __future__ import annotations

import pytest

from api import cli


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run a command; its exit code, output and complaints."""
    with pytest.raises(SystemExit) as left:
        cli.main([str(argument) for argument in arguments])
    text = capsys.readouterr()
    return left.value.code if isinstance(left.value.code, int) else 0, text.out, text.err
