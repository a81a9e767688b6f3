"""A browser, and an eye on everything that must not happen in it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, expect

# Waiting costs nothing on a fast machine, and a busy one needs it.
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def base_url() -> str | None:
    """None; in place of pytest-playwright's own, which pytest 9.2 warns about."""
    return None


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail(
            "The tests of the dashboard need Chromium, and there is no `chromium` on PATH. "
            "On Debian: apt-get install chromium",
            pytrace=False,
        )
    return {
        **browser_type_launch_args,
        "executable_path": chromium,
        "args": ["--no-sandbox", "--disable-gpu"],
    }


@dataclass
class Watch:
    """What a page said and asked for."""

    complaints: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)

    def on(self, page: Page) -> None:
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("request", self._note)

    def external(self, base_url: str) -> list[str]:
        """Requests that left the service."""
        own = (base_url, "data:", "blob:", "about:")
        return [address for address in self.addresses if not address.startswith(own)]

    def _listen(self, message: ConsoleMessage) -> None:
        # A violation of the Content-Security-Policy is reported as an error, too.
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _note(self, request: Request) -> None:
        self.addresses.append(request.url)


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def watched_page(context: BrowserContext, watch: Watch) -> Page:
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    watch.on(page)
    return page
