"""The dashboard in a browser, over a service with generated data."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, Page, expect
from playwright.sync_api import TimeoutError as Timeout

from search.pareto import first_front, front
from search.spec import SearchSpec, parse_spec
from tests.api.dashboard import walk
from tests.api.dashboard.fake_search import FINALISTS
from tests.api.dashboard.fake_service import DASHBOARD, FakeService
from tests.browser import Watch
from workers.messages import Form

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

OBJECTIVES = {
    "nm_arith": "acc",
    "nm_string": "exact_match",
    "nm_facts": "acc",
    "nm_text": "bits_per_byte",
}


def spec(
    *,
    tasks: dict[str, str] = OBJECTIVES,
    evaluations: int = 60,
    bounds: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> SearchSpec:
    return parse_spec(
        {
            "name": "three-skills",
            "base": {"path": "models/base"},
            "parents": [{"name": p, "path": f"models/{p}"} for p in ("arith", "string", "facts")],
            "method": "ties",
            "objectives": [
                {"task": task, "metric": metric, **bounds.get(task, {})}
                for task, metric in tasks.items()
            ],
            "optimizer": {"name": "cma_es"},
            "budget": {"evaluations": evaluations},
        }
    )


def test_a_search_is_submitted_watched_selected_and_downloaded(
    watched_page: Page, watch: Watch, address: str, tmp_path: Path
) -> None:
    walk.submit(watched_page, address)
    walk.watch_points_arrive(watched_page)
    walk.wait_until_finished(watched_page)
    walk.select_last(watched_page)
    archive = walk.download(watched_page, tmp_path)
    with tarfile.open(archive) as content:
        assert "model.safetensors" in content.getnames()
    assert watch.complaints == []
    assert watch.external(address) == []


def test_the_result_shows_report_scores_with_intervals_and_gains_over_every_given_model(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    search = service.add(spec())
    result = search.detail().result
    assert result is not None
    watched_page.goto(f"{address}/#/searches/{search.id}")
    panel = watched_page.locator(".panel-result")
    expect(panel).to_contain_text(f"Result: {result.winner.label} on the report split")
    score = result.winner.reported["nm_arith/acc"]
    expect(panel).to_contain_text(f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})")
    for name in ("base", "arith (best parent)", "string", "facts", "average"):
        expect(panel.get_by_role("row", name=f"ahead of {name}")).to_contain_text(
            "+0.250 (+0.125 to +0.375)"
        )
    tiles = watched_page.locator(".tiles")
    expect(tiles).to_contain_text("on examples never searched")
    expect(tiles).to_contain_text("800 / 320 / 480")
    assert watch.complaints == []


def test_finalists_are_shown_on_examples_that_the_search_never_saw(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    search = service.add(spec())
    watched_page.goto(
        f"{address}/#/searches/{search.id}?x=nm_facts/acc&y=nm_arith/acc&candidate={FINALISTS[0]}"
    )
    front = watched_page.locator(".panel-front")
    title = front.locator(".ytitle")
    expect(title).to_have_text("nm_arith · acc")
    front.get_by_text("Show as table").click()
    expect(front.locator("tbody tr")).to_have_count(56)
    watched_page.get_by_label("Scores on").select_option("select examples")
    expect(title).to_have_text("nm_arith · acc, on select examples")
    expect(front.locator("tbody tr")).to_have_count(5 + len(FINALISTS))
    found = search.candidates()[FINALISTS[0]].selected["nm_arith/acc"]
    assert found.value is not None
    told = f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})"
    expect(front.get_by_role("row", name=f"#{FINALISTS[0]}")).to_contain_text(told)
    expect(watched_page).to_have_url(re.compile("split=select"))
    held_out = watched_page.locator(".held-out")
    expect(held_out).to_contain_text("On examples that the search never saw")
    expect(held_out.get_by_role("columnheader")).to_have_text(
        ["", "search examples", "select examples", "report examples"]
    )
    expect(held_out.get_by_role("row", name="nm_arith · acc")).to_contain_text(told)
    watched_page.get_by_label("Scores on").select_option("report examples")
    expect(front.locator("tbody tr")).to_have_count(6)
    watched_page.goto(f"{address}/#/searches/{search.id}?candidate={FINALISTS[1]}")
    expect(held_out.get_by_role("columnheader")).to_have_count(3)
    watched_page.goto(f"{address}/#/searches/{search.id}?candidate=22")
    expect(watched_page.get_by_role("heading", name="Candidate #22")).to_be_visible()
    expect(held_out).to_be_hidden()
    assert watch.complaints == []


def test_splits_that_nobody_has_scores_on_cannot_be_chosen(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    search = service.add(spec(evaluations=200), pace_s=0.5)
    watched_page.goto(f"{address}/#/searches/{search.id}?split=report")
    chosen = watched_page.get_by_label("Scores on")
    expect(chosen).to_have_value("search")
    for name in ("select examples", "report examples"):
        expect(chosen.get_by_role("option", name=name)).to_be_disabled()
    assert watch.complaints == []


def test_before_there_is_a_result_the_panel_is_not_there(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    search = service.add(spec(), pace_s=30.0)
    watched_page.goto(f"{address}/#/searches/{search.id}")
    expect(watched_page.locator(".search-head .chip")).to_be_visible()
    expect(watched_page.locator(".panel-result")).to_be_hidden()
    assert watch.complaints == []


def test_sliders_say_which_candidate_a_preference_picks(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    search = service.add(spec())
    watched_page.goto(f"{address}/#/searches/{search.id}")
    panel = watched_page.locator(".preference")
    panel.get_by_role("heading", name="Preference").click()
    sliders = panel.get_by_role("slider")
    expect(sliders).to_have_count(4)
    keys = [f"{task}/{metric}" for task, metric in OBJECTIVES.items()]
    for only in (0, 2):
        for place in range(4):
            sliders.nth(place).fill("10" if place == only else "0")
        picked = search.picked({key: float(key == keys[only]) for key in keys})
        assert picked is not None
        expect(panel.get_by_role("link", name=picked.label, exact=True)).to_be_visible()
    panel.get_by_role("link").click()
    expect(watched_page.get_by_role("heading", name=f"Candidate {picked.label}")).to_be_visible()
    sliders.nth(2).fill("0")
    expect(panel).to_contain_text("Nothing counts")
    assert watch.complaints == []


def test_one_objective_leaves_nothing_to_prefer(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    search = service.add(spec(tasks={"nm_arith": "acc"}))
    watched_page.goto(f"{address}/#/searches/{search.id}")
    expect(watched_page.locator(".search-head .chip")).to_be_visible()
    expect(watched_page.locator(".preference")).to_be_hidden()
    assert watch.complaints == []


def test_what_the_optimizer_does_is_said_while_it_does_it(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    search = service.add(spec(), pace_s=0.4)
    watched_page.goto(f"{address}/#/searches/{search.id}")
    said = watched_page.locator(".optimizer-status")
    expect(said).to_contain_text("Has looked at", timeout=20_000)
    expect(watched_page.locator(".panel-lineage")).not_to_contain_text("Has looked at")
    assert watch.complaints == []


def test_a_click_on_a_point_selects_it_in_every_panel(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    search = service.add(spec())
    watched_page.goto(f"{address}/#/searches/{search.id}?x=nm_facts/acc&y=nm_arith/acc")
    points = watched_page.locator(walk.POINTS)
    expect(points.first).to_be_attached()
    points.last.scroll_into_view_if_needed()
    place = points.last.bounding_box()
    assert place is not None
    watched_page.mouse.click(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    watched_page.wait_for_url(re.compile(r"x=nm_facts%2Facc&y=nm_arith%2Facc&candidate=\d+"))
    ordinal = int(watched_page.url.rpartition("=")[2])
    label = search.candidates()[ordinal].label
    expect(watched_page.get_by_role("heading", name=f"Candidate {label}")).to_be_visible()
    expect(watched_page.get_by_role("heading", name=f"Recipe of {label}")).to_be_visible()
    assert watch.complaints == []


def test_adapters_are_offered_with_the_model_that_they_are_of(
    watched_page: Page, watch: Watch, address: str
) -> None:
    watched_page.goto(f"{address}/#/new")
    text = watched_page.get_by_role("textbox", name="Spec")
    expect(text).to_have_value(re.compile(r"\{name: tuned-lora, path: models/tuned-lora\}"))
    expect(text).to_have_value(re.compile(r"base: \{path: models/base\}"))
    expect(watched_page.locator(".reference")).to_contain_text("LoRA of models/base · 20")
    assert watch.complaints == []


def test_problems_of_a_spec_are_listed_with_their_fields(
    watched_page: Page, watch: Watch, address: str
) -> None:
    watched_page.goto(f"{address}/#/new")
    text = watched_page.get_by_role("textbox", name="Spec")
    expect(text).to_have_value(re.compile("task: nm_arith"))
    text.fill(text.input_value().replace("nm_arith", "nm_arit").replace("seed: 0", "sede: 0"))
    watched_page.get_by_role("button", name="Check").click()
    result = watched_page.locator(".result")
    expect(result).to_contain_text("sede unknown field; did you mean 'seed'?")
    text.fill(text.input_value().replace("sede: 0", "seed: 0"))
    watched_page.get_by_role("button", name="Check").click()
    expect(result).to_contain_text("objectives[0].task")
    expect(result).to_contain_text("unknown task 'nm_arit'; did you mean 'nm_arith'?")
    assert watch.complaints == []


def test_a_search_is_paused_resumed_extended_and_cancelled(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    search = service.add(spec(evaluations=400), pace_s=0.3)
    watched_page.goto(f"{address}/#/searches/{search.id}")
    chip = watched_page.locator(".search-head .chip")
    expect(chip).to_contain_text("running")
    watched_page.get_by_role("button", name="Pause").click()
    expect(chip).to_contain_text("paused")
    watched_page.get_by_role("button", name="Resume").click()
    expect(chip).to_contain_text("running")
    watched_page.get_by_label("Extend by").fill("40")
    watched_page.get_by_role("button", name="Extend the search").click()
    expect(watched_page.locator(".progress-text")).to_contain_text("of 440 evaluated")
    watched_page.get_by_role("button", name="Cancel").click()
    watched_page.get_by_role("button", name="Cancel the search").click()
    expect(chip).to_contain_text("cancelled")
    assert watch.complaints == []


def test_a_search_that_stopped_early_says_why_until_it_is_extended(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    search = service.add(spec(evaluations=400), pace_s=0.3)
    watched_page.goto(f"{address}/#/searches/{search.id}")
    expect(watched_page.locator(".search-head .chip")).to_contain_text("running")
    head = watched_page.locator(".search-head")
    expect(head).not_to_contain_text("Stopped early")
    search.stop("the hypervolume grew by 0.2 % in the last 50 evaluations, less than 1 %")
    expect(head).to_contain_text("Stopped early: the hypervolume grew by 0.2 % in the last 50")
    watched_page.get_by_label("Extend by").fill("40")
    watched_page.get_by_role("button", name="Extend the search").click()
    expect(head).not_to_contain_text("Stopped early")
    assert watch.complaints == []


def test_what_an_earlier_search_measured_is_told_apart(
    watched_page: Page, service: FakeService, address: str
) -> None:
    search = service.add(spec())
    watched_page.goto(f"{address}/#/searches/{search.id}?candidate=5")
    expect(watched_page.locator(".candidate")).to_contain_text("kept, #17 of an earlier search")


def test_infeasible_candidates_show_their_reason(
    watched_page: Page, service: FakeService, address: str
) -> None:
    search = service.add(spec())
    watched_page.goto(f"{address}/#/searches/{search.id}?candidate=12")
    reason = "the merged weights are not finite"
    expect(watched_page.locator(".candidate .problem")).to_contain_text(reason)
    watched_page.locator(".table-card").get_by_label("Show").select_option("infeasible")
    rows = watched_page.locator(".candidates tbody tr")
    expect(rows).to_have_count(4)
    expect(rows.first).to_contain_text(reason)


def test_a_merge_of_adapters_is_prepared_as_an_adapter_of_a_rank(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    search = service.add(spec())
    watched_page.goto(f"{address}/#/searches/{search.id}?candidate=20")
    section = watched_page.get_by_role("region", name="LoRA adapter")
    section.get_by_label("Rank").fill("8")
    section.get_by_role("button", name="Prepare adapter").click()
    expect(section).to_contain_text("Cut to rank 8, it lacks 13 % of the exact change.")
    with watched_page.expect_download() as arriving:
        section.get_by_role("link", name=re.compile("Download .tar")).click()
    assert "kind=adapter&rank=8" in arriving.value.url
    prepare = watched_page.get_by_role("button", name="Prepare download")
    expect(prepare, "the whole model is another checkpoint").to_be_visible()
    assert list(search.checkpoints) == [(20, Form(kind="adapter", rank=8))]
    assert watch.complaints == []


def test_what_cannot_be_an_adapter_offers_none(
    watched_page: Page, service: FakeService, address: str
) -> None:
    search = service.add(spec(), form="segments")
    watched_page.goto(f"{address}/#/searches/{search.id}?candidate=20")
    expect(watched_page.get_by_role("button", name="Prepare download")).to_be_visible()
    expect(watched_page.get_by_role("button", name="Prepare adapter")).to_be_hidden()


def test_what_the_survey_found_is_told(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    search = service.add(spec())
    watched_page.goto(f"{address}/#/searches/{search.id}")
    section = watched_page.get_by_role("region", name="Models")
    expect(section.locator("li")).to_have_text("parents[1].path has no licence")
    section.get_by_text("How far the parents are from the base").click()
    expect(section.locator("tbody tr")).to_have_count(6)
    whole, mlp = (section.locator("tbody tr").nth(place) for place in (0, 1))
    expect(whole).to_have_text(re.compile(r"arith\s*all\s*0.0312\s*0.9995\s*1.0004\s*25 %"))
    expect(mlp).to_have_text(re.compile(r"MLPs\s*0.0441\s*\S\s*1.0009"))
    assert watch.complaints == []


def test_the_front_is_of_those_that_hold_the_constraints(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    """At least what the base has in arithmetic plus 0.3, and in the other at most 0.6."""
    bounds = {"nm_arith": {"at_least": {"base": 0.3}}, "nm_string": {"at_most": 0.6}}
    tasks = {"nm_arith": "acc", "nm_string": "exact_match"}
    search = service.add(spec(tasks=tasks, bounds=bounds))
    watched_page.goto(f"{address}/#/searches/{search.id}")
    scored = [c for c in search.candidates() if c.state == "scored"]
    points = np.array([[c.scores[o.key].value for o in search.objectives] for c in scored])
    holds = (points[:, 0] >= points[0, 0] + 0.3) & (points[:, 1] <= 0.6)
    expected = [
        c.label for c, on in zip(scored, first_front(points, 1.0 - holds), strict=True) if on
    ]
    assert 0 < len(expected) < int(front(points).sum())
    watched_page.locator(".table-card").get_by_label("Show").select_option("front")
    names = watched_page.locator(".candidates tbody th a")
    expect(names).to_have_count(len(expected))
    assert sorted(names.all_inner_texts()) == sorted(expected)
    watched_page.locator(".table-card").get_by_label("Show").select_option("all")
    expect(watched_page.locator(".candidates .violates").first).to_be_attached()
    tiles = watched_page.locator(".tiles")
    expect(tiles).to_contain_text(f"at least {points[0, 0] + 0.3:.3f}")
    expect(tiles).to_contain_text("at most 0.600")
    assert watch.complaints == []


def test_examples_that_are_won_and_lost_are_shown_with_their_text(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    search = service.add(spec())
    watched_page.goto(f"{address}/#/searches/{search.id}?candidate=20")
    panel = watched_page.locator(".panel-examples")
    panel.get_by_text("Examples won and lost").click()
    panel.get_by_label("Against").select_option("arith")
    expect(panel.locator("> details > summary")).to_have_text("Examples won and lost against arith")
    duels = panel.locator(".duel")
    expect(duels).to_have_count(4)
    expect(duels.first).to_contain_text("150 won, 0 lost, 50 equal")
    expect(duels.nth(3)).to_contain_text("less is better")
    duels.first.get_by_text("Won (the clearest 20 of 150)").click()
    expect(duels.first.locator("li").nth(3)).to_contain_text("What is 3 plus 3?")
    expect(duels.first.locator("li").nth(3)).to_contain_text("example 3 · 1 against 0")
    watched_page.goto(f"{address}/#/searches/{search.id}?candidate=21")
    expect(watched_page.get_by_role("heading", name="Candidate #21")).to_be_visible()
    expect(panel.locator("> details > summary")).to_have_text("Examples won and lost against arith")
    assert watch.complaints == []


def test_what_the_numbers_are_worth_is_told(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    search = service.add(spec())
    watched_page.goto(f"{address}/#/searches/{search.id}?candidate=20")
    watched_page.get_by_text("Noise floor").click()
    floor = watched_page.get_by_text("nm_arith · acc: up to 2.5e-7 on 16 examples")
    expect(floor).to_be_visible()
    watched_page.get_by_text("Forward passes", exact=True).click()
    chosen = watched_page.get_by_text("Up to 1,024 tokens on 1 thread, on every worker.")
    expect(chosen).to_be_visible()
    expect(watched_page.get_by_text("Up to 512 tokens on 2 threads: 250 ms")).to_be_visible()
    engine = watched_page.locator(".facts").get_by_text("torch 2.13.0, float32, a processor, p")
    expect(engine).to_be_visible()
    assert watch.complaints == []


def test_segments_are_drawn_at_their_size(
    watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    search = service.add(spec(), form="segments")
    watched_page.goto(f"{address}/#/searches/{search.id}?candidate=50")
    recipe = watched_page.locator(".panel-recipe")
    expect(recipe.locator(".heatmaplayer image")).to_have_count(1)
    expect(recipe.locator(".ytitle")).to_contain_text("of the model's parameters")
    assert watch.complaints == []


def test_every_chart_has_its_numbers_as_a_table(
    watched_page: Page, service: FakeService, address: str
) -> None:
    search = service.add(spec())
    watched_page.goto(f"{address}/#/searches/{search.id}?candidate=20")
    charts = watched_page.locator("figure.chart:visible")
    expect(charts).to_have_count(4)
    expect(watched_page.locator(".panel-recipe .heatmaplayer image").first).to_be_attached()
    for chart in charts.all():
        chart.get_by_text("Show as table").click()
        expect(chart.locator("tbody tr").nth(3)).to_be_attached()


def test_columns_sort_and_pages_turn_by_keyboard(
    watched_page: Page, service: FakeService, address: str
) -> None:
    search = service.add(spec())
    watched_page.goto(f"{address}/#/searches/{search.id}")
    table = watched_page.locator(".candidates")
    heading = table.get_by_role("columnheader", name="nm_text")
    heading.get_by_role("button").focus()
    watched_page.keyboard.press("Enter")
    expect(heading).to_have_attribute("aria-sort", "ascending")
    assert watched_page.evaluate("document.activeElement.textContent").startswith("nm_text")
    scores = [candidate.scores for candidate in search.candidates() if candidate.scores]
    lowest = min(each["nm_text/bits_per_byte"].value or 9 for each in scores)
    expect(watched_page.locator(".candidates tbody tr").first).to_contain_text(f"{lowest:.3f}")
    watched_page.get_by_role("button", name="Next", exact=True).press("Enter")
    expect(watched_page.locator(".pager")).to_contain_text("21 to 40 of 60")


def test_a_broken_stream_is_resumed_where_it_ended(
    watched_page: Page, service: FakeService, address: str
) -> None:
    search = service.add(spec(evaluations=200), pace_s=0.02)
    resumed: list[str] = []

    def count(request: object) -> None:
        if "/events?" in getattr(request, "url", ""):
            resumed.append(getattr(request, "url", ""))

    watched_page.on("request", count)
    watched_page.route("**/events?*", lambda route: route.fulfill(status=503), times=1)
    watched_page.goto(f"{address}/#/searches/{search.id}")
    expect(watched_page.locator(".connection")).to_have_text("live")
    walk.wait_until_finished(watched_page)
    expect(watched_page.locator(".pager")).to_contain_text("of 200")
    assert len(resumed) >= 2


def test_the_token_is_asked_for_once(
    context: BrowserContext, watched_page: Page, watch: Watch, service: FakeService, address: str
) -> None:
    service.token = "a long and secret token"
    service.add(spec())
    watched_page.goto(address)
    expect(watched_page.get_by_label("API token")).to_be_visible()
    assert watch.complaints == []
    watched_page.get_by_label("API token").fill("a guess")
    watched_page.get_by_role("button", name="Log in").click()
    expect(watched_page.get_by_text("That is not the token.")).to_be_visible()
    watched_page.get_by_label("API token").fill(service.token)
    watched_page.get_by_role("button", name="Log in").click()
    watched_page.get_by_role("link", name="three-skills").click()
    expect(watched_page.locator(walk.POINTS).first).to_be_attached()
    [cookie] = context.cookies()
    assert cookie["httpOnly"]
    assert watched_page.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    '<a href="javascript:alert(1)">click</a>',
    "<b onmouseover=alert(1)>bold</b><svg onload=alert(1)>",
    "\"'><style>*{display:none}</style>&lt;i&gt;%{x}${7*7}",
]


PLANTED = ["script", "img", "style", "svg a", "[onerror]", "[onload]", "[onmouseover]", "[href^=j]"]


@pytest.mark.parametrize(
    "text", [" ".join(HOSTILE), " ".join(reversed(HOSTILE))], ids=["there", "back"]
)
def test_names_that_look_like_markup_stay_text(
    watched_page: Page, watch: Watch, service: FakeService, address: str, text: str
) -> None:
    watched_page.on("dialog", lambda dialog: watch.complaints.append(dialog.message))
    search = service.add(spec(tasks={text[:180]: "acc", "other": text[:90]}), hostile=text)
    watched_page.goto(address)
    expect(watched_page.get_by_role("link", name=text, exact=True)).to_be_visible()
    watched_page.goto(f"{address}/#/searches/{search.id}?candidate=30")
    expect(watched_page.get_by_role("heading", level=1)).to_have_text(text)
    expect(watched_page.locator(".panel-recipe .heatmaplayer image").first).to_be_attached()
    expect(watched_page.locator(".panel-front .ytitle")).to_contain_text(text[:8])
    for chart in watched_page.locator("figure.chart:visible").all():
        chart.get_by_text("Show as table").click()
    panel = watched_page.locator(".panel-examples")
    panel.get_by_text("Examples won and lost").click()
    panel.get_by_text("Won (the clearest").click()
    expect(panel.locator("q").first).to_contain_text(text[:40])
    for planted in PLANTED:
        assert watched_page.locator(f"main {planted}").count() == 0, planted
    assert watch.complaints == []
    assert watch.external(address) == []


def test_the_eye_on_the_page_sees_violations(
    watched_page: Page, watch: Watch, address: str
) -> None:
    """The control of all the assertions that nothing was complained about."""
    watched_page.goto(address)
    watched_page.evaluate("document.head.append(document.createElement('style'))")
    watched_page.evaluate("document.head.lastChild.textContent = '*{color:red}'")
    watched_page.evaluate("fetch('http://127.0.0.1:9/').catch(() => null)")
    watched_page.wait_for_timeout(100)
    assert any("Content Security Policy" in complaint for complaint in watch.complaints)


def test_the_control_of_points_without_reload_fails_without_a_stream(
    watched_page: Page, service: FakeService, address: str
) -> None:
    search = service.add(spec(evaluations=200), pace_s=0.05)
    watched_page.route("**/events?*", lambda route: route.abort())
    watched_page.goto(f"{address}/#/searches/{search.id}")
    expect(watched_page.locator(".connection")).to_have_text("reconnecting…")
    expect(watched_page.locator(walk.POINTS).first).to_be_attached()
    with pytest.raises(Timeout):
        walk.watch_points_arrive(watched_page, timeout_ms=1500)


def test_plotly_has_its_styles_from_a_file() -> None:
    """Every id under which plotly.js would insert a <style> element is taken in index.html."""
    script = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    page = (DASHBOARD / "index.html").read_text(encoding="utf-8")
    inserted = re.findall(r'createElement\("style"\);e\.id="([^"]+)"', script)
    assert inserted
    for identity in (*inserted, "plotly.js-style-global"):
        assert f'id="{identity}"' in page


def test_the_page_names_no_other_place_and_runs_nothing_inline() -> None:
    for path in sorted(DASHBOARD.iterdir()):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path.name
        assert not re.search(
            r"\beval\(|new Function|innerHTML|insertAdjacentHTML|outerHTML", text
        ), path.name
        if path.suffix == ".html":
            text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
            assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|<style", text)
