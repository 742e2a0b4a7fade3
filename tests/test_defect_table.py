import math
from dataclasses import replace

import pytest

from report_factory import make_defect, make_evaluation
from tinydefects.data.tables import read_rows
from tinydefects.results.attachments import defect_columns, write_defect_table


@pytest.fixture
def evaluation():
    """Three defects, the smallest one first; the second and the third share a peak."""
    defects = [make_defect(4, 0.5), make_defect(16, 0.001), replace(make_defect(64, 0.001), contrast=7.5)]
    return replace(make_evaluation(defects), pixel_pitch_mm=0.1)


def test_every_defect_is_one_row_with_what_is_known_of_it(evaluation):
    columns = defect_columns(evaluation)
    assert list(columns) == [
        "category",
        "image",
        "defect_type",
        "top_px",
        "left_px",
        "height_px",
        "width_px",
        "area_px",
        "diameter_px",
        "diameter_mm",
        "contrast",
        "peak",
        "own_peak",
        "peak_rank",
        "first_touched_fpr",
        "half_covered_fpr",
        "own_touched_fpr",
        "detected",
        "aupro@0.3",
        "aupro@0.1",
        "aupro@0.05",
        "aupro@0.01",
    ]
    last = {name: values[-1] for name, values in columns.items()}
    assert (last["top_px"], last["left_px"], last["height_px"], last["width_px"]) == evaluation.defects[2].box_px
    assert last["diameter_mm"] == pytest.approx(0.1 * 2 * math.sqrt(64 / math.pi))
    assert (last["contrast"], last["first_touched_fpr"], last["half_covered_fpr"]) == (7.5, 0.001, 0.003)
    assert columns["aupro@0.05"] == tuple(defect.aupro[2] for defect in evaluation.defects)


def test_the_highest_peak_has_rank_1_and_equal_peaks_share_the_better_rank(evaluation):
    assert defect_columns(evaluation)["peak_rank"] == [3, 1, 1]


def test_detected_says_which_at_the_rule_of_the_evaluation_and_nothing_where_it_cannot_be_applied(evaluation):
    assert defect_columns(evaluation)["detected"] == [False, True, True]
    without_good = make_evaluation(evaluation.defects, detection_rule="peak_at_image_fpr")
    assert defect_columns(without_good)["detected"] == [None, None, None]


def test_a_csv_says_the_same_with_empty_cells_for_what_is_undefined(evaluation, tmp_path):
    write_defect_table(evaluation, tmp_path / "screw.defects.csv")
    rows, columns = read_rows(tmp_path / "screw.defects.csv"), defect_columns(evaluation)
    assert [float(row["half_covered_fpr"]) for row in rows] == columns["half_covered_fpr"]
    assert [row["contrast"] for row in rows] == [None, None, "7.5"]
    assert [row["detected"] for row in rows] == ["False", "True", "True"]


def test_without_defects_the_header_remains(evaluation, tmp_path):
    empty = make_evaluation([])
    write_defect_table(empty, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == ",".join(defect_columns(evaluation)) + "\n"
