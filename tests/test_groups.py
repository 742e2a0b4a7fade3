"""Groups know their members and bear keys of their own, whatever defect types and bins are called."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinydefects.data.pixels import write_png
from tinydefects.data.sample import Prediction, Sample
from tinydefects.errors import ResultError, TinyDefectsError
from tinydefects.metrics.curves import exact_curve
from tinydefects.metrics.evaluation import evaluate
from tinydefects.metrics.groups import QUARTILES, SizeBins, short
from tinydefects.metrics.ranking import rank
from tinydefects.metrics.scores import choose_metrics, groups_of, metrics_of
from tinydefects.metrics.statistics.comparison import compare
from tinydefects.metrics.statistics.leaderboard import leaderboard
from tinydefects.report.page import write_report
from tinydefects.results.result import Result, describe_run, read_result, write_result

ODD_TYPES = (
    "Q1",
    "only_Q4",
    "all",
    "overall",
    "good",
    "2 to 5 px",
    "<2 px",
    "type:pit",
    "a, b",
    "x@0.3",
    "dark_px",
    "é",
)
BINS = [SizeBins(unit="diameter_px", edges=(2, 5)), SizeBins(unit="diameter_px", edges=(2, 10))]


def typed_pairs(folder, types, *, seed=0, per_type=2):
    """Good images, and for each type images with a small and a larger defect, on maps of noise."""
    random = np.random.default_rng(seed)
    for number in range(6 + per_type * len(types)):
        kind = "good" if number < 6 else types[(number - 6) // per_type]
        label = "good" if number < 6 else "defect"
        mask = np.zeros((30, 40), bool)
        if label == "defect":
            mask[3 : 3 + 1 + number % 3, 4] = True
            mask[15 : 16 + number % 5, 20 : 22 + number % 7] = True
        image, outline = folder / f"{number}.png", folder / f"{number}_mask.png"
        write_png(image, np.full(mask.shape, 90, np.uint8))
        write_png(outline, mask)
        scores = (random.standard_normal(mask.shape) + mask * random.uniform(1, 4)).astype(np.float32)
        sample = Sample(id=f"test/{kind}/{number:03d}", image_path=image, label=label, mask_paths=(outline,))
        yield sample, Prediction(scores, float(scores.max()))


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """An evaluation whose types are called like everything else, with overlapping bins."""
    pairs = typed_pairs(tmp_path_factory.mktemp("odd types"), ODD_TYPES)
    return evaluate(pairs, category="folder/odd", bins=BINS, n_resamples=60, n_crops=0)


def test_keys_and_figures_names_are_unique_and_every_group_holds_its_own_defects(odd):
    groups = groups_of(odd)
    assert len({group.key for group in groups}) == len({group.suffix for group in groups}) == len(groups)
    for group in groups:
        members = [odd.defects[member] for member in group.members]
        assert group.n_defects == len(members)
        expected = np.mean([defect.aupro for defect in members], axis=0) if members else np.full(4, np.nan)
        np.testing.assert_allclose(group.aupro, expected, atol=1e-12)
    for group in odd.by_type:
        assert group.n_images == 2  # also of the type that is called like the good images
        assert {odd.defects[member].defect_type for member in group.members} == {group.name}
    values = metrics_of(odd)
    for group in groups:
        np.testing.assert_equal(values[f"aupro{group.suffix}@0.3"], group.aupro[0])


def test_bins_that_share_edges_are_one_group_where_they_are_equal(odd):
    assert [group.key for group in odd.by_bin] == [
        "diameter_px:<2",
        "diameter_px:2-5",
        "diameter_px:>=5",
        "diameter_px:2-10",
        "diameter_px:>=10",
    ]
    for group in odd.by_bin:
        own = [odd.defects[member].diameter_px for member in group.members]
        low, high = {"<2": (0, 2), "2-5": (2, 5), ">=5": (5, 99), "2-10": (2, 10), ">=10": (10, 99)}[group.key[12:]]
        assert all(low <= diameter < high for diameter in own)


def test_every_interval_is_that_of_its_own_group(odd):
    values, drawn = metrics_of(odd), 0
    assert set(odd.intervals) == set(values) - {"a90_95_px"}
    for name, interval in odd.intervals.items():
        if not math.isnan(interval.low):
            drawn += 1
            assert interval.low - 1e-9 <= values[name] <= interval.high + 1e-9, name
    assert drawn > 80
    assert odd.intervals["aupro_Q1@0.3"] != odd.intervals["aupro_type:Q1@0.3"]


@pytest.mark.slow
def test_the_text_and_the_page_tell_a_type_from_a_quartile_of_its_name(odd, tmp_path):
    lines = [line.split("  ")[0] for line in str(odd).splitlines()]
    assert lines.count("Q1") == 1
    assert {"type Q1", "type 2 to 5 px", "good", "a, b"} <= set(lines)
    page = write_report([odd], tmp_path / "page.html").read_text()
    for group in odd.by_type:
        row = page[
            page.index(f'<tr><th scope="row">{group.name.replace("<", "&lt;")}</th>', page.index("defect type</h3>")) :
        ]
        row = row[: row.index("</tr>")]
        assert f"{group.aupro[0]:.3f}" in row
        found = sum(odd.detectability.hits[member] for member in group.members)
        assert f"{found} of {group.n_defects}" in row


def test_a_stored_result_has_the_same_groups(odd, tmp_path):
    path = write_result(Result(evaluation=odd, provenance=describe_run({})), tmp_path / "odd.json")
    again = read_result(path).evaluation
    assert repr(groups_of(again)) == repr(groups_of(odd))
    assert repr(again.intervals) == repr(odd.intervals)


def test_plain_names_stay_and_keys_work_as_well(odd):
    def chosen(text):
        return choose_metrics([odd], text)

    limits = ["0.3", "0.1", "0.05", "0.01"]
    for text, name in [
        ("aupro_Q1@0.05", "aupro_Q1@0.05"),
        ("aupro_cumulative:Q1@0.05", "aupro_Q1@0.05"),
        ("aupro_disjoint:Q1@0.05", "aupro_only_Q1@0.05"),
        ("aupro_type:Q1@0.05", "aupro_type:Q1@0.05"),
        ("aupro_é@0.05", "aupro_é@0.05"),
        ("aupro_type:é@0.05", "aupro_é@0.05"),
        ("aupro_a, b@0.05", "aupro_a, b@0.05"),
        ("aupro_x@0.3@0.05", "aupro_x@0.3@0.05"),
        ("aupro_2 to 5 px@0.05", "aupro_2 to 5 px@0.05"),
        ("aupro_diameter_px:2-5@0.05", "aupro_2 to 5 px@0.05"),
        ("aupro_type:2 to 5 px@0.05", "aupro_type:2 to 5 px@0.05"),
        ("aupro_all@5e-2", "aupro@0.05"),
        ("aupro@5%", "aupro@0.05"),
        ("aupro@5 %", "aupro@0.05"),
        ("image_auroc_type:Q1", "image_auroc_type:Q1"),
        ("image_auroc_dark_px", "image_auroc_dark_px"),
    ]:
        assert chosen(text) == [name], text
    assert chosen("aupro_Q1") == [f"aupro_Q1@{limit}" for limit in limits]
    assert chosen(" rho , aupro_a, b@0.3,image_auroc,") == [f"rho@{one}" for one in limits] + [
        "aupro_a, b@0.3",
        "image_auroc",
    ]
    assert chosen("all") == list(metrics_of(odd))
    with pytest.raises(ResultError, match=r"'aupro_dent@0\.3'; choose from aupro@0\.3"):
        chosen("image_auroc, aupro_dent@0.3")


def test_methods_are_compared_on_the_group_that_was_named(odd, tmp_path):
    other = evaluate(typed_pairs(tmp_path, ODD_TYPES, seed=9), bins=BINS, n_resamples=0, n_crops=0)
    names = ["aupro_type:Q1@0.3", "aupro_Q1@0.3", "aupro_diameter_px:2-10@0.3", "aupro_2 to 5 px@0.3"]
    quick = {"n_resamples": 100}
    for one in compare({"a": odd, "b": other}, names=names, **quick):
        assert one.value_a == metrics_of(odd)[one.metric]
        assert one.value_b == metrics_of(other)[one.metric]
    board = leaderboard(
        {"a": {"c": [odd]}, "b": {"c": [other]}}, metrics=["aupro_type:Q1@0.3", "aupro_Q1@0.3"], **quick
    )
    assert {one.value for one in board.of("aupro_type:Q1@0.3")} == {
        metrics_of(e)["aupro_type:Q1@0.3"] for e in (odd, other)
    }


def test_a_type_whose_name_ends_like_a_size_is_a_share_all_the_same(odd):
    assert odd.intervals["image_auroc_dark_px"].high <= 1


def test_bins_in_millimetres_of_other_pitches_are_not_compared(tmp_path):
    bins = SizeBins(unit="area_mm2", edges=(0.05,))
    evaluations = {}
    for name, pitch in (("a", 0.1), ("b", 0.2)):
        pairs = typed_pairs(tmp_path, ("pit",), per_type=6)
        evaluations[name] = evaluate(pairs, bins=bins, pixel_pitch_mm=pitch, n_resamples=0, n_crops=0)
    with pytest.raises(ResultError, match=r"other defects in '<0\.05 mm²'"):
        compare(evaluations, names=["aupro_<0.05 mm²@0.3"], n_resamples=100)
    with pytest.raises(ResultError, match=r"other defects in '<0\.05 mm²'"):
        leaderboard(
            {name: {"c": [e]} for name, e in evaluations.items()}, metrics=["aupro_<0.05 mm²@0.3"], n_resamples=50
        )
    assert compare(evaluations, names=["aupro@0.3"], n_resamples=100)[0].difference == 0


def test_numbers_that_differ_are_written_differently():
    assert [short(number) for number in (0.3, 2.0, 1e-5, 0.3000001)] == ["0.3", "2", "1e-05", "0.3000001"]
    close = SizeBins(unit="area_px", edges=(2.0, 2.0000001))
    assert len(set(close.keys)) == len(set(close.names)) == 3


def test_equal_limits_count_once(tmp_path):
    found = evaluate(typed_pairs(tmp_path, ("pit",)), fpr_limits=(0.3, 0.3, 0.1), n_resamples=0)
    assert found.fpr_limits == (0.3, 0.1)
    assert len(found.overall.aupro) == 2


def test_sizes_in_millimetres_without_a_pitch_are_refused_before_the_first_image():
    def never():
        raise AssertionError("an image was read")
        yield

    with pytest.raises(TinyDefectsError, match="pixel pitch"):
        evaluate(never(), bins=SizeBins(unit="area_mm2", edges=(1,)))


GOLDEN = Path(__file__).parent / "goldens/result_of_0_1_0/parts.json"


@pytest.mark.slow
def test_a_result_of_0_1_0_is_read_with_groups_that_know_their_members(tmp_path):
    old = read_result(GOLDEN).evaluation
    assert [len(group.members) for group in groups_of(old)] == [group.n_defects for group in groups_of(old)]
    for group in groups_of(old):
        own = [old.defects[member].aupro for member in group.members]
        np.testing.assert_allclose(group.aupro, np.mean(own, axis=0) if own else [math.nan] * 2, atol=1e-12)
    assert [group.key for group in old.by_bin][-2:] == ["image_share:<0.01", "image_share:>=0.01"]
    assert old.tally is not None
    assert (old.detectability.rule, old.detectability.n_good_images) == ("peak_at_image_fpr", 5)
    assert "9 of 10 defects at 0 of 5 good images alarming (25 % allowed)" in str(old)
    again = write_result(Result(evaluation=old, provenance=describe_run({})), tmp_path / "again.json")
    assert str(read_result(again).evaluation) == str(old)
    assert compare({"old": old, "again": old}, names=["aupro_<2 px@0.05", "a50_px"], n_resamples=100)
    assert "9 of 10" in write_report([old], tmp_path / "old.html").read_text()


def test_a_result_of_0_1_0_without_its_tally_is_read_too(tmp_path):
    content = GOLDEN.read_text()
    start = content.index('"tally_sha256": "') + len('"tally_sha256": "')
    (tmp_path / "parts.json").write_text(content[:start] + content[content.index('"', start) :])
    (tmp_path / "parts.npz").write_bytes(GOLDEN.with_suffix(".npz").read_bytes())
    old = read_result(tmp_path / "parts.json").evaluation
    assert old.tally is None
    known = [group for group in groups_of(old) if group.kind != "image_share"]
    assert [len(group.members) for group in known] == [group.n_defects for group in known]


def test_quartiles_of_an_evaluation_are_those_of_its_areas(odd):
    areas = np.array([defect.area_px for defect in odd.defects])
    for group, limit in zip(odd.cumulative, (*odd.quartile_areas_px, math.inf), strict=True):
        assert group.key == f"cumulative:{group.name}"
        assert list(group.members) == np.flatnonzero(areas <= limit).tolist()
    assert sorted(member for group in odd.disjoint for member in group.members) == list(range(areas.size))
    assert tuple(group.name for group in odd.disjoint) == QUARTILES
    assert replace(odd.overall, key="cumulative:Q4", name="Q4") == odd.cumulative[3]


def spotted_pairs(folder, *, whole=False):
    """A good image without one pixel of its own where `whole`, and one image with 1,250 defects of one pixel."""
    mask = np.zeros((100, 100), bool)
    mask[::2, ::4] = True
    mask = np.ones((4, 5), bool) if whole else mask
    image, outline = folder / "0.png", folder / "0_mask.png"
    write_png(image, np.full(mask.shape, 90, np.uint8))
    write_png(outline, mask)
    scores = np.random.default_rng(3).standard_normal(mask.shape).astype(np.float32) + mask
    yield Sample(id="test/spot/0", image_path=image, label="defect", mask_paths=(outline,)), Prediction(scores, 1.0)


def test_the_drawn_curve_of_more_than_a_thousand_defects_lies_on_the_exact_one(tmp_path):
    (pair,) = spotted_pairs(tmp_path)
    found = evaluate([pair], n_resamples=0, n_crops=0)
    mask, scores = pair[0].mask(), pair[1].anomaly_map
    assert found.overall.n_defects == 1250
    exact = exact_curve(rank(scores[mask], [scores[~mask]]), np.full(1250, 1 / 1250))
    drawn = found.overall.curve
    assert len(drawn.fpr) > 100
    for fpr, pro in zip(drawn.fpr, drawn.pro, strict=True):  # between the points before and after, where it climbs
        below = exact.recall[exact.fpr < fpr - 1e-12].max(initial=0)
        above = exact.recall[exact.fpr > fpr + 1e-12].min(initial=1)
        assert below - 1e-9 <= pro <= above + 1e-9
        assert above - below < 0.02


@pytest.mark.parametrize("curve", ["exact", "published_99", "normal_thresholds"])
def test_without_a_normal_pixel_no_curve_is_drawn_and_no_area_known(tmp_path, curve):
    with np.errstate(all="raise"):
        found = evaluate(spotted_pairs(tmp_path, whole=True), curve=curve, n_resamples=0)
    assert (found.n_normal_pixels, found.overall.n_defects) == (0, 1)
    assert (found.overall.curve.fpr, found.overall.curve.pro) == ((), ())
    assert np.isnan(found.overall.aupro).all()
