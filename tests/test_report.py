"""The report: what it claims, what it draws, and that one file is all it needs."""

import io
import math
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from report_factory import make_crop, make_defect, make_evaluation, make_realistic_evaluation
from tinydefects.errors import TinyDefectsError
from tinydefects.metrics.detectability import Detectability
from tinydefects.metrics.records import Interval
from tinydefects.report.crops import choose_panels, colour_scores, encode_crops, outline_path, window_around
from tinydefects.report.figures import diameter_figure, quartile_figure
from tinydefects.report.page import write_report
from tinydefects.report.sections import bin_by_diameter, detection_figure, exact_interval
from tinydefects.report.words import format_rate, format_score, headline
from tinydefects.results.result import Provenance, Result

pytestmark = pytest.mark.slow  # whole pages

SPACE = "\N{NO-BREAK SPACE}"
HOSTILE = '<script>alert("x")</script>&\'/000'


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and its text outside scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self._inside = [], "", ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in {"script", "style"}:
            self.text += data


@pytest.fixture
def no_figures(monkeypatch):
    """Drawing takes most of the time; these tests read the text around the figures."""
    monkeypatch.setattr("tinydefects.report.sections.quartile_figure", lambda *_: "")
    monkeypatch.setattr("tinydefects.report.sections.detection_figure", lambda *_: "")
    monkeypatch.setattr("tinydefects.report.sections.diameter_figure", lambda *_: "")


def with_provenance(evaluation, settings=None):
    provenance = Provenance(
        created="2026-01-01", commit="abc", machine="here", versions={"numpy": "2"}, settings=settings or {"seed": "0"}
    )
    return Result(evaluation=evaluation, provenance=provenance)


def write(tmp_path, *evaluations, **options):
    return write_report(evaluations, tmp_path / "report.html", **options).read_text(encoding="utf-8")


# diameters of 1, 4, 16, 64 pixels of area: 1.13, 2.26, 4.51, 9.03 px
@pytest.mark.parametrize(
    ("fprs", "sentence"),
    [
        (
            (0.5, 0.001, 0.02, 0.0),
            f"2 of 4 defects found at 1{SPACE}% false-positive pixels, among them the only one above 4.6 px in diameter.",  # noqa: E501
        ),
        (
            (0.5, 0.02, 0.01, 0.0),
            f"2 of 4 defects found at 1{SPACE}% false-positive pixels, among them all 2 above 2.3 px in diameter.",
        ),
        (
            (0.0, 0.0, 0.0, 0.02),
            f"3 of 4 defects found at 1{SPACE}% false-positive pixels; the largest missed is 9.0 px across.",
        ),
        (
            (0.0, 0.0, 0.0, 0.01),
            f"All 4 defects found at 1{SPACE}% false-positive pixels; the smallest is 1.1 px across.",
        ),
        (
            (0.2, 0.3, 0.4, 0.5),
            f"None of 4 defects found at 1{SPACE}% false-positive pixels; the largest is 9.0 px across.",
        ),
        ((0.2,), f"The only defect, 1.1 px across, is missed at 1{SPACE}% false-positive pixels."),
        ((), "No defect in 160 images: there is nothing to find."),
    ],
)
def test_the_headline_says_what_the_records_say(fprs, sentence):
    defects = [make_defect(area, fpr) for area, fpr in zip((1, 4, 16, 64), fprs, strict=False)]
    evaluation = make_evaluation(defects)
    assert headline(evaluation) == sentence


def test_a_defect_that_only_rounding_puts_above_the_bound_is_not_claimed():
    # 3.98942 px is missed and 3.99 would round to 4.0: nothing lies above 4.0 px
    missed, found = make_defect(12, 0.5), make_defect(12, 0.0)
    missed, found = replace(missed, diameter_px=3.97), replace(found, diameter_px=3.99)
    evaluation = make_evaluation([missed, found])
    assert headline(evaluation).endswith("the largest missed is 4.0 px across.")


@pytest.mark.parametrize(
    ("rate", "text"), [(0.01, "1"), (0.3, "30"), (0.000344, "0.034"), (0, "0"), (1, "100"), (2e-9, "0.0000002")]
)
def test_rates_are_percent_with_two_digits_and_no_exponent(rate, text):
    assert format_rate(rate) == f"{text}{SPACE}%"


def test_nan_is_a_dash_that_explains_itself_and_zero_is_not():
    assert format_score(0.0) == "0.000"
    assert ">–<" in format_score(math.nan)
    assert "title=" in format_score(math.nan)


def test_bins_are_octaves_with_exact_intervals():
    # 2.26 px lies in 2 to 4 and is found twice of two: 0.025 ** (1 / 2) at least; 1.13 px is missed once of once
    defects = [make_defect(4, 0.0), make_defect(1, 0.5), make_defect(4, 0.01)]
    small, large = bin_by_diameter(defects, [True, False, True])
    assert (small.low_px, small.high_px, small.n_found, small.n_defects) == (1, 2, 0, 1)
    assert small.interval == pytest.approx((0, 0.975))
    assert (large.low_px, large.high_px, large.n_found, large.n_defects) == (2, 4, 2, 2)
    assert large.interval == pytest.approx((math.sqrt(0.025), 1))


def test_each_bound_of_an_exact_interval_leaves_a_fortieth_beyond_what_was_seen():
    low, high = exact_interval(3, 10)

    def chance(counts, share):
        return sum(math.comb(10, n) * share**n * (1 - share) ** (10 - n) for n in counts)

    assert chance(range(3, 11), low) == pytest.approx(0.025)
    assert chance(range(4), high) == pytest.approx(0.025)


def test_the_outline_follows_pixel_borders():
    mask = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]], dtype=bool)
    steps = set(re.findall(r"M\d+ \d+[HV]\d+", outline_path(mask)))
    assert steps == {"M1 1H3", "M1 2H4", "M3 3H4", "M1 1V2", "M3 1V3", "M4 2V3"}


def test_a_small_defect_is_shown_in_a_small_window_inside_the_crop():
    mask = np.zeros((64, 64), dtype=bool)
    mask[30:33, 60:64] = True  # 3 x 4 pixels at the right edge: 32 px suffice, rows 31.5 ± 16, columns moved inside
    assert window_around(mask, 12) == (slice(16, 48), slice(32, 64))


def test_a_neighbour_of_another_area_does_not_move_the_window():
    mask = np.zeros((100, 100), dtype=bool)
    mask[50, 50] = True
    mask[2:4, 2:4] = True
    assert window_around(mask, 1) == (slice(34, 66), slice(34, 66))


def test_of_two_defects_of_one_area_the_window_shows_the_central_one():
    mask = np.zeros((100, 100), dtype=bool)
    mask[5, 5] = mask[52, 50] = True
    assert window_around(mask, 1) == (slice(36, 68), slice(34, 66))


@pytest.mark.parametrize(("height", "side"), [(12, 32), (13, 48), (28, 48), (76, 96), (77, 160)])
def test_the_window_grows_with_the_defect(height, side):
    mask = np.zeros((160, 160), dtype=bool)
    mask[40 : 40 + height, 80] = True
    assert [part.stop - part.start for part in window_around(mask, height)] == [side, side]


def test_a_defect_that_the_crop_cuts_through_is_shown_with_all_of_the_crop():
    assert window_around(np.ones((30, 50), dtype=bool), 9999) == (slice(0, 30), slice(0, 50))


def test_chosen_panels_keep_their_pixels():
    panels = np.random.default_rng(0).integers(0, 256, (4, 7, 5, 3), dtype=np.uint8)
    chosen = choose_panels(encode_crops(list(panels)), (0, 2), width=5)
    pixels = np.asarray(Image.open(io.BytesIO(chosen)).convert("RGB"))
    assert np.array_equal(pixels, np.concatenate([panels[0], panels[2]], axis=1))


def test_the_colour_scale_runs_from_the_lowest_to_the_highest_score():
    first, last = (0, 0, 3), (252, 254, 164)  # inferno: (0.0015, 0.0005, 0.0139) to (0.9884, 0.9984, 0.6449)
    colours = colour_scores(np.array([[2.0, 6.0, 1.0, 9.0]]), (2.0, 6.0))
    assert [tuple(colour) for colour in colours[0].tolist()] == [first, last, first, last]
    assert tuple(colour_scores(np.array([[3.0]]), (3.0, 3.0))[0, 0].tolist()) == first


def draw_detection(evaluation, key):
    return detection_figure(evaluation, evaluation.detectability, key)


@pytest.mark.parametrize("draw", [quartile_figure, draw_detection, diameter_figure])
def test_figures_take_every_colour_from_the_page(draw):
    svg = draw(make_realistic_evaluation(n_defects=60, n_crops=0), "a")
    assert "var(--ink)" in svg
    assert not re.search(r"#[0-9a-f]{6}", svg)
    assert all(name.startswith("a-") for name in re.findall(r'id="([^"]*)"', svg))


def test_figures_name_the_smallest_detected_and_the_largest_missed():
    svg = draw_detection(make_evaluation([make_defect(4, 0.0), make_defect(1, 0.5), make_defect(9, 0.001)]), "a")
    assert "smallest detected: 2.3 px" in svg
    assert "largest missed: 1.1 px" in svg


def test_the_figure_of_detection_marks_the_sizes_of_the_fit():
    evaluation = make_realistic_evaluation(n_crops=0)
    svg, fit = draw_detection(evaluation, "a"), evaluation.detectability.fit
    for name, size in (("a50", fit.a50_px), ("a90", fit.a90_px), ("a90/95", fit.a90_95_px)):
        assert f"{name}  {size:.1f} px" in svg
    assert "a50" not in draw_detection(make_evaluation([make_defect(4, 0.0)]), "a")


@pytest.mark.parametrize("draw", [draw_detection, diameter_figure])
@pytest.mark.parametrize("n_defects", [0, 1, 5])
def test_a_handful_of_defects_still_makes_a_figure(draw, n_defects):
    defects = [make_defect(area, 0.0) for area in range(1, 1 + n_defects)]
    assert "defect diameter (px)" in draw(make_evaluation(defects), "a")


def test_the_same_evaluations_give_the_same_file(tmp_path):
    evaluation = make_realistic_evaluation(n_defects=20, n_crops=3)
    assert write(tmp_path, evaluation) == write(tmp_path, evaluation)


def test_the_file_names_no_address_and_its_ids_are_unique_and_resolve(tmp_path):
    evaluation = make_realistic_evaluation(n_defects=20, n_crops=3)
    page = write(tmp_path, with_provenance(evaluation), evaluation)
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")  # the name of a vocabulary, never asked for
    ids = Counter(attrs["id"] for _, attrs in Tags(page).tags if "id" in attrs)
    assert max(ids.values()) == 1
    inside = {attrs[name] for _, attrs in Tags(page).tags for name in ("href", "src") if name in attrs}
    assert {link[1:] for link in inside if link.startswith("#") and "=" not in link} <= set(ids)
    assert all(link.startswith(("#", "data:")) for link in inside)
    assert set(re.findall(r"url\(#([^)]*)\)", page)) <= set(ids)


@pytest.mark.usefixtures("no_figures")
def test_text_from_file_names_cannot_become_markup(tmp_path):
    defect = make_defect(9, 0.2, defect_type=HOSTILE, sample_id=HOSTILE)
    evaluation = make_evaluation([defect], category=HOSTILE, crops=[make_crop(defect)])
    page = write(tmp_path, with_provenance(evaluation, {HOSTILE: HOSTILE}), title=HOSTILE)
    tags = Tags(page)
    assert Counter(tag for tag, _ in tags.tags)["script"] == 2  # what it does, and the defects it shows
    assert not any(name.startswith("on") for _, attrs in tags.tags for name in attrs)
    assert HOSTILE in tags.text


@pytest.mark.usefixtures("no_figures")
def test_every_number_of_the_size_table_is_in_the_page_with_its_count(tmp_path):
    evaluation = make_realistic_evaluation(n_defects=60, n_crops=0)
    text = Tags(write(tmp_path, evaluation)).text
    for group in (*evaluation.cumulative, *evaluation.disjoint, *evaluation.by_type):
        row = "".join(
            [
                str(group.n_defects),
                f"{group.area_px[0]:,.0f}–{group.area_px[1]:,.0f}",
                *(f"{value:.3f}" for value in group.aupro),
            ]
        )
        assert row in text, group.name
    assert "".join(f"{value:.3f}" for value in evaluation.rho) in text


@pytest.mark.usefixtures("no_figures")
def test_groups_below_ten_regions_are_marked(tmp_path):
    nine, ten = ([make_defect(area, 0.0) for area in range(1, 1 + n)] for n in (36, 40))
    assert write(tmp_path, make_evaluation(nine)).count(">few<") == 1 + 4  # cumulative Q1 and the disjoint four
    assert write(tmp_path, make_evaluation(ten)).count(">few<") == 0


def test_undefined_numbers_are_dashes_and_never_nan(tmp_path):
    page = write(tmp_path, make_evaluation([]), make_evaluation([make_defect(4, 0.0)]))
    assert not re.search(r"\bnan\b", Tags(page).text)
    assert 'class="undefined"' in page


@pytest.mark.usefixtures("no_figures")
def test_images_whose_mask_is_empty_are_mentioned(tmp_path):
    evaluation = replace(make_evaluation([make_defect(4, 0.0)]), n_unmarked_images=3)
    assert "3 defective images mark no pixel" in Tags(write(tmp_path, evaluation)).text


@pytest.mark.usefixtures("no_figures")
def test_the_rate_that_decides_what_is_found_can_be_chosen(tmp_path):
    defects = [make_defect(4, 0.02), make_defect(9, 0.2)]
    assert f"None of 2 defects found at 1{SPACE}%" in write(tmp_path, make_evaluation(defects))
    at_five = make_evaluation(defects, false_alarm_rate=0.05)
    assert f"1 of 2 defects found at 5{SPACE}% false-positive pixels" in write(tmp_path, at_five)


@pytest.mark.usefixtures("no_figures")
def test_the_default_rule_is_told_in_words(tmp_path):
    defects = [replace(make_defect(4, 0.02), peak=3.0), replace(make_defect(9, 0.2), peak=1.0)]
    evaluation = make_evaluation(defects, detection_rule="peak_at_image_fpr", highest_good=np.linspace(1, 2, 20))
    text = Tags(write(tmp_path, evaluation)).text
    assert f"1 of 2 defects found at 1 of 20 good images alarming (5{SPACE}% allowed)" in text
    assert "its highest pixel exceeds the lowest threshold at which at most this share of the good images" in text
    assert "Only 2 defects: fewer than 10 say nothing about size." in text


@pytest.mark.usefixtures("no_figures")
def test_an_evaluation_without_a_rule_is_shown_by_the_rule_about_pixels(tmp_path):
    evaluation = replace(make_evaluation([make_defect(4, 0.0), make_defect(9, 0.2)]), detectability=Detectability())
    assert f"1 of 2 defects found at 1{SPACE}% false-positive pixels" in write(tmp_path, evaluation)


@pytest.mark.usefixtures("no_figures")
def test_the_overview_of_categories_sums_defects_and_averages_scores(tmp_path):
    one, other = (
        make_evaluation([make_defect(4, 0.0)], category="a/b"),
        make_evaluation([make_defect(9, 0.2)], category="c/d"),
    )
    text = Tags(write(tmp_path, one, other)).text
    assert f"1 of 2 defects found at 1{SPACE}%" in text
    mean = (one.overall.aupro[2] + other.overall.aupro[2]) / 2
    assert f"mean of 2–{mean:.3f}–0.957" in text  # a quarter of one defect is nobody: Q1 and ρ are undefined


@pytest.mark.usefixtures("no_figures")
def test_a_single_method_meets_nobody(tmp_path):
    page = write(tmp_path, make_realistic_evaluation(n_defects=20, n_crops=3))
    for absent in ('id="leaderboard"', 'id="cost"', 'id="curves"', "Missed by", "cannot be told"):
        assert absent not in page, absent
    assert "Scores by defect size" in page


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("word", ["AUPRO@5", "Q1", "ρ", "a90", "image AUROC"])
def test_the_words_are_explained_before_the_first_number_and_opened(tmp_path, word):
    page = write(tmp_path, make_evaluation([make_defect(4, 0.0)]))
    words = page[page.index('<details class="words" open>') : page.index("</details>")]
    assert re.search(rf"<dt>{word}\S*?( %|&nbsp;%)?</dt><dd>[^<]+\.</dd>", words)
    assert page.index('class="words"') < page.index('<dl class="facts">')


def telling(page):
    """Verdict and diameter of each picture that opens the page."""
    opening = page[page.index('<ul class="telling"') : page.index('<dl class="facts">')]
    return re.findall(r'<b class="(found|missed)">[^<]*</b> <b>([\d.]+)&nbsp;px', opening)


@pytest.mark.usefixtures("no_figures")
def test_the_page_opens_with_the_largest_miss_and_the_smallest_find(tmp_path):
    # areas 4, 9, 16 found and 25, 36, 49 missed: 2.3, 3.4, 4.5 px and 5.6, 6.8, 7.9 px
    found, missed = [make_defect(area, 0.0) for area in (9, 4, 16)], [make_defect(area, 0.5) for area in (25, 49, 36)]
    named = [replace(defect, sample_id=f"test/scratch/{number:03d}") for number, defect in enumerate([*found, *missed])]
    evaluation = make_evaluation(named, crops=[make_crop(defect) for defect in named])
    page = write(tmp_path, evaluation)
    turns = [("missed", "7.9"), ("found", "2.3"), ("missed", "6.8"), ("found", "3.4"), ("missed", "5.6")]
    assert telling(page) == turns
    assert page.count('class="outline"', 0, page.index('<dl class="facts">')) == 2 * 5  # on photograph and on map
    assert page.index('<ul class="telling"') < page.index('<dl class="facts">')


@pytest.mark.usefixtures("no_figures")
def test_nothing_missed_opens_with_finds_alone(tmp_path):
    named = [make_defect(area, 0.0, sample_id=f"test/{area}") for area in (4, 9, 16)]
    page = write(tmp_path, make_evaluation(named, crops=[make_crop(defect) for defect in named]))
    assert telling(page) == [("found", "2.3"), ("found", "3.4"), ("found", "4.5")]


@pytest.mark.usefixtures("no_figures")
def test_two_results_of_one_category_are_told_apart(tmp_path):
    evaluation = make_realistic_evaluation(n_defects=8, n_crops=2)
    text = Tags(write(tmp_path, evaluation, evaluation)).text
    assert "mvtec_ad/screw (1)" in text
    assert "mvtec_ad/screw (2)" in text


def test_an_empty_report_is_refused(tmp_path):
    with pytest.raises(TinyDefectsError, match=r"report\.html: no evaluation to report"):
        write(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_figures")
def test_forty_eight_crops_of_noise_stay_below_four_megabytes(tmp_path):
    random = np.random.default_rng(0)
    defects = [make_defect(area, 0.2) for area in range(200, 248)]
    noise = [random.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in defects]
    crops = [
        replace(make_crop(defect), image=image, mask=image[..., 0] > 250, anomaly_map=image[..., 1].astype(np.float16))
        for defect, image in zip(defects, noise, strict=True)
    ]
    assert len(write(tmp_path, make_evaluation(defects, crops=crops))) < 4e6


def test_importing_the_report_loads_neither_matplotlib_nor_jinja():
    heavy = "{'matplotlib', 'jinja2', 'torch'}"
    code = f"import sys, tinydefects.report.page; print(*{heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b""


def test_an_interval_stands_below_its_number_and_none_where_there_is_none(tmp_path):
    evaluation = make_realistic_evaluation(n_defects=40, n_crops=0)
    known = {"aupro_Q1@0.05": Interval(low=0.123, high=0.456), "rho@0.05": Interval(low=math.nan, high=math.nan)}
    page = write_report([replace(evaluation, intervals=known)], tmp_path / "report.html").read_text()
    assert page.count('<small class="interval">') == 1
    before, _ = page.split('<small class="interval">0.123–0.456</small>')
    assert before.endswith(f"{evaluation.cumulative[0].aupro[2]:.3f}")
    assert "Below a number, its 95 % interval." in page
