"""A service of generated data for the dashboard to show."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.dashboard.fake_service import FakeService, served


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def address(service: FakeService) -> Iterator[str]:
    with served(service) as url:
        yield url
