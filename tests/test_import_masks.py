"""`import-masks`: outlines of COCO, labelme, CVAT and YOLO become the right pixels, or one line says why not."""

import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy import ndimage

from command_line import run
from dataset_trees import draw
from test_bad_input import DAMAGES, NO_FILES
from tinydefects.data.pixels import read_image, read_size, write_map
from tinydefects.datasets.catalog import load_category
from tinydefects.datasets.importing.annotations import Outline, box, ellipse, runs_of
from tinydefects.datasets.importing.coco import unpack
from tinydefects.datasets.importing.drawing import centres_inside
from tinydefects.datasets.importing.drawing import draw as draw_outline
from tinydefects.datasets.importing.plan import ImportSettings, plan_import, type_folders
from tinydefects.errors import DatasetError

SIZE = (10, 12)  # of every photograph, if not said otherwise
SQUARE = [[2, 3], [6, 3], [6, 5], [2, 5]]  # rows 3 and 4, columns 2 to 5
FLAT_SQUARE = [value for corner in SQUARE for value in corner]
SQUARE_PIXELS = {(row, column) for row in (3, 4) for column in (2, 3, 4, 5)}


def marked(path: Path) -> set[tuple[int, int]]:
    """(row, column) of the pixels that a mask marks; it holds nothing but 0 and 255."""
    with Image.open(path) as image:
        values = np.asarray(image)
    assert set(np.unique(values)) <= {0, 255}
    return set(zip(*map(list, map(np.ndarray.tolist, np.nonzero(values))), strict=True))


def photographs(folder: Path, *names: str, size: tuple[int, int] = SIZE) -> None:
    for number, name in enumerate(names):
        draw(folder / name, size=size, spot=(0, number))


def coco(folder: Path, *annotations: dict, **more: object) -> Path:
    """`shots/instances.json` with the photographs a.png and b.png; annotations are of a.png and of class scratch."""
    photographs(folder / "shots", "a.png", "b.png")
    said = {
        "images": [
            {"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
            for number, name in enumerate(("a.png", "b.png"))
        ],
        "categories": [{"id": 1, "name": "scratch"}, {"id": 2, "name": "dent"}],
        "annotations": [{"id": 7 + n, "image_id": 0, "category_id": 1, **one} for n, one in enumerate(annotations)],
    }
    path = folder / "shots/instances.json"
    path.write_text(json.dumps(said | more))
    return path


def shape(kind: str, points: list, label: str = "scratch", **more: object) -> dict:
    return {"label": label, "points": points, "shape_type": kind, "flags": {}, "group_id": None, **more}


def labelme(folder: Path, *shapes: dict, **more: object) -> Path:
    """`shots/a.json` with `shapes` of a.png beside it; b.png has none."""
    photographs(folder / "shots", "a.png", "b.png")
    said = {"version": "5.5.0", "imagePath": "a.png", "imageData": None, "imageHeight": SIZE[0], "imageWidth": SIZE[1]}
    (folder / "shots/a.json").write_text(json.dumps(said | {"shapes": shapes} | more))
    return folder / "shots"


def cvat(folder: Path, *shapes: str, name: str = "a.png") -> Path:
    """`shots/annotations.xml`, its photographs in `images/`; the shapes are of a.png."""
    photographs(folder / "shots/images", "a.png", "b.png")
    about = f'width="{SIZE[1]}" height="{SIZE[0]}"'
    path = folder / "shots/annotations.xml"
    path.write_text(
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task/></meta>'
        f'<image id="0" name="{name}" {about}>{"".join(shapes)}</image>'
        f'<image id="1" name="b.png" {about}></image></annotations>'
    )
    return path


def yolo(folder: Path, *lines: str, names: str = "names: [scratch, dent]\n") -> Path:
    """`shots/data.yaml`, `images/train` and `labels/train`; the lines are of a.png, b.png has no file of labels."""
    photographs(folder / "shots/images/train", "a.png", "b.png")
    (folder / "shots/labels/train").mkdir(parents=True)
    (folder / "shots/labels/train/a.txt").write_text("\n".join(lines))
    (folder / "shots/data.yaml").write_text(names)
    return folder / "shots/data.yaml"


def png(pixels: list[list[int]]) -> str:
    file = io.BytesIO()
    Image.fromarray(np.array(pixels, dtype=np.uint8) * 255).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def shares(corners: list, size: tuple[int, int] = SIZE) -> str:
    return " ".join(str(value) for x, y in corners for value in (x / size[1], y / size[0]))


@pytest.fixture
def imported(tmp_path, monkeypatch, capsys) -> Callable[..., Path]:
    """Run the command with `--unannotated good --out parts`; the folder that it made."""

    def go(source: Path, *options: object) -> Path:
        out = tmp_path / "parts"
        code, _, err = run(monkeypatch, capsys, "import-masks", source, "--unannotated", "good", *options, "--out", out)
        assert code == 0, err
        return out

    return go


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys) -> Callable[..., str]:
    """Run the command, which must refuse in one line and leave nothing; the line."""

    def go(source: Path, *options: object, unannotated: str | None = "good") -> str:
        told = ("--unannotated", unannotated) if unannotated else ()
        code, _, err = run(
            monkeypatch, capsys, "import-masks", source, "-q", *told, *options, "--out", tmp_path / "parts"
        )
        assert (code, err.count("tinydefects: ")) == (2, 1), err
        assert "Traceback" not in err
        assert not (tmp_path / "parts").exists()
        return err

    return go


# Each format: which pixels, in which folder.


def test_a_polygon_of_coco_marks_the_pixels_whose_centres_it_holds(tmp_path, imported):
    out = imported(coco(tmp_path, {"segmentation": [FLAT_SQUARE]}))
    assert marked(out / "mask/scratch/a.png") == SQUARE_PIXELS
    assert read_size(out / "mask/scratch/a.png") == SIZE
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png")) == [
        "defect/scratch/a.png",
        "good/b.png",
        "mask/scratch/a.png",
    ]


def test_two_polygons_of_one_annotation_are_united(tmp_path, imported):
    out = imported(coco(tmp_path, {"segmentation": [FLAT_SQUARE, [8, 0, 9, 0, 9, 1, 8, 1]]}))
    assert marked(out / "mask/scratch/a.png") == SQUARE_PIXELS | {(0, 8)}


def test_runs_of_coco_go_down_the_columns(tmp_path, imported):
    counts = [23, 2, 8, 2, 120 - 35]  # column 2, rows 3 and 4; column 3, rows 3 and 4
    out = imported(coco(tmp_path, {"segmentation": {"size": SIZE, "counts": counts}, "iscrowd": 1}))
    assert marked(out / "mask/scratch/a.png") == {(3, 2), (4, 2), (3, 3), (4, 3)}


def test_packed_runs_are_those_that_cocos_own_code_packs():
    # pycocotools 2.0.11: encode([[0, 1, 1], [0, 1, 0]]), and of 300 x 40 pixels rows 10 to 289 of columns 3 to 8 and
    # rows 50 to 59 of column 20.
    assert unpack("231") == [2, 3, 1]
    columns = np.zeros((300, 40), dtype=bool)
    columns[10:290, 3:9] = columns[50:60, 20] = True
    bitmap = runs_of(unpack("^l0h8d0000000000\\X3bGd`2"), (300, 40), "a test", by_columns=True)
    assert np.array_equal(bitmap.decode(), columns)


def test_shapes_of_labelme(tmp_path, imported):
    bitmap = shape("mask", [[8, 6], [10, 7]], mask=png([[1, 0, 1], [0, 1, 0]]))
    source = labelme(tmp_path, shape("polygon", SQUARE), shape("rectangle", [[2, 1], [0, 0]]), bitmap)
    out = imported(source, "--boxes")
    boxed, stored = {(0, 0), (0, 1)}, {(6, 8), (6, 10), (7, 9)}
    assert marked(out / "mask/scratch/a.png") == SQUARE_PIXELS | boxed | stored


def test_a_circle_of_labelme_is_its_middle_and_a_point_of_its_edge(tmp_path, imported):
    out = imported(labelme(tmp_path, shape("circle", [[5, 5], [5, 3.5]])))
    corners = {(3, 3), (3, 6), (6, 3), (6, 6)}  # centres 2.1 px away, those beside them 1.58
    sides = {(row, column) for row in (3, 6) for column in (4, 5)} | {
        (row, column) for row in (4, 5) for column in (3, 6)
    }
    whole = {(row, column) for row in range(3, 7) for column in range(3, 7)}
    assert marked(out / "mask/scratch/a.png") == whole - corners - sides


def test_a_path_of_labelme_may_be_that_of_windows_and_lead_elsewhere(tmp_path, imported):
    source = labelme(tmp_path, shape("polygon", SQUARE), imagePath="..\\shots\\.\\a.png")
    (source / "outlines").mkdir()
    (source / "a.json").rename(source / "outlines/a.json")
    assert marked(imported(source) / "mask/scratch/a.png") == SQUARE_PIXELS


def test_shapes_of_cvat(tmp_path, imported):
    source = cvat(
        tmp_path,
        '<polygon label="scratch" points="2,3;6,3;6,5;2,5"/>',
        '<mask label="scratch" rle="1,2,3" left="8" top="6" width="3" height="2"/>',  # along rows
        '<box label="scratch" xtl="0" ytl="0" xbr="2" ybr="1"/>',
        '<ellipse label="scratch" cx="10" cy="1" rx="1" ry="0.6"/>',
    )
    out = imported(source, "--boxes")
    stored, boxed, round_one = {(6, 9), (6, 10)}, {(0, 0), (0, 1)}, {(0, 9), (0, 10), (1, 9), (1, 10)}
    n_round = (0.5 / 1) ** 2 + (0.5 / 0.6) ** 2
    assert n_round < 1
    assert marked(out / "mask/scratch/a.png") == SQUARE_PIXELS | stored | boxed | round_one


def test_a_box_of_cvat_turns_clockwise_about_its_middle(tmp_path, imported):
    # 6 x 2 about (5, 5), by a quarter: 2 wide and 6 high; by 45 degrees it goes down to the right.
    out = imported(cvat(tmp_path, '<box label="s" xtl="2" ytl="4" xbr="8" ybr="6" rotation="90"/>'), "--boxes")
    assert marked(out / "mask/s/a.png") == {(row, column) for row in range(2, 8) for column in (4, 5)}
    corners = box(2, 4, 8, 6, degrees=45)
    assert np.allclose(corners[1], [5 + 2 * 2**0.5, 5 + 2**0.5], atol=1e-9)  # the upper right one


def test_lines_of_yolo_are_shares_of_the_photograph(tmp_path, imported):
    out = imported(yolo(tmp_path, f"0 {shares(SQUARE)}", "1 0.125 0.05 0.0833333333 0.1"), "--boxes")
    assert marked(out / "mask/combined/train/a.png") == SQUARE_PIXELS | {(0, 1)}
    assert (out / "good/train/b.png").is_file()


def test_yolo_says_itself_that_a_photograph_without_labels_is_background(tmp_path, monkeypatch, capsys):
    code, out, err = run(
        monkeypatch, capsys, "import-masks", yolo(tmp_path, f"0 {shares(SQUARE)}"), "--out", tmp_path / "parts"
    )
    assert (code, "1 good and 1 defective photograph" in out) == (0, True), err
    assert "YOLO's convention" in err


def test_labels_of_yolo_lie_below_images_or_beside_them(tmp_path, imported):
    flat = tmp_path / "flat"
    photographs(flat, "a.png", "b.png")
    (flat / "a.txt").write_text(f"0 {shares(SQUARE)}\n")
    (flat / "classes.txt").write_text("scratch\n")
    assert marked(imported(flat) / "mask/scratch/a.png") == SQUARE_PIXELS
    shutil.rmtree(tmp_path / "parts")
    split = tmp_path / "split"
    photographs(split / "train/images", "a.png", "b.png")
    (split / "train/labels").mkdir()
    (split / "train/labels/a.txt").write_text(f"0 {shares(SQUARE)}\n")
    (split / "README.dataset.txt").write_text("about it")
    (split / "data.yaml").write_text("train: ../train/images\nnames:\n  0: scratch\n")
    assert marked(imported(split) / "mask/scratch/train/images/a.png") == SQUARE_PIXELS


# Which pixels.


def slow_inside(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """For every pixel a ray from its centre to the right, and how many edges it crosses."""
    inside = np.zeros(size, dtype=bool)
    for row, column in np.ndindex(size):
        x, y, crossings = column + 0.5, row + 0.5, 0
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if (y0 <= y) != (y1 <= y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                crossings += 1
        inside[row, column] = crossings % 2 == 1
    return inside


coordinates = st.integers(-40, 400).map(lambda tenths: tenths / 20)  # centres and edges of pixels among them
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9).map(np.array)


@pytest.mark.slow
@settings(max_examples=50)
@given(polygons)
def test_the_pixels_are_those_of_a_slow_search_but_for_rounding_on_the_edge(corners):
    quick, slow = centres_inside(corners, (14, 16)), slow_inside(corners, (14, 16))
    columns, rows = np.meshgrid(np.arange(16) + 0.5, np.arange(14) + 0.5)
    differs = quick != slow
    for x, y in zip(columns[differs], rows[differs], strict=True):
        assert distance_to_edge(corners, np.array([x, y])) < 1e-9


def distance_to_edge(corners: np.ndarray, point: np.ndarray) -> float:
    starts, ways = corners, np.roll(corners, -1, axis=0) - corners
    lengths = np.maximum((ways**2).sum(axis=1), 1e-30)
    along = np.clip(((point - starts) * ways).sum(axis=1) / lengths, 0, 1)
    return float(np.hypot(*(starts + along[:, None] * ways - point).T).min())


@settings(max_examples=50)
@given(polygons)
def test_polygons_side_by_side_share_no_pixel_and_leave_none_out(corners):
    """A rectangle cut in two by a line: each pixel goes to one of both."""
    x, y = corners[0]
    left = np.array([[0, 0], [5 + x / 10, 0], [5 + y / 10, 9], [0, 9]])
    right = np.array([[5 + x / 10, 0], [11, 0], [11, 9], [5 + y / 10, 9]])
    both = centres_inside(left, (9, 11)).astype(int) + centres_inside(right, (9, 11))
    assert (both == 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("diameter", [3, 4, 6, 10])
def test_discs_keep_their_area_wherever_they_lie(diameter):
    places = np.random.default_rng(0).random((400, 2)) + 12
    discs = [ellipse(x, y, diameter / 2, diameter / 2) for x, y in places]
    areas = [centres_inside(disc, (25, 25)).sum() for disc in discs]
    assert np.mean(areas) == pytest.approx(np.pi * diameter**2 / 4, rel=0.02)
    if diameter <= 4:  # what this rule is for
        assert np.mean([drawn_by_pillow(disc, (25, 25)).sum() for disc in discs]) > 1.5 * np.mean(areas)


def drawn_by_pillow(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    image = Image.new("L", size[::-1])
    ImageDraw.Draw(image).polygon([tuple(corner) for corner in corners], fill=1)
    return np.asarray(image)


@settings(max_examples=50)
@given(polygons)
def test_one_outline_is_one_defect_however_thin(corners):
    mask = np.zeros((20, 20), dtype=bool)
    corners = np.clip(corners, 0.1, 19.9)
    draw_outline(mask, Outline(defect_class="s", kind="polygon", where="a test", polygons=(corners,)))
    assert ndimage.label(mask, np.ones((3, 3)))[1] == 1
    for row, column in zip(*np.nonzero(mask & ~centres_inside(corners, mask.shape)), strict=True):
        assert distance_to_edge(corners, np.array([column, row]) + 0.5) <= 0.5**0.5 + 1e-9  # half a pixel's diagonal


def test_a_sliver_marks_the_pixels_that_it_passes_through_and_is_counted(tmp_path, monkeypatch, capsys):
    source = coco(tmp_path, {"segmentation": [[1, 4.1, 8, 4.1, 8, 4.3, 1, 4.3]]})
    code, out, err = run(
        monkeypatch, capsys, "import-masks", source, "--unannotated", "good", "--out", tmp_path / "parts"
    )
    assert code == 0, err
    assert "thin: of 1 outline " in out
    found = marked(tmp_path / "parts/mask/scratch/a.png")
    assert {(4, column) for column in range(1, 8)} <= found <= {(4, column) for column in range(1, 9)}


@settings(max_examples=50)
@given(st.data())
def test_runs_of_any_mask_come_back(data):
    pixels = np.array(data.draw(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=4, max_size=4)))
    for by_columns in (True, False):
        flat = (pixels.T if by_columns else pixels).reshape(-1)
        changes = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
        counts = np.diff([0, *changes, flat.size]).tolist()
        assert np.array_equal(runs_of(counts, (4, 5), "a test", by_columns=by_columns).decode(), pixels)


# Which folder, and what lies in it.


def test_photographs_are_the_same_bytes_and_linked_ones_the_same_files(tmp_path, imported):
    source = coco(tmp_path, {"segmentation": [FLAT_SQUARE]})
    original = (tmp_path / "shots/a.png").read_bytes()
    out = imported(source)
    assert (out / "defect/scratch/a.png").read_bytes() == original
    assert not (out / "defect/scratch/a.png").is_symlink()
    shutil.rmtree(out)
    out = imported(source, "--photographs", "link")
    assert (out / "defect/scratch/a.png").is_symlink()
    assert (out / "defect/scratch/a.png").resolve() == (tmp_path / "shots/a.png").resolve()


def test_several_classes_on_one_photograph_go_to_combined(tmp_path, imported):
    out = imported(coco(tmp_path, {"segmentation": [FLAT_SQUARE]}, {"category_id": 2, "segmentation": [FLAT_SQUARE]}))
    assert marked(out / "mask/combined/a.png") == SQUARE_PIXELS


def test_a_class_that_is_not_chosen_marks_nothing(tmp_path, imported):
    other = {"image_id": 1, "category_id": 2, "segmentation": [FLAT_SQUARE]}
    out = imported(coco(tmp_path, {"segmentation": [FLAT_SQUARE]}, other), "--class", "scratch")
    assert (out / "good/b.png").is_file()
    assert not (out / "mask/dent").exists()


def test_names_of_classes_become_names_of_folders():
    def folders(*classes: str) -> dict[str, str]:
        outlines = tuple(Outline(defect_class=one, kind="mask", where="") for one in classes)
        return type_folders([type("Annotated", (), {"outlines": outlines})])

    assert folders("tief/flach", "lot.tif", ".x") == {"tief/flach": "tief_flach", "lot.tif": "lot.tif_", ".x": "_x"}
    for classes, line in {
        ("a/b", "a:b"): "share a folder",
        ("Dent", "dent"): "share a folder",
        ("Good",): "cannot",
    }.items():
        with pytest.raises(DatasetError, match=line):
            folders(*classes)


def test_good_photographs_may_lie_elsewhere_and_others_be_skipped(tmp_path, imported):
    photographs(tmp_path / "fine", "0.png", "1.png")
    out = imported(
        coco(tmp_path, {"segmentation": [FLAT_SQUARE]}), "--good", tmp_path / "fine", "--unannotated", "skip"
    )
    assert sorted(path.name for path in (out / "good").iterdir()) == ["0.png", "1.png"]


def test_sub_folders_stay_apart(tmp_path, imported):
    source = labelme(tmp_path, shape("polygon", SQUARE))
    for camera in ("left", "right"):
        shutil.copytree(source, tmp_path / "all" / camera)
    out = imported(tmp_path / "all")
    assert marked(out / "mask/scratch/right/a.png") == marked(out / "mask/scratch/left/a.png") == SQUARE_PIXELS


def test_the_folder_loads_and_perfect_maps_score_one(tmp_path, imported, monkeypatch, capsys):
    source = coco(tmp_path, {"segmentation": [FLAT_SQUARE]})
    photographs(tmp_path / "fine", *(f"{number}.png" for number in range(5)))
    out = imported(source, "--good", tmp_path / "fine")
    category = load_category("folder/parts", root=tmp_path)
    assert (len(category.train), len(category.test)) == (5, 2)
    (defective,) = (sample for sample in category.test if sample.label == "defect")
    assert (defective.id, int(defective.mask().sum())) == ("test/scratch/a", len(SQUARE_PIXELS))
    for sample in category.test:
        write_map(tmp_path / f"maps/{sample.id}.tiff", sample.mask().astype(np.float32))
    code, scored, err = run(
        monkeypatch, capsys, "evaluate", tmp_path / "maps", "folder/parts", "--root", out.parent, "--json",
        *("--image-score", "max", "--resamples", 0, "--out", tmp_path / "results"),
    )  # fmt: skip
    assert code == 0, err
    numbers = json.loads(scored)
    assert numbers["overall"]["n_defects"] == 1
    assert numbers["pixel_auroc"] == pytest.approx(1.0, abs=1e-12)


def test_what_is_printed_as_json_counts_everything(tmp_path, monkeypatch, capsys):
    source = coco(tmp_path, {"segmentation": [FLAT_SQUARE]}, {"segmentation": [[8, 0, 9, 0, 9, 1, 8, 1]]})
    arguments = ("import-masks", source, "--unannotated", "good", "--out", tmp_path / "parts", "--json")
    code, dry, _ = run(monkeypatch, capsys, *arguments, "--dry-run")
    assert (code, (tmp_path / "parts").exists()) == (0, False)
    code, out, err = run(monkeypatch, capsys, *arguments)
    assert (code, json.loads(out)) == (0, json.loads(dry))
    told = json.loads(out)
    assert told["outlines"] == {"scratch": 2}
    assert told["folders"] == {"good": 1, "scratch": 1}
    assert told["sizes"] == {"10 x 12": 2}
    assert told["n_defects"] == 2
    assert told["diameters_px"] == pytest.approx([2 * (1 / np.pi) ** 0.5, np.mean(areas()), areas()[1]], abs=1e-9)
    assert f"folder/parts --root {tmp_path}" in err.replace("'", "")
    record = json.loads((tmp_path / "parts/import.json").read_text())
    assert record["settings"]["unannotated"] == "good"


def areas() -> list[float]:
    return [2 * (area / np.pi) ** 0.5 for area in (1, len(SQUARE_PIXELS))]


# EXIF orientation.


def turned_coco(folder: Path, orientation: int, said: tuple[int, int], pixels: tuple[int, int]) -> Path:
    """a.jpg is stored as `pixels` (H, W) with an orientation, and the annotation says it is `said`."""
    source = coco(folder, {"segmentation": [[2, 3, 6, 3, 6, 5, 2, 5]]})
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros(pixels, dtype=np.uint8)).save(folder / "shots/a.jpg", exif=exif)
    (folder / "shots/a.png").unlink()
    content = json.loads(source.read_text())
    content["images"][0] |= {"file_name": "a.jpg", "height": said[0], "width": said[1]}
    source.write_text(json.dumps(content))
    return source


def test_a_size_that_is_the_upright_one_says_how_the_photograph_lay(tmp_path, imported):
    out = imported(turned_coco(tmp_path, 6, said=(12, 10), pixels=(10, 12)))
    assert marked(out / "mask/scratch/a.png") == SQUARE_PIXELS
    assert read_size(out / "mask/scratch/a.png") == (12, 10)


def test_outlines_on_the_stored_pixels_are_turned_with_them_when_the_user_says_so(tmp_path, refused, imported):
    source = turned_coco(tmp_path, 6, said=(10, 12), pixels=(10, 12))
    assert "--orientation" in refused(source)
    out = imported(source, "--orientation", "stored")
    # Orientation 6 is undone by a quarter turn to the right: row r, column c goes to row c, column 9 - r.
    assert marked(out / "mask/scratch/a.png") == {(column, 9 - row) for row, column in SQUARE_PIXELS}
    assert read_image(out / "defect/scratch/a.jpg").shape == (12, 10, 3)


def test_a_turn_that_keeps_the_size_is_asked_for_and_has_to_be_allowed(tmp_path, refused, monkeypatch, capsys):
    source = turned_coco(tmp_path, 3, said=SIZE, pixels=SIZE)
    assert "EXIF orientation 3" in refused(source)
    out = tmp_path / "parts"
    options = ("--unannotated", "good", "--orientation", "upright", "--out", out)
    code, _, err = run(monkeypatch, capsys, "import-masks", source, *options)
    assert (code, "--allow turned" in err) == (0, True)
    assert marked(out / "mask/scratch/a.png") == SQUARE_PIXELS
    assert run(monkeypatch, capsys, "inspect", "folder/parts", "--root", tmp_path)[0] == 2
    assert run(monkeypatch, capsys, "inspect", "folder/parts", "--root", tmp_path, "--allow", "turned")[0] == 0


def test_yolo_has_no_size_so_that_every_turn_is_asked_for(tmp_path, refused):
    source = yolo(tmp_path, f"0 {shares(SQUARE)}")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (12, 10)).save(tmp_path / "shots/images/train/a.png", exif=exif)
    assert "nothing says which way it lay" in refused(source)


# What is refused.


@pytest.mark.parametrize(
    ("make", "line"),
    {
        "not square": (lambda f: coco(f, {"segmentation": [[1, 2, 3, 4]]}), "annotation 7: 4 coordinates"),
        "no class": (lambda f: coco(f, {"segmentation": [FLAT_SQUARE], "category_id": 9}), "category_id 9"),
        "no image": (lambda f: coco(f, {"segmentation": [FLAT_SQUARE], "image_id": 9}), "image_id 9"),
        "outside": (lambda f: coco(f, {"segmentation": [[2, 3, 26, 3, 26, 5]]}), "reaches outside, x 2 to 26"),
        "far outside": (lambda f: coco(f, {"segmentation": [[22, 3, 26, 3, 26, 5]]}), "lies outside"),
        "box": (lambda f: coco(f, {"segmentation": [], "bbox": [1, 2, 3, 4]}), "--boxes"),
        "neither": (lambda f: coco(f, {}), "neither segmentation nor bbox"),
        "none": (lambda f: coco(f), "no outline in 2 annotated photographs"),
        "runs": (lambda f: coco(f, {"segmentation": {"size": SIZE, "counts": [1, 2]}}), "add up to 3 pixels"),
        "no runs": (lambda f: coco(f, {"segmentation": {"size": SIZE, "counts": [120]}}), "marks no pixel"),
        "packed": (lambda f: coco(f, {"segmentation": {"size": SIZE, "counts": "P"}}), "ends within a number"),
        "packed sign": (lambda f: coco(f, {"segmentation": {"size": SIZE, "counts": "2 1"}}), "(holds ' ')"),
        "other runs": (lambda f: coco(f, {"segmentation": {"size": [3, 3], "counts": [9]}}), "are of (3, 3)"),
        "twice": (
            lambda f: coco(f, images=[{"id": 0, "file_name": "a.png", "height": 10, "width": 12}] * 2),
            "id 0 stands twice",
        ),
        "same photograph": (
            lambda f: coco(f, images=[{"id": n, "file_name": "a.png", "height": 10, "width": 12} for n in (0, 1)]),
            "is annotated by",
        ),
        "not there": (
            lambda f: coco(f, images=[{"id": 0, "file_name": "z.png", "height": 10, "width": 12}]),
            "no photograph z.png",
        ),
        "other ending": (
            lambda f: coco(f, images=[{"id": 0, "file_name": "a.jpg", "height": 10, "width": 12}]),
            "no photograph a.jpg",
        ),
        "good class": (
            lambda f: coco(f, {"segmentation": [FLAT_SQUARE]}, categories=[{"id": 1, "name": "OK"}]),
            "sounds like no defect",
        ),
        "size": (
            lambda f: coco(
                f,
                {"segmentation": [FLAT_SQUARE]},
                images=[
                    {"id": n, "file_name": f"{name}.png", "height": 20, "width": 24} for n, name in enumerate("ab")
                ],
            ),
            "says 20 x 24 pixels",
        ),
        "linestrip": (lambda f: labelme(f, shape("linestrip", SQUARE)), "a linestrip has no area"),
        "point": (lambda f: labelme(f, shape("point", [[1, 1]])), "a point has no area"),
        "rectangle": (lambda f: labelme(f, shape("rectangle", [[1, 1], [2, 2]])), "--boxes"),
        "three corners": (lambda f: labelme(f, shape("rectangle", SQUARE)), "rectangle of 4 points, expected 2"),
        "bitmap": (lambda f: labelme(f, shape("mask", [[1, 1], [2, 2]], mask=png([[1]]))), "points say (2, 2)"),
        "no bitmap": (lambda f: labelme(f, shape("mask", [[1, 1], [2, 2]], mask="?")), "no base64"),
        "bitmap letters": (lambda f: labelme(f, shape("mask", [[1, 1], [2, 2]], mask="ä")), "no base64"),
        "nothing drawn": (lambda f: labelme(f), "no outline in 1 annotated photograph"),
        "polyline": (lambda f: cvat(f, '<polyline label="s" points="1,2;3,4"/>'), "a polyline has no area"),
        "video": (lambda f: cvat(f, "</image><track/><image>"), "tracks of a video"),
        "no number": (lambda f: cvat(f, '<polygon label="s" points="1,2;x,4"/>'), "could not convert"),
        "no label": (lambda f: cvat(f, '<polygon points="1,2;3,4"/>'), "has no label"),
        "cvat runs": (
            lambda f: cvat(f, '<mask label="s" rle="4" left="0" top="0" width="2" height="3"/>'),
            "add up to 4",
        ),
        "cvat reach": (
            lambda f: cvat(f, '<mask label="s" rle="0,4" left="11" top="0" width="2" height="2"/>'),
            "reach outside",
        ),
        "cvat backwards": (
            lambda f: cvat(f, '<mask label="s" rle="2,4" left="4" top="4" width="-2" height="-3"/>'),
            "its runs are of -3 x -2 pixels",
        ),
        "cvat half a pixel": (
            lambda f: cvat(f, '<mask label="s" rle="2.5,3.5" left="0" top="0" width="2" height="3"/>'),
            "2.5 pixels, where a whole number is due",
        ),
        "cvat nan size": (
            lambda f: damaged(cvat(f), b'<annotations><image name="a.png" height="nan" width="12"/></annotations>'),
            "image a.png: holds nan or inf",
        ),
        "cvat nan turn": (
            lambda f: cvat(f, '<box label="s" xtl="1" ytl="0" xbr="2" ybr="1" rotation="nan"/>'),
            "box 1: holds nan or inf",
        ),
        "cvat inf": (lambda f: cvat(f, '<ellipse label="s" cx="1" cy="inf" rx="2" ry="1"/>'), "holds nan or inf"),
        "no image at all": (lambda f: damaged(cvat(f), b"<annotations/>"), "holds no image"),
        "no encoding": (
            lambda f: damaged(cvat(f), b'<?xml version="1.0" encoding="foo"?><annotations/>'),
            "unknown encoding",
        ),
        "entities": (lambda f: damaged(cvat(f), b'<!DOCTYPE a [<!ENTITY b "c">]><annotations/>'), "declares entities"),
        "no xml": (lambda f: damaged(cvat(f), b"<annotations>"), "not readable as XML"),
        "other xml": (lambda f: damaged(cvat(f), b"<annotation/>"), "begins with <annotation>"),
        "empty xml": (lambda f: damaged(cvat(f), b""), "not readable as XML"),
        "empty json": (lambda f: damaged(coco(f), b""), "it is empty"),
        "zip": (lambda f: damaged(coco(f), b"PK\3\4"), "it is zip"),
        "yolo class": (lambda f: yolo(f, f"5 {shares(SQUARE)}"), "line 1: class 5"),
        "yolo odd": (lambda f: yolo(f, "0 0.1 0.1 0.2 0.2 0.3"), "line 1: 5 coordinates"),
        "yolo pixels": (lambda f: yolo(f, "0 2 3 6 3 6 5"), "lies outside"),
        "yolo word": (lambda f: yolo(f, "scratch 0.1 0.1 0.2 0.2 0.3 0.4"), "expected a class number"),
        "yolo nan": (lambda f: yolo(f, "0 nan 0.1 0.2 0.2 0.3 0.4"), "coordinates"),
        "yolo names": (lambda f: yolo(f, names="nc: 3\n"), "holds no 'names'"),
        "yolo tag": (lambda f: yolo(f, names='names: !!int ""\n'), "holds no 'names'"),
        "yolo large": (lambda f: yolo(f, names=f"names:\n  ? {'9' * 5000}\n  : a\n"), "holds no 'names'"),
        "yolo no text": (lambda f: yolo_with_label(f, b"\xff\xfe0"), "not readable as text"),
        "yolo number": (lambda f: yolo(f, f"{'9' * 5000} 0.1 0.1 0.2 0.2 0.3 0.4"), "expected a class number"),
        "yolo yaml": (lambda f: yolo(f, names="names: [a\n"), "not readable"),
    }.values(),
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_one_line_says_what_is_wrong_with_it(tmp_path, refused, make, line):
    assert line in refused(make(tmp_path))


def damaged(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def yolo_with_label(folder: Path, content: bytes) -> Path:
    source = yolo(folder)
    (folder / "shots/labels/train/a.txt").write_bytes(content)
    return source


READ = {
    "shots/instances.json": lambda f: coco(f, {"segmentation": [FLAT_SQUARE]}),
    "shots/annotations.xml": lambda f: cvat(f, '<polygon label="scratch" points="2,3;6,3;6,5;2,5"/>'),
    "shots/a.json": lambda f: labelme(f, shape("polygon", SQUARE)) / "a.json",
    "shots/data.yaml": lambda f: yolo(f, f"0 {shares(SQUARE)}"),
    "shots/labels/train/a.txt": lambda f: yolo(f, f"0 {shares(SQUARE)}"),
}


@pytest.mark.slow
@pytest.mark.parametrize("target", READ)
def test_a_damaged_file_is_named(tmp_path, refused, target):
    for number, (kind, damage) in enumerate(DAMAGES.items()):
        folder = tmp_path / str(number)
        source = READ[target](folder)
        path = folder / target
        path.rename(path.with_name("kept"))
        damage(path)
        is_passed_by = path.suffix == ".txt" and kind in {"empty", *NO_FILES}  # labels that are not there mean good
        assert ("shots" if is_passed_by else path.name) in refused(source)


def test_files_that_are_missing_are_asked_for_by_name(tmp_path, refused):
    empty, flat = tmp_path / "empty", tmp_path / "flat"
    empty.mkdir()
    assert "empty: no .json below" in refused(empty, "--format", "labelme")
    assert "empty: says nowhere what the classes are called" in refused(empty, "--format", "yolo")
    photographs(flat, "a.png")
    (flat / "classes.txt").write_text("scratch\n")
    assert "flat: no .txt of labels below" in refused(flat, "--format", "yolo")
    source = coco(tmp_path, {"segmentation": [FLAT_SQUARE]})
    assert "nowhere: no such folder; name that of the photographs" in refused(source, "--images", tmp_path / "nowhere")
    assert "holds coco, which is a single file; name that file" in refused(tmp_path / "shots")
    for name in ("coco", "cvat", "labelme", "yolo"):
        assert "gone: no such file or folder" in refused(tmp_path / "gone", "--format", name)
    damaged(tmp_path / "shots/other.json", b"{")
    assert "other.json: not readable as JSON" in refused(tmp_path / "shots")


def test_an_outline_around_a_photograph_marks_nothing_of_it(tmp_path, refused):
    around = [-9, -9, 30, -9, 30, 30, 28, 30, 28, -7, -9, -7]  # an angle past the upper right corner
    source = coco(tmp_path, {"segmentation": [around]})
    assert "annotation 7: marks no pixel of the photograph" in refused(source, "--clip")


def test_photographs_that_are_not_listed_are_left_out_and_said(tmp_path, monkeypatch, capsys):
    source = coco(tmp_path, {"segmentation": [FLAT_SQUARE]})
    photographs(tmp_path / "shots", "c.png")
    arguments = ("import-masks", source, "--unannotated", "good", "--out", tmp_path / "parts")
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert (code, "1 photograph in " in err, "not listed in instances.json: left out" in err) == (0, True, True)
    assert not list((tmp_path / "parts").rglob("c.png"))


@pytest.mark.parametrize("names", ["names: [on, no]\n", "names:\n  1: no\n", "names: {0: on, '1': 2020-13-41}\n"])
def test_a_class_of_yolo_is_called_as_it_is_written(tmp_path, imported, names):
    out = imported(yolo(tmp_path, f"1 {shares(SQUARE)}", names=names))
    assert marked(out / f"mask/{'2020-13-41' if '2020' in names else 'no'}/train/a.png") == SQUARE_PIXELS


def test_whether_photographs_without_outline_are_good_has_to_be_told(tmp_path, refused):
    line = refused(coco(tmp_path, {"segmentation": [FLAT_SQUARE]}), unannotated=None)
    assert "1 photograph without an outline, first b.png" in line
    assert "--unannotated good" in line


def test_without_any_good_photograph_nothing_is_made(tmp_path, refused):
    assert "--good" in refused(coco(tmp_path, {"segmentation": [FLAT_SQUARE]}), unannotated="skip")


def test_two_photographs_of_one_stem_are_refused(tmp_path, refused):
    source = coco(tmp_path, {"segmentation": [FLAT_SQUARE]})
    draw(tmp_path / "shots/a.jpg", size=SIZE)
    assert "same stem" in refused(source)
    (tmp_path / "shots/a.jpg").unlink()
    photographs(tmp_path / "fine", "B.png")
    assert "has the same name without ending" in refused(source, "--good", tmp_path / "fine")


def test_labels_without_their_photograph_are_refused(tmp_path, refused):
    source = yolo(tmp_path, f"0 {shares(SQUARE)}")
    (tmp_path / "shots/labels/train/gone.txt").write_text(f"0 {shares(SQUARE)}")
    assert "no photograph train/gone" in refused(source)


def test_an_unknown_class_is_refused_with_those_that_are_there(tmp_path, refused):
    line = refused(coco(tmp_path, {"segmentation": [FLAT_SQUARE]}), "--class", "Scratch")
    assert "did you mean scratch?" in line


def test_clip_cuts_at_the_edge(tmp_path, imported):
    out = imported(coco(tmp_path, {"segmentation": [[10, 3, 26, 3, 26, 5, 10, 5]]}), "--clip")
    assert marked(out / "mask/scratch/a.png") == {(row, column) for row in (3, 4) for column in (10, 11)}


def test_a_folder_that_holds_something_is_never_written_into(tmp_path, imported, monkeypatch, capsys):
    source = coco(tmp_path, {"segmentation": [FLAT_SQUARE]})
    out = imported(source)
    before = sorted(out.rglob("*"))
    code, _, err = run(monkeypatch, capsys, "import-masks", source, "--unannotated", "good", "--out", out)
    assert (code, "holds an import already" in err) == (2, True)
    assert sorted(out.rglob("*")) == before
    code, _, err = run(
        monkeypatch, capsys, "import-masks", source, "--unannotated", "good", "--out", tmp_path / "shots/parts"
    )
    assert (code, "lies in the folder of the photographs" in err) == (2, True)


def test_an_empty_folder_is_taken(tmp_path, imported):
    (tmp_path / "parts").mkdir()
    assert (imported(coco(tmp_path, {"segmentation": [FLAT_SQUARE]})) / "import.json").is_file()


def test_what_fails_half_way_leaves_nothing(tmp_path, refused):
    source = coco(tmp_path, {"segmentation": [FLAT_SQUARE]})
    (tmp_path / "shots/b.png").write_bytes(b"no picture")
    assert "b.png: not a readable image" in refused(source)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_an_import_that_is_killed_is_never_taken_for_whole(tmp_path):
    """It is killed where it writes the second photograph."""
    source = coco(tmp_path, {"segmentation": [FLAT_SQUARE]})
    program = (
        "import os, shutil, sys; import tinydefects.cli.app as app; copy = shutil.copyfile\n"
        "def kill(source, target): os._exit(9) if source.name == 'b.png' else copy(source, target)\n"
        "shutil.copyfile = kill; sys.argv = ['tinydefects', *sys.argv[1:]]; app.main()"
    )
    arguments = ["import-masks", str(source), "--unannotated", "good", "--out", str(tmp_path / "parts")]
    finished = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert finished.returncode == 9, finished.stderr
    assert not (tmp_path / "parts").exists()


def test_the_kind_is_seen_or_asked_for(tmp_path):
    source = labelme(tmp_path, shape("polygon", SQUARE))
    told = ImportSettings(out=tmp_path / "parts", unannotated="good")
    assert plan_import(source, told).format == "labelme"
    (source / "classes.txt").write_text("a\n")
    with pytest.raises(DatasetError, match="holds labelme and yolo; say which is meant with --format"):
        plan_import(source, told)
    assert plan_import(source, told.model_copy(update={"format": "labelme"})).format == "labelme"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="nothing known here"):
        plan_import(tmp_path / "empty", told)
    with pytest.raises(DatasetError, match="no such file or folder"):
        plan_import(tmp_path / "gone", told)
