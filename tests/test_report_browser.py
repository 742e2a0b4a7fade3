"""The report in a real browser: nothing leaves the file, nothing fails, and every control does what it says."""

import pytest

from chromium import NIGHT, PAPER, background, needs_chromium, open_chromium, sync_api, watched_pages
from report_factory import make_realistic_evaluation
from tinydefects.report.evaluation_page import write_report

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser():
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    one = make_realistic_evaluation(n_defects=40, n_exhibits=12)
    other = make_realistic_evaluation("visa/pcb4", n_defects=12, n_exhibits=2, seed=3)
    return {"one": write_report([one], folder / "one.html"), "two": write_report([one, other], folder / "two.html")}


@pytest.fixture
def open_page(browser, reports):
    """Opens a report; at the end nothing may have been asked of the network or said on the console."""
    addresses = {name: path.as_uri() for name, path in reports.items()}
    with watched_pages(browser) as open_address:
        yield lambda name, **options: open_address(addresses[name], addresses[name], **options)


def shown(page, attribute):
    return page.eval_on_selector_all(".card:not([hidden])", f"cards => cards.map(card => card.dataset.{attribute})")


@pytest.mark.parametrize("name", ["one", "two"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_scrolls_sideways(open_page, name, width):
    page = open_page(name, width=width)
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_theme_follows_the_reader_until_the_button_says_otherwise(open_page):
    assert background(open_page("one")) == PAPER
    page = open_page("one", color_scheme="dark")
    assert background(page) == NIGHT
    page.get_by_role("button", name="Light colours").click()
    assert background(page) == PAPER
    page.get_by_role("button", name="Dark colours").click()
    assert background(page) == NIGHT


def test_figures_change_colour_with_the_theme(open_page):
    colour = "getComputedStyle(document.querySelector('.plot text')).fill"
    assert open_page("one").evaluate(colour) != open_page("one", color_scheme="dark").evaluate(colour)


def test_the_filter_shows_the_found_the_missed_and_one_type_alone(open_page):
    page = open_page("one")
    everything = shown(page, "status")
    assert {"found", "missed"} == set(everything)
    page.get_by_role("button", name="Missed").click()
    assert shown(page, "status") == ["missed"] * everything.count("missed")
    page.get_by_role("button", name="Found").click()
    assert shown(page, "status") == ["found"] * everything.count("found")
    page.get_by_role("button", name="All").click()
    kinds = shown(page, "type")
    page.get_by_label("Defect type", exact=True).select_option(kinds[0])
    assert shown(page, "type") == [kinds[0]] * kinds.count(kinds[0])
    assert page.locator("output").inner_text() == f"{kinds.count(kinds[0])} of 12"


def test_the_gallery_starts_with_the_smallest_and_can_be_turned_round(open_page):
    page = open_page("one")
    ascending = shown(page, "diameter")
    assert ascending == sorted(ascending, key=float)
    page.get_by_label("Order").select_option("largest first")
    assert shown(page, "diameter") == ascending[::-1]


def test_the_gallery_works_by_keyboard(open_page):
    page = open_page("one")
    page.get_by_role("button", name="Missed").focus()
    page.keyboard.press("Enter")
    assert set(shown(page, "status")) == {"missed"}
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Defect type"


@pytest.mark.parametrize("width", [390, 1280])
def test_pixels_are_enlarged_a_whole_number_of_times(open_page, width):
    page = open_page("one", width=width)
    page.get_by_role("button", name="Enlarge").first.click()
    assert page.get_by_role("button", name="Shrink").get_attribute("aria-expanded") == "true"
    zooms = page.eval_on_selector_all(
        ".panels svg", "all => all.map(one => one.getBoundingClientRect().width / one.viewBox.baseVal.width)"
    )
    assert len(zooms) == 36
    assert all(zoom == pytest.approx(round(zoom), abs=1e-3) and round(zoom) >= 1 for zoom in zooms)
    assert page.evaluate("getComputedStyle(document.querySelector('.panels image')).imageRendering") == "pixelated"


def test_every_picture_has_a_text_for_those_who_cannot_see_it(open_page):
    page = open_page("one")
    names = page.eval_on_selector_all("[role=img]", "all => all.map(one => one.getAttribute('aria-label'))")
    assert len(names) == 3 + 3 * 12
    assert all(names)


def test_one_category_is_shown_at_a_time_and_the_overview_first(open_page):
    page = open_page("two")
    shown, current = page.locator("section:visible h2"), page.locator("nav [aria-current=page]")
    sync_api.expect(shown).to_have_text(["2 categories"])
    page.locator("#overview").get_by_role("link", name="visa/pcb4").click()
    sync_api.expect(shown).to_have_text(["visa/pcb4"])  # waits: the page hears of its new address a moment later
    sync_api.expect(current).to_have_text("visa/pcb4")
    page.go_back()
    sync_api.expect(shown).to_have_text(["2 categories"])


def test_without_scripts_everything_is_shown_and_no_dead_control(open_page):
    page = open_page("two", java_script_enabled=False)
    assert page.locator("section:visible").count() == 3
    assert page.locator("button:visible").count() == 0


def test_on_paper_every_category_is_printed(open_page):
    page = open_page("two")
    page.emulate_media(media="print")
    assert page.locator("section:visible").count() == 3
    assert page.locator("nav:visible, button:visible").count() == 0
