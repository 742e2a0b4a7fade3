"""The page of a benchmark in a real browser: nothing leaves it, nothing fails, every control does what it says."""

from urllib.parse import unquote

import pytest

from chromium import NIGHT, PAPER, background, needs_chromium, open_chromium, watched_pages
from report_factory import write_benchmark
from tinydefects.report.page import write_report

pytestmark = needs_chromium
SKILLS = {("strong", 64): 3.0, ("weak:a=<b>&\"'|", 64): 0.5, ("coarse", 64): 1.5, ("plain", 0): 0.3}
STRONG, WEAK = "strong 64", "weak:a=<b>&\"'| 64"


@pytest.fixture(scope="module")
def browser():
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page whose pictures lie beside it, in a folder with an awkward name."""
    folder = tmp_path_factory.mktemp("a b#%")
    write_benchmark(folder / "results", SKILLS, n_defective=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinydefects.report.crops.LARGEST_EMBEDDED_BYTES", 0)
        return write_report(folder / "results", folder / "all's #1.html", n_resamples=50)


@pytest.fixture
def open_page(browser, report):
    """Opens the page; at the end nothing may have been asked of a network or said on the console."""
    beside = f"{report.parent.as_uri()}/"
    with watched_pages(browser) as open_address:
        yield lambda fragment="", **options: open_address(report.as_uri() + fragment, beside, **options)


def column(page, number):
    return page.eval_on_selector_all(
        "table.sortable >> nth=0 >> tbody tr",
        f"rows => rows.map(row => row.querySelectorAll('td:not([hidden])')[{number}].dataset.value)",
    )


def methods(page):
    return page.locator("table.sortable").first.locator("tbody th").all_inner_texts()


def open_gallery(open_page, **options):
    """The page with the gallery in view; crops out of sight are not in the document."""
    page = open_page(**options)
    page.locator("#gallery").evaluate("one => one.scrollIntoView()")
    page.locator(".crop").first.wait_for()
    return page


def count(page):
    return int(page.locator("#gallery output").inner_text().split(" of ")[0])


def diameters(page):
    texts = page.locator(".crop > button > b").all_inner_texts()
    return [float(text.removesuffix(" px")) for text in texts]


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_never_scrolls_sideways(open_page, width):
    page = open_gallery(open_page, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator(".crop > button").first.click()
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width


def test_the_theme_follows_the_reader_until_the_button_says_otherwise(open_page):
    assert background(open_page()) == PAPER
    page = open_page(color_scheme="dark")
    assert background(page) == NIGHT
    page.get_by_role("button", name="Light colours").click()
    assert background(page) == PAPER


def test_one_limit_rules_table_figures_and_categories(open_page):
    page = open_page()
    before, figures = column(page, 0), "figure:visible svg[aria-label*='against milliseconds']"
    assert page.locator(figures).get_attribute("aria-label").startswith("AUPRO at 5 %")
    page.get_by_role("group", name="False-positive limit", exact=True).get_by_role("button", name="30").click()
    assert column(page, 0) != before
    assert page.locator(figures).get_attribute("aria-label").startswith("AUPRO at 30 %")
    assert page.locator("table.heat thead th").first.inner_text() == "AUPRO Q1@30\N{NO-BREAK SPACE}%"
    values = sorted(map(float, column(page, 0)), reverse=True)
    assert list(map(float, column(page, 0))) == values


def test_a_heading_sorts_and_turns_round(open_page):
    page = open_page()
    name = page.get_by_role("region", name="Leaderboard").get_by_role("button", name="ms", exact=True)
    name.click()
    assert column(page, 9) == sorted(column(page, 9), key=float)
    name.press("Enter")
    assert column(page, 9) == sorted(column(page, 9), key=float, reverse=True)
    heading = page.locator("table.sortable >> nth=0 >> th[aria-sort]")
    assert (heading.count(), heading.get_attribute("aria-sort")) == (1, "descending")
    page.get_by_role("region", name="Leaderboard").get_by_role("button", name="method").click()
    assert methods(page) == sorted(methods(page))


def test_the_table_of_categories_shows_the_metric_asked_for(open_page):
    page = open_page()
    page.get_by_label("Metric in the table").select_option("image AUROC")
    shown = page.locator("table.heat tbody tr").first.locator("td").all_inner_texts()
    values = page.evaluate("JSON.parse(document.querySelector('.heat-values').textContent).image_auroc[0]")
    assert shown == [f"{value:.3f}" for value in values]


def test_a_method_can_be_lit_in_every_figure(open_page):
    page = open_page()
    button = page.locator("[data-light]").first
    button.click()
    number = button.get_attribute("data-light")
    assert button.get_attribute("aria-pressed") == "true"
    page.mouse.move(0, 0)
    lit = page.eval_on_selector_all(".plot [data-method].on", "all => all.map(one => one.dataset.method)")
    assert set(lit) == {number}
    other = f".plot [data-method]:not([data-method='{number}'])"
    page.wait_for_function(f"getComputedStyle(document.querySelector(\"{other}\")).opacity === '0.1'")
    button.click()
    page.mouse.move(0, 0)
    assert page.locator("body.lit").count() == 0


def test_one_set_of_curves_is_shown_at_a_time(open_page):
    page = open_page()
    assert page.locator("[data-pick-of]:visible h3").all_inner_texts() == ["all 2 categories"]
    page.get_by_label("Curves shown").select_option("cloth/twill")
    assert page.locator("[data-pick-of]:visible h3").all_inner_texts() == ["cloth/twill"]


def test_the_gallery_starts_with_the_smallest_and_can_be_turned_round(open_page):
    page = open_gallery(open_page)
    assert diameters(page) == sorted(diameters(page))
    page.get_by_label("Sort").select_option("largest first")
    assert diameters(page) == sorted(diameters(page), reverse=True)


def test_filters_together_show_what_meets_all_of_them(open_page):
    page = open_page()
    rows = page.evaluate(
        """() => {
          const { methods, fields, defects } = JSON.parse(document.querySelector("#defects").textContent);
          return defects.map(row => Object.fromEntries(fields.map((field, number) => [field, row[number]])))
            .map(one => ({ ...one, found: Object.fromEntries(one.looks.map(([n, found]) => [methods[n], found])) }));
        }"""
    )
    assert count(page) == len(rows)
    wanted = [row for row in rows if row["found"][STRONG] and not row["found"][WEAK]]
    page.get_by_label("Found by").select_option(STRONG)
    page.get_by_label("Missed by", exact=True).select_option(WEAK)
    assert 0 < count(page) == len(wanted) < len(rows)
    page.get_by_label("Category", exact=True).select_option("cloth/twill")
    page.get_by_label("Defect type").select_option("pit")
    page.get_by_label("Diameter from").fill("2")
    page.get_by_label("Diameter to").fill("7.5")
    wanted = [row for row in wanted if (row["category"], row["type"]) == ("cloth/twill", "pit")]
    assert count(page) == sum(2 <= row["diameter"] <= 7.5 for row in wanted)
    page.get_by_role("button", name="Reset").click()
    assert count(page) == len(rows)


def test_the_address_keeps_what_was_chosen(open_page):
    page = open_gallery(open_page)
    page.get_by_label("Missed by", exact=True).select_option(WEAK)
    page.get_by_label("Sort").select_option("largest first")
    page.locator("#shown button").nth(2).click()
    page.locator(".crop > button").nth(1).click()
    title, fragment = page.locator("#zoom-title").inner_text(), page.evaluate("location.hash")
    assert f"missed={WEAK}" in unquote(fragment).replace("+", " ")
    again = open_page(fragment)
    assert again.locator("#zoom-title").inner_text() == title
    assert again.get_by_label("Missed by", exact=True).input_value() == WEAK
    pressed = again.eval_on_selector_all("#shown button", "all => all.map(one => one.ariaPressed)")
    assert pressed == ["true", "true", "false", "true"]
    assert count(again) == count(page)


def test_an_address_of_nothing_known_shows_everything(open_page):
    page = open_page("#missed=nobody&sort=no&defect=123&shown=who")
    assert count(page) == count(open_page())
    assert not page.locator("dialog").is_visible()


def test_one_defect_is_walked_through_by_keyboard(open_page):
    page = open_gallery(open_page)
    first = page.locator(".crop > button").first
    first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('.crop').dataset.place") == "1"
    page.keyboard.press("Enter")
    assert page.locator(".zoom-head p").inner_text().endswith(f"2 of {count(page)}")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".zoom-head p").inner_text().endswith(f"3 of {count(page)}")
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    page.wait_for_function("document.activeElement.closest('.crop')?.dataset.place === '2'")


def test_pixels_are_enlarged_a_whole_number_of_times(open_page):
    page = open_gallery(open_page)
    page.locator(".crop > button").first.click()
    zooms = page.evaluate(
        """() => {
          const { fields, defects } = JSON.parse(document.querySelector("#defects").textContent);
          const [height, n] = [defects[0][fields.indexOf("height")], defects[0][fields.indexOf("pictured")].length + 1];
          const of = box => [box.clientHeight / height, parseFloat(box.style.backgroundSize) / n / box.clientWidth];
          return [...document.querySelectorAll("dialog .pixels, .crop:first-child .pixels")].map(of);
        }"""
    )
    assert len(zooms) == 12
    assert all(zoom == round(zoom) >= 2 and across == 1 for zoom, across in zooms)
    assert page.evaluate("getComputedStyle(document.querySelector('.pixels')).imageRendering") == "pixelated"


def test_every_picture_is_loaded_and_has_a_name(open_page):
    page = open_gallery(open_page)
    names = page.eval_on_selector_all("[role=img]", "all => all.map(one => one.getAttribute('aria-label'))")
    assert names
    assert all(names)
    addresses = page.eval_on_selector_all(".pixels", "all => [...new Set(all.map(one => one.style.backgroundImage))]")
    sizes = page.evaluate(
        """addresses => Promise.all(addresses.map(address => new Promise(resolve => {
          const picture = new Image();
          picture.onload = () => resolve(picture.naturalWidth);
          picture.onerror = () => resolve(0);
          picture.src = address.slice(5, -2);
        })))""",
        addresses,
    )
    assert sizes
    assert all(sizes)


def test_only_crops_near_the_view_are_in_the_document(open_page):
    page = open_gallery(open_page, width=390)
    n = count(page)
    assert 0 < page.locator(".crop").count() < n / 2
    page.locator("#crops").evaluate(
        """async crops => {
          while (crops.getBoundingClientRect().bottom > innerHeight) {
            scrollBy({ top: 700, behavior: "instant" });
            await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
          }
        }"""
    )
    page.wait_for_function(f"document.querySelector('.crop[aria-posinset=\"{n}\"]')")
    assert page.locator(".crop").count() < n / 2


def test_without_scripts_every_table_and_figure_is_shown_and_no_dead_control(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("button:visible:not(thead button)").count() == 0
    assert page.locator("select:visible").count() == 0
    assert page.locator("svg[aria-label^='AUPRO at']:visible").count() == 8


def test_on_paper_the_gallery_and_the_controls_stay_away(open_page):
    page = open_page()
    page.emulate_media(media="print")
    assert page.locator("#gallery:visible, nav:visible, .controls:visible").count() == 0
    assert page.locator("table.heat").is_visible()
