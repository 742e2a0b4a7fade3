"""The inspection page in a real browser: it asks nobody but its service, and does what it says."""

import base64
import csv
import io
import re
import sys
import zipfile
from itertools import product
from pathlib import Path

import pytest

from chromium import NIGHT, PAPER, background, expect, needs_chromium, open_chromium, watched_pages

pytest.importorskip("fastapi", reason="needs the extra 'serve'")

import numpy as np
import tifffile
from PIL import Image

from contrast_model import GRAY, N_GOOD, SIZE, Contrast, calibrated, good_spot, pixels, png
from service_parts import KEY
from service_process import Running
from tinydefects.datasets.named_folder import load_named_folder
from tinydefects.decisions.calibration import CALIBRATION_FILE, read_calibration

pytestmark = needs_chromium
PROGRAM = Path(__file__).parent / "contrast_model.py"
DEFECTS = ((40, 50, 2, 255), (60, 20, 5, 0), (61, 25, 3, 10))  # the last two touch: one region of 34 px


@pytest.fixture(scope="module")
def browser():
    with open_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs: three good ones, one with defects, one of 16 bits that no browser shows."""
    folder = tmp_path_factory.mktemp("a line")
    for seed in range(3):
        (folder / f"good {seed}.png").write_bytes(png(pixels(seed, good_spot(seed))))
    (folder / "p defect.png").write_bytes(png(pixels(7, *DEFECTS)))
    deep = pixels(8, (10, 90, 6, 250))[..., 0].astype(np.uint16) * 257
    tifffile.imwrite(folder / "q deep.tiff", deep)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    service = Running(sys.executable, str(PROGRAM), str(tmp_path_factory.mktemp("models")))
    yield service
    service.close()


@pytest.fixture
def open_page(browser, service):
    with watched_pages(browser) as open_address:

        def open_page(**options):
            page = open_address(f"{service.address}/", service.address, accept_downloads=True, **options)
            page.locator("#pick-files:enabled").wait_for()
            return page

        yield open_page


@pytest.fixture
def open_refused(browser):
    """A page, and what its console says of statuses: for what the service refuses."""
    context, said = browser.new_context(), []
    page = context.new_page()
    page.on("console", lambda message: said.extend(re.findall(r"status of (\d+)", message.text) or [message.text]))
    page.set_default_timeout(8000)

    def open_refused(service):
        page.goto(f"{service.address}/")
        return page, said

    yield open_refused
    context.close()


def give(page, folder, *names):
    """Hand photographs to the page, and wait until all are decided."""
    files = sorted(folder.iterdir()) if not names else [folder / name for name in names]
    page.locator("#files").set_input_files(files)
    n = page.locator("#list li").count()
    expect(page.locator("#busy")).to_have_text(f"{n} photograph{'s' * (n != 1)}.")
    expect(page.locator("#verdict .word")).not_to_contain_text("deciding")
    expect(page.locator("#mark-right")).to_be_enabled()  # photograph and map are there


def go_to(page, name):
    page.locator("#list button", has_text=name).click()
    expect(page.locator("#verdict .name")).to_contain_text(name)
    expect(page.locator("#mark-right")).to_be_enabled()  # photograph and map are there


def verdicts(page):
    return page.locator("#list li > button > span:first-child").evaluate_all("all => all.map(one => one.ariaLabel)")


def exported(page):
    """What the page hands over: {path: bytes}."""
    with page.expect_download() as handed:
        page.locator("#export").click()
    with zipfile.ZipFile(handed.value.path()) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def labels(files):
    return {row["photograph"]: row for row in csv.DictReader(io.StringIO(files["labels.csv"].decode()))}


def mask_of(content):
    mask = np.asarray(Image.open(io.BytesIO(content)))
    assert (mask.shape, mask.dtype, set(np.unique(mask)) <= {0, 255}) == (SIZE, np.uint8, True)
    return mask == 255


def test_a_folder_is_decided_and_walked_through_with_the_keyboard(open_page, folder):
    page = open_page()
    give(page, folder)
    assert verdicts(page) == ["good"] * 3 + ["defect"] * 2
    expect(page.locator("#verdict")).to_contain_text("1 of 5 · good 0.png")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#verdict .word")).to_have_text("◆ defect")
    expect(page.locator("#verdict .facts")).to_contain_text("2 regions")
    expect(page.locator("#picture")).to_have_attribute("aria-label", "Photograph 4 of 5, p defect.png: defect")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#verdict .name")).to_contain_text("3 of 5")
    page.locator("#filter").select_option("alarm")
    expect(page.locator("#list-count")).to_have_text("3 of 5")  # the one that is shown stays
    assert page.locator("#scores g").count() == 5


def test_a_folder_is_chosen_with_what_lies_below_it_and_what_is_no_photograph_left_out(open_page, folder, tmp_path):
    for name in ("10.png", "9.png", "below/1.png"):
        (tmp_path / "day" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "day" / name).write_bytes((folder / "good 0.png").read_bytes())
    (tmp_path / "day/notes.txt").write_text("no photograph")
    page = open_page()
    page.locator("#folder").set_input_files(tmp_path / "day")
    expect(page.locator("#busy")).to_have_text("3 photographs.")
    assert page.locator("#list .name").all_inner_texts() == ["day/9.png", "day/10.png", "day/below/1.png"]


DROPPED = """(photograph) => {
  const bytes = Uint8Array.from(atob(photograph), one => one.charCodeAt(0));
  const dropped = new DataTransfer();
  dropped.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
  dropped.items.add(new File(["text"], "dropped.txt"));
  for (const kind of ["dragover", "drop"]) {
    const told = { dataTransfer: dropped, bubbles: true, cancelable: true };
    document.querySelector("#drop").dispatchEvent(new DragEvent(kind, told));
  }
}"""


def test_what_is_dropped_on_the_page_is_decided(open_page, folder):
    page = open_page()
    page.evaluate(DROPPED, base64.b64encode((folder / "p defect.png").read_bytes()).decode())
    expect(page.locator("#verdict")).to_contain_text("1 of 1 · dropped.png")
    expect(page.locator("#verdict .word")).to_have_text("◆ defect")


def three(value):
    """Three digits that matter."""
    return f"{float(f'{value:.3g}'):g}"


def test_regions_and_their_sizes_are_those_of_the_service(open_page, folder, service):
    page = open_page()
    give(page, folder, "p defect.png")
    page.locator("#regions li").first.wait_for()
    told = service.client.post(
        "/models/parts/image", content=(folder / "p defect.png").read_bytes(), headers={"Content-Type": "image/png"}
    ).json()["decision"]["regions"]
    lines = page.locator("#regions .to").all_inner_texts()
    assert len(lines) == len(told) == 2
    for line, region in zip(lines, told, strict=True):
        assert f"{region['diameter_px']:.1f} px ({three(region['diameter_mm'])} mm) across" in line
        assert f"length {region['length_px']:.1f} px ({three(region['length_mm'])} mm)" in line
        assert f"{region['area_px']} px² ({three(region['area_mm2'])} mm²)" in line
        assert f"row {region['peak_row']}, column {region['peak_column']}" in line
    page.keyboard.press("n")  # the first one, brought to the middle
    first = page.locator("#regions .to").first
    expect(first).to_have_attribute("aria-current", "true")
    page.locator("#picture").click(position={"x": 5, "y": 5})
    expect(page.locator("#regions [aria-current]")).to_have_count(0)
    page.locator("#picture").click()
    expect(first).to_have_attribute("aria-current", "true")
    page.locator("#pitch").fill("")
    assert "mm" not in page.locator("#regions").inner_text()
    page.locator("#pitch").fill("0.1")
    expect(page.locator("#regions .to").first).to_contain_text(f"({three(0.1 * told[0]['diameter_px'])} mm)")


SCENES = """async ([width, height, values, extent, seed, least]) => {
  const { findRegions, shownRegions, longest, borderOf } = await import("/page/regions.js");
  const found = shownRegions(findRegions(Float32Array.from(values), width, height, extent), seed, least);
  return found.map(one => [one.row, one.column, one.area, one.peak, longest(one), one.box,
                           borderOf(one.runs).reduce((sum, [x, y, u, v]) => sum + u - x + v - y, 0)]);
}"""


def test_regions_of_any_map_are_those_of_the_package(open_page):
    from tinydefects.decisions.regions import Extent, find_regions, outline

    page, drawn = open_page(), np.random.default_rng(0)
    for (height, width), share, reach in product(
        ((1, 1), (1, 30), (30, 1), (40, 50), (33, 147)), (0.1, 0.4, 0.6), (0, 1, 3)
    ):
        anomaly_map = drawn.random((height, width)).astype(np.float32)
        extent, seed, least = Extent(level=1 - share, good=0.2, patch_px=reach), 1 - share / 2, 2
        expected, _ = find_regions(anomaly_map, extent=extent, seed=seed, min_area_px=least)
        told = [width, height, anomaly_map.ravel().tolist(), extent.model_dump(), seed, least]
        found = page.evaluate(SCENES, told)
        assert len(found) == len(expected)
        for (row, column, area, peak, length, box, border), region in zip(found, expected, strict=True):
            assert (row, column, area, peak) == (*region.peak_at, region.area_px, region.peak)
            x, y, box_width, box_height = region.x_y_width_height
            assert box == [x, y, x + box_width, y + box_height]
            assert length == pytest.approx(region.length_px, rel=1e-9)
            sides = [np.abs(np.diff(np.vstack([one, one[:1]]), axis=0)).sum() for one in outline(region.pixels)]
            assert border == sum(sides)


def test_a_threshold_moved_by_hand_tells_what_it_costs_and_changes_verdicts_at_once(open_page, folder, tmp_path):
    known = calibrated(tmp_path).thresholds.calibration
    page = open_page()
    give(page, folder)
    line = page.locator("#score-line")
    expect(line).to_contain_text(f"{int((known.scores > known.good_up_to).sum())} of {N_GOOD} good parts would alarm")
    page.locator("#score-number").fill("0.16")
    page.keyboard.press("Enter")
    above = int((known.scores > 0.16).sum())
    expect(line).to_contain_text(f"{above} of {N_GOOD} good parts would alarm; with 95 % confidence at most")
    scores = [Contrast().predict(pixels(seed, good_spot(seed))).score for seed in range(3)]
    assert verdicts(page) == ["defect" if one > 0.16 else "good" for one in scores] + ["defect"] * 2
    assert len(set(verdicts(page))) == 2
    expect(page.locator("#command")).to_have_text("tinydefects calibrate parts --image-threshold 0.16")
    page.locator("#score-range").focus()
    page.keyboard.press("End")  # above all good parts
    expect(line).to_contain_text(f"0 of {N_GOOD} good parts would alarm; with 95 % confidence at most 7.22 %")
    go_to(page, "p defect.png")
    expect(page.locator("#regions li")).to_have_count(2)
    page.locator("#peak-number").fill("0.995")
    page.keyboard.press("Enter")
    expect(page.locator("#regions li")).to_have_count(1)  # of the value 0; 255 is 127 / 128 away
    page.locator("#as-calibrated").click()
    expect(page.locator("#regions li")).to_have_count(2)
    assert verdicts(page) == ["good"] * 3 + ["defect"] * 2


def test_marks_become_labels_and_masks_that_the_package_reads(open_page, folder, tmp_path):
    page = open_page()
    give(page, folder)
    page.keyboard.press("r")  # a good part is called good
    expect(page.locator("#mark-told")).to_have_text("Marked: a good part.")
    go_to(page, "good 1.png")
    page.keyboard.press("w")
    expect(page.locator("#mark-told")).to_contain_text("Nothing is shown that could be wrong")
    page.keyboard.press("m")  # a defect was missed: by the keyboard alone
    page.locator("#radius").fill("1.5")
    page.locator("#picture").focus()
    page.keyboard.press("Space")
    begun = [int(one) for one in re.findall(r"\d+", page.locator("#mark-told").inner_text())[:2]]
    for key in ("Shift+ArrowRight", "Enter", "ArrowDown", "ArrowDown", "Enter", "Escape"):
        page.keyboard.press(key)
    go_to(page, "p defect.png")
    page.locator("#regions .false").nth(1).click()  # one region is right, the other a false alarm
    page.keyboard.press("r")
    page.locator("#regions .false").nth(1).click()
    go_to(page, "q deep.tiff")
    page.keyboard.press("w")
    expect(page.locator("#export-told")).to_have_text("4 photographs marked: 2 good, 2 defective.")
    page.locator("#score-number").fill("2")  # what was said stays, whatever is moved later
    page.keyboard.press("Enter")
    files = exported(page)
    rows = labels(files)
    assert {name: (row["label"], row["mark"]) for name, row in rows.items()} == {
        "good 0.png": ("good", "right"),
        "good 1.png": ("defect", "missed"),
        "p defect.png": ("defect", "right"),
        "q deep.tiff": ("good", "wrong"),
    }
    assert begun == pytest.approx([SIZE[0] / 2, SIZE[1] / 2], abs=1)  # the middle of what is in view
    expected = np.zeros(SIZE, dtype=bool)
    for row, column in ((0, 0), (0, 10), (1, 10), (2, 10)):
        top, left = begun[0] + row - 1, begun[1] + column - 1
        expected[top : top + 3, left : left + 3] = True
    np.testing.assert_array_equal(mask_of(files["mask/good 1.png"]), expected)
    low = Contrast().predict(pixels(7, *DEFECTS)).anomaly_map
    first = np.zeros(SIZE, dtype=bool)
    first[60:65, 20:25] = True  # of the highest region, peak 1
    first[61:64, 25:28] = True
    assert low[first].min() > 0.9
    np.testing.assert_array_equal(mask_of(files["mask/p defect.png"]), first)
    for name, content in files.items():
        (tmp_path / "marks" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "marks" / name).write_bytes(content)
    category = load_named_folder("marks", root=tmp_path, held_back=0.0)
    assert sorted(sample.id for sample in category.train) == ["train/good/good 0", "train/good/q deep"]
    read = {Path(sample.id).name: sample.mask() for sample in category.test}
    np.testing.assert_array_equal(read["good 1"], expected)
    np.testing.assert_array_equal(read["p defect"], first)
    assert (tmp_path / "marks/good/q deep.tiff").read_bytes() == (folder / "q deep.tiff").read_bytes()


MARKS = """async cases => {
  const { Mark, Drawing, keyOf } = await import("/page/marks.js");
  const regions = [1, 2].map(row => ({ row, column: 0, runs: [[row, 0, 1]] }));
  return cases.map(([isAlarm, said, nWrong, isDrawn]) => {
    const mark = new Mark();
    mark.said = said;
    for (const one of regions.slice(0, nWrong)) mark.wrong.add(keyOf(one));
    if (isDrawn) {
      mark.drawing = new Drawing(9, 9);
      mark.drawing.stroke(5.5, 5.5, 5.5, 5.5, 0.5, 1);
    }
    mark.keep(regions, isAlarm);
    return [mark.label, mark.defective.map(([row]) => row)];
  });
}"""


def test_a_label_and_its_pixels_follow_from_what_was_said(open_page):
    """Alarm or not, what was said, of two regions in rows 1 and 2 how many are wrong, a pixel drawn in row 5 or not."""
    cases = {
        (True, None, 0, False): ("", [1, 2]),
        (True, "right", 0, False): ("defect", [1, 2]),
        (True, "right", 1, False): ("defect", [2]),
        (True, None, 1, False): ("defect", [2]),
        (True, None, 2, False): ("good", []),
        (True, "right", 2, False): ("defect", []),  # without an outline
        (True, "wrong", 0, False): ("good", []),
        (True, "wrong", 0, True): ("defect", [5]),
        (True, None, 0, True): ("defect", [1, 2, 5]),
        (False, "right", 0, False): ("good", []),
        (False, "wrong", 0, False): ("good", []),
        (False, None, 1, False): ("good", []),
        (False, None, 0, True): ("defect", [5]),
    }
    assert [tuple(one) for one in open_page().evaluate(MARKS, [list(one) for one in cases])] == list(cases.values())


def test_a_drag_draws_and_is_undone_and_the_view_moves_otherwise(open_page, folder):
    page = open_page()
    give(page, folder, "good 0.png")
    page.keyboard.press("1")
    expect(page.locator("#zoom")).to_have_text("100 %")
    page.keyboard.press("+")
    expect(page.locator("#zoom")).to_have_text("200 %")
    box = page.locator("#picture").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y + 1)  # the middle may lie on the edge of two rows
    expect(page.locator("#point")).to_contain_text(f"row {SIZE[0] // 2}, column {SIZE[1] // 2}")
    page.keyboard.press("m")
    for begin in (0, 30):
        page.mouse.move(x + begin, y)
        page.mouse.down()
        page.mouse.move(x + begin + 10, y)
        page.mouse.up()
    expect(page.locator("#list .mark")).to_have_text("marked missed")
    page.keyboard.press("u")
    page.keyboard.press("u")
    expect(page.locator("#list .mark")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(page.locator("#draw-tools")).to_be_hidden()
    page.keyboard.press("h")
    expect(page.locator("#heat")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()


SHOWN = "document.querySelector('#picture').toDataURL('image/png')"


def test_pixels_are_shown_as_they_are_those_of_16_bits_as_well(open_page, folder):
    page = open_page()
    give(page, folder, "q deep.tiff")
    for key in ("h", "o", "1", "+", "+"):
        page.keyboard.press(key)
    expect(page.locator("#zoom")).to_have_text("300 %")
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(page.evaluate(SHOWN).partition(",")[2]))))
    rows, columns = (np.flatnonzero(shown[..., 3].any(axis=axis)) for axis in (1, 0))
    picture = shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1, :3]
    np.testing.assert_array_equal(picture, np.kron(pixels(8, (10, 90, 6, 250)), np.ones((3, 3, 1))))


def test_a_key_is_asked_for_and_good_parts_are_added_with_it(open_refused, folder, tmp_path):
    service = Running(sys.executable, str(PROGRAM), str(tmp_path), KEY)
    path = tmp_path / "parts" / CALIBRATION_FILE
    page, said = open_refused(service)
    for key in ("0123456789abcdef-wrong", KEY):
        page.locator("#key").fill(key)
        page.keyboard.press("Enter")
        if key != KEY:
            expect(page.locator("#key-told")).to_have_text("That is not the key.")
    page.locator("#pick-files:enabled").wait_for()
    give(page, folder, "q deep.tiff")
    page.keyboard.press("w")
    before = page.locator("#in-force").inner_text()
    page.locator("#good-open").click()
    expect(page.locator("#good-marked-told")).to_have_text("the 1 photograph marked good here")
    many = [tmp_path / f"{seed}.png" for seed in range(6)]
    for seed, file in enumerate(many):
        file.write_bytes(png(pixels(50 + seed, (5, 5, 4, GRAY + 60))))
    page.locator("#good-files").set_input_files(many)
    page.locator("#good-add").click()
    expect(page.locator("#good-told")).to_have_text(f"6 good parts added; the thresholds follow from {N_GOOD + 6}.")
    assert page.locator("#in-force").inner_text() != before
    assert len(read_calibration(path).images) == N_GOOD + 6
    assert len(list((tmp_path / "parts/history").iterdir())) == 2  # four at once is the most that is taken
    assert set(said) == {"401"}
    service.close()


def test_a_busy_service_is_waited_for(open_refused, folder, service):
    (page, said), n_refused = open_refused(service), 0

    def refuse_twice(route):
        nonlocal n_refused
        n_refused += 1
        if n_refused > 2:
            return route.continue_()
        return route.fulfill(status=429, headers={"Retry-After": "1"}, json={"detail": "all places are taken"})

    page.locator("#pick-files:enabled").wait_for()
    page.route("**/map", refuse_twice)
    page.locator("#files").set_input_files(folder / "good 0.png")
    expect(page.locator("#busy")).to_have_text("The service is busy; asking again in 1 s.")
    expect(page.locator("#verdict .word")).to_have_text("● good")
    assert (n_refused, said) == (3, ["429", "429"])


def test_what_is_no_photograph_is_told_and_can_be_asked_again(open_refused, folder, service, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    page, said = open_refused(service)
    page.locator("#pick-files:enabled").wait_for()
    page.locator("#files").set_input_files([tmp_path / "bad.png", folder / "good 0.png"])
    expect(page.locator("#verdict .facts")).to_contain_text("not a readable image")
    expect(page.locator("#trouble")).to_contain_text("bad.png: cannot be shown")
    page.locator("#filter").select_option("problem")
    expect(page.locator("#list-count")).to_have_text("1 of 2")
    with page.expect_response("**/map"):
        page.get_by_role("button", name="Ask again").click()
    expect(page.locator("#verdict .facts")).to_contain_text("not a readable image")
    assert set(said) == {"422"}


def test_another_model_decides_everything_anew(open_page, folder):
    page = open_page()
    give(page, folder)
    page.locator("#model").select_option("other")
    expect(page.locator("#in-force")).to_contain_text("nothing is called a defect")
    expect(page.locator("#busy")).to_have_text("5 photographs.")
    assert verdicts(page)[3:] == ["unsure"] * 2


@pytest.mark.parametrize(("scheme", "ground"), [("light", PAPER), ("dark", NIGHT)])
def test_it_fits_a_narrow_screen_in_the_colours_of_its_reader(open_page, folder, scheme, ground):
    page = open_page(width=390, color_scheme=scheme)
    assert background(page) == ground
    give(page, folder)
    go_to(page, "p defect.png")
    page.locator("#regions li").first.wait_for()
    page.keyboard.press("m")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    unnamed = "all => all.filter(one => !one.innerText && !one.ariaLabel && !one.labels?.length).map(one => one.id)"
    assert page.locator("button, input, select").evaluate_all(unnamed) == []


def test_everything_is_reached_with_the_tab_key_and_shows_it(open_page, folder):
    page = open_page()
    give(page, folder, "p defect.png")
    page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        told = page.evaluate(
            "() => { const one = document.activeElement; const style = getComputedStyle(one);"
            " return [one.id, one.className, style.outlineStyle, parseFloat(style.outlineWidth)]; }"
        )
        if told[0] or told[1]:
            assert told[2] == "solid", told
            assert told[3] >= 2, told
        reached |= {told[0], told[1]}
    wanted = {
        "pick-files",
        "pick-folder",
        "picture",
        "heat",
        "score-range",
        "peak-number",
        "mark-missed",
        "to",
        "false",
    }
    assert wanted - reached == set()
    page.locator("#regions .false").nth(1).focus()
    page.keyboard.press("Space")
    expect(page.locator("#regions .false").nth(1)).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#regions .false").nth(1)).to_be_focused()  # though the list was drawn anew
