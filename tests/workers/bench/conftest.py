from __future__ import annotations

from pathlib import Path

import pytest

from workers.bench.zoo import Size, write_zoo
from workers.messages import Zoo


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """A base and three parents of 0.3 million parameters."""
    size = Size(2, 128, 192, 1, vocabulary=512)
    folder: Path = tmp_path_factory.mktemp("zoo")
    return write_zoo(folder, size, dtype="float32")
