"""What a user does on the dashboard, against any service that is given by its address."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

POINTS = ".panel-front .scatterlayer .point"


def submit(page: Page, base_url: str, spec: str | None = None) -> str:
    """Fill the form (with the example that it offers, unless a spec is given); returns the id."""
    page.goto(base_url)
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="New search").click()
    text = page.get_by_role("textbox", name="Spec")
    expect(text).to_have_value(re.compile(r"^objectives:", re.M))
    if spec is not None:
        text.fill(spec)
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("This spec is fine")).to_be_visible()
    expect(page.get_by_text("the budget takes about")).to_be_visible()
    page.get_by_role("button", name="Start the search").click()
    page.wait_for_url(re.compile(r"#/searches/"))
    return page.url.partition("#/searches/")[2].partition("?")[0]


def watch_points_arrive(page: Page, *, timeout_ms: float = 30_000) -> None:
    """See the front grow in the page that is open, which is never loaded again."""
    page.evaluate("window.thePageThatWasOpened = true")
    expect(page.locator(POINTS).first).to_be_attached(timeout=timeout_ms)
    before = page.locator(POINTS).count()
    page.wait_for_function(
        "([points, before]) => document.querySelectorAll(points).length > before + 4",
        arg=[POINTS, before],
        timeout=timeout_ms,
    )
    assert page.evaluate("window.thePageThatWasOpened")


def wait_until_finished(page: Page, *, timeout_ms: float = 60_000) -> None:
    """Until the header says so."""
    expect(page.locator(".search-head .chip")).to_contain_text("finished", timeout=timeout_ms)


def select_last(page: Page) -> int:
    """Select the newest scored candidate by its row; its recipe and lineage appear."""
    row = page.locator(".candidates tr.scored").first
    row.get_by_role("link").click()
    found = re.search(r"candidate=(\d+)", page.url)
    assert found is not None
    ordinal = int(found[1])
    expect(page.get_by_role("heading", name=f"Candidate #{ordinal}")).to_be_visible()
    expect(page.locator(".panel-recipe .heatmaplayer image").first).to_be_attached()
    expect(page.locator(".lineage")).to_contain_text(f"#{ordinal}")
    return ordinal


def download(page: Page, folder: Path, *, timeout_ms: float = 60_000) -> Path:
    """Have the checkpoint of the selected candidate prepared, and download it as one archive."""
    page.get_by_role("button", name="Prepare download").click()
    link = page.get_by_role("link", name=re.compile("Download .tar"))
    expect(link).to_be_visible(timeout=timeout_ms)
    with page.expect_download() as arriving:
        link.click()
    path = folder / "checkpoint.tar"
    arriving.value.save_as(path)
    return path
