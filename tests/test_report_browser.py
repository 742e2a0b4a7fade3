"""The report in a real browser: nothing leaves the file, nothing fails, and every control does what it says."""

import pytest

from chromium import NIGHT, PAPER, background, expect, needs_chromium, open_chromium, watched_pages
from report_factory import make_realistic_evaluation
from tinydefects.report.page import write_report

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser():
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    one = make_realistic_evaluation(n_defects=40, n_crops=12)
    other = make_realistic_evaluation("visa/pcb4", n_defects=12, n_crops=2, seed=3)
    return {"one": write_report([one], folder / "one.html"), "two": write_report([one, other], folder / "two.html")}


@pytest.fixture
def open_page(browser, reports):
    """Opens a report; at the end nothing may have been asked of the network or said on the console."""
    addresses = {name: path.as_uri() for name, path in reports.items()}
    with watched_pages(browser) as open_address:
        yield lambda name, **options: open_address(addresses[name], addresses[name], **options)


def open_gallery(open_page, name="one", **options):
    """The page with the gallery in view; crops out of sight are not in the document."""
    page = open_page(name, **options)
    page.locator("#gallery").evaluate("one => one.scrollIntoView()")
    page.locator(".crop").first.wait_for()
    return page


def count(page):
    return int(page.locator("#gallery output").inner_text().split(" of ")[0])


def defects(page):
    """What the page holds of each defect: diameter, type, and whether the one method finds it."""
    return page.evaluate(
        """() => {
          const { fields, defects } = JSON.parse(document.querySelector("#defects").textContent);
          return defects.map(row => Object.fromEntries(fields.map((field, number) => [field, row[number]])))
            .map(one => ({ ...one, found: one.looks[0][1] }));
        }"""
    )


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
    page = open_gallery(open_page)
    every = defects(page)
    for verdict, found in (("missed", False), ("found", True)):
        page.get_by_label("Found or missed").select_option(verdict)
        assert 0 < count(page) == sum(one["found"] is found for one in every) < len(every)
    page.get_by_role("button", name="Reset").click()
    page.get_by_label("Defect type", exact=True).select_option(every[0]["type"])
    assert count(page) == sum(one["type"] == every[0]["type"] for one in every)


def test_the_gallery_of_one_method_asks_nothing_about_several(open_page):
    page = open_gallery(open_page)
    assert page.get_by_label("Missed by", exact=True).count() == 0
    assert page.locator("#shown").count() == 0
    assert page.locator(".crop").first.locator(".panel").count() == 3  # photograph, truth, map


def test_what_opens_the_page_is_shown_large_on_request(open_page):
    page = open_page("one")
    first = page.locator(".telling a").first
    first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("dialog")).to_be_visible()
    largest = max(one["diameter"] for one in defects(page) if not one["found"])
    assert page.locator("#zoom-title").inner_text().endswith(f"{largest:.1f} px")
    page.keyboard.press("Escape")
    page.wait_for_function("document.activeElement.closest('.telling')")
    assert page.evaluate("scrollY") == 0


@pytest.mark.parametrize("width", [390, 1280])
def test_pixels_that_open_the_page_are_enlarged_a_whole_number_of_times(open_page, width):
    page = open_page("one", width=width)
    zooms = page.eval_on_selector_all(
        ".telling svg", "all => all.map(one => one.getBoundingClientRect().width / one.viewBox.baseVal.width)"
    )
    assert len(zooms) == 3 * 5
    assert all(zoom == pytest.approx(round(zoom), abs=1e-3) and round(zoom) >= 1 for zoom in zooms)
    assert page.evaluate("getComputedStyle(document.querySelector('.telling svg')).imageRendering") == "pixelated"


def test_the_words_are_explained_on_the_first_screen(open_page):
    page = open_page("one")
    bottoms = page.eval_on_selector_all(".words dd", "all => all.map(one => one.getBoundingClientRect().bottom)")
    assert len(bottoms) == 5
    assert max(bottoms) < 900


def test_every_picture_has_a_text_for_those_who_cannot_see_it(open_page):
    page = open_page("one")
    names = page.eval_on_selector_all("main [role=img]", "all => all.map(one => one.getAttribute('aria-label'))")
    assert len(names) >= 3 + 3 * 5
    assert all(names)


def test_one_category_is_shown_at_a_time_and_the_overview_leads_to_it(open_page):
    page = open_page("two")
    shown = page.locator(".category:visible h2")
    expect(shown).to_have_text(["mvtec_ad/screw"])
    page.get_by_role("region", name="Overview").get_by_role("link", name="visa/pcb4").click()
    expect(shown).to_have_text(["visa/pcb4"])  # waits: the page hears of its new address a moment later
    page.get_by_label("Category shown").select_option("mvtec_ad/screw")
    expect(shown).to_have_text(["mvtec_ad/screw"])


def test_without_scripts_everything_is_shown_and_no_dead_control(open_page):
    page = open_page("two", java_script_enabled=False)
    assert page.locator(".category:visible").count() == 2
    assert page.locator("button:visible, select:visible").count() == 0


def test_on_paper_every_category_is_printed(open_page):
    page = open_page("two")
    page.emulate_media(media="print")
    assert page.locator(".category:visible").count() == 2
    assert page.locator("nav:visible, button:visible").count() == 0
