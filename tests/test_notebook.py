"""What a notebook shows: HTML that is whole, escaped and fetches nothing."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from report_factory import make_evaluation, make_realistic_evaluation
from tinydefects.data.sample import Prediction
from tinydefects.metrics.records import Interval
from tinydefects.metrics.statistics.leaderboard import BEST, LOWER, NOT_TOLD, Leaderboard, LeaderboardRow
from tinydefects.notebook import Html, map_picture, number, table, whisker

EVIL = '<script>alert("1")</script>&'


class Page(HTMLParser):
    """Rows of text, attributes of every tag, and whether each tag that was opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.texts, self.tags, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in {"img", "br"}:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, name):
        (found,) = [row for row in self.rows if row[0] == name]
        return found


def page_of(value):
    """What a notebook would show; nothing in it comes from elsewhere or runs."""
    text = value._repr_html_()
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object"}
        assert not any(name.startswith("on") for name in attributes)
        assert all(attributes[name].startswith("data:") for name in ("src", "href") if name in attributes)
    assert "http" not in text
    return page


def pixels_in(page):
    (source,) = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2]))))


def test_an_evaluation_shows_its_numbers_by_size_and_for_the_whole():
    evaluation = make_realistic_evaluation()
    page = page_of(evaluation)
    for group in evaluation.cumulative:
        row = page.row(group.label)
        assert [cell[:6] for cell in row[1 : 1 + len(group.aupro)]] == [f"{value:.4f}" for value in group.aupro]
        assert row[-2:] == [str(group.n_defects), f"{group.area_px[0]:.0f} to {group.area_px[1]:.0f}"]
    assert page.row("image AUROC")[1] == f"{evaluation.image_auroc:.4f}"
    assert page.row("rho")[1] == f"{evaluation.rho[0]:.4f}"
    assert "119 defects" in "".join(page.texts)


def test_intervals_stand_beside_their_numbers():
    intervals = {"image_auroc": Interval(low=0.25, high=0.75), "aupro_Q1@0.05": Interval(low=0.111, high=0.222)}
    evaluation = replace(make_realistic_evaluation(), intervals=intervals)
    page = page_of(evaluation)
    column = 1 + evaluation.fpr_limits.index(0.05)
    assert page.row("Q1")[column].endswith("0.111-0.222")
    assert page.row("Q2")[column] == f"{evaluation.cumulative[1].aupro[column - 1]:.4f}"
    assert page.row("image AUROC")[2] == "0.250-0.750"
    drawn = [attributes for tag, attributes in page.tags if tag == "line" and attributes["y1"] != "10"]
    assert ("24.0", "72.0") in [(line["x1"], line["x2"]) for line in drawn]  # of 96 px


def test_numbers_at_thresholds_are_shown_where_there_is_a_threshold():
    evaluation = make_realistic_evaluation()
    without = page_of(replace(evaluation, threshold=float("nan"), pixel_f1=float("nan")))
    assert not [row for row in without.rows if "SegF1" in row[0]]
    shown = page_of(replace(evaluation, threshold=0.5, pixel_f1=0.125))
    assert shown.row("pixel F1 at the given threshold (SegF1)")[1] == "0.1250"


def test_names_are_escaped():
    page = page_of(replace(make_realistic_evaluation(), category=EVIL))
    assert any(EVIL in text for text in page.texts)
    board = page_of(board_of({EVIL: BEST}))
    assert board.row(EVIL)


def test_an_evaluation_without_outlines_says_so():
    evaluation = make_evaluation([])
    page = page_of(evaluation)
    assert any("AUPRO, rho, pixel AUROC, AUPIMO and sizes are undefined" in text for text in page.texts)
    assert not [row for row in page.rows if row[0] == "Q1"]


def board_of(verdicts, metrics=("aupro_Q1@0.05", "a90_px")):
    rows = [
        LeaderboardRow(
            method=method,
            metric=metric,
            value=0.5 - place / 8,
            interval=Interval(low=0.25, high=0.625) if verdict != "undefined" else Interval(low=np.nan, high=np.nan),
            seed_spread=0.0,
            n_seeds=1,
            by_category={},
            difference_to_best=-place / 8,
            corrected_p=0.5,
            verdict=verdict,
        )
        for metric in metrics
        for place, (method, verdict) in enumerate(verdicts.items())
    ]
    return Leaderboard(categories=("mvtec_ad/screw",), left_out=("mvtec_ad/nut",), rows=tuple(rows))


def test_a_leaderboard_marks_the_best_and_who_cannot_be_told_from_it():
    board = board_of({"fbft": BEST, "gaussian": NOT_TOLD, "patchcore": LOWER, "none": "undefined"})
    page = page_of(board)
    assert page.rows[0] == ["method", "aupro_Q1@0.05", "a90_px (lower is better)"]
    assert page.row("fbft")[1] == "0.50000.250-0.625"
    assert page.row("gaussian")[1] == "0.3750 =0.250-0.625"
    assert page.row("patchcore")[1] == "0.25000.250-0.625"
    assert page.row("none")[1] == "0.1250"
    assert len([tag for tag, _ in page.tags if tag == "b"]) == 2
    assert any("left out, not of all methods: mvtec_ad/nut" in text for text in page.texts)


@pytest.mark.parametrize("size", [(40, 60), (1, 1), (1000, 300), (2048, 2500)])
def test_a_prediction_shows_its_map_beside_its_score(size):
    anomaly_map = np.zeros(size, np.float32)
    anomaly_map[size[0] // 2, size[1] // 3] = 1.5
    page = page_of(Prediction(anomaly_map, 0.734912))
    assert f"score 0.7349; map of {size[0]} x {size[1]} px" in "".join(page.texts)
    pixels = pixels_in(page)
    assert max(pixels.shape[:2]) <= 256
    if anomaly_map.size > 1:  # a spot of one pixel is the one bright place of the picture
        step = size[0] / pixels.shape[0]
        row, column = np.unravel_index(pixels.sum(axis=2).argmax(), pixels.shape[:2])
        assert abs(row - size[0] // 2 / step) <= 1
        assert (pixels.sum(axis=2) > 400).sum() == 1
        assert abs(column - size[1] // 3 / step) <= 1


def test_cells_are_escaped_unless_they_are_html_already():
    shown = table(["a & b"], [["<x>", Html("<b>1</b>")]], caption="1 < 2")
    assert "a &amp; b" in shown
    assert "&lt;x&gt;" in shown
    assert "<b>1</b>" in shown
    assert "1 &lt; 2" in shown
    assert 'alt="&quot;"' in map_picture(np.ones((2, 2), np.float32), told='"')


def test_what_is_undefined_has_no_whisker():
    assert whisker(float("nan"), 0, 1) == whisker(2.0, 0, 1) == ""
    assert re.search(r'x1="48\.0" .* x2="48\.0"', whisker(0.5, float("nan"), float("nan")))
    assert number(float("nan")) == "nan"
