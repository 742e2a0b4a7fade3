"""Draw the README's picture from a finished demo: python runs/readme_picture.py DEMO_FOLDER FAMILY

One drawn part at full size with a square on it; the square at native pixels as image, truth and anomaly map; and the
share of defects found against their diameter. Written for light and dark pages to docs/pictures/.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tinydefects.data.defects import centred_span
from tinydefects.data.pixels import read_image
from tinydefects.datasets.catalog import load_category
from tinydefects.metrics.records import Crop
from tinydefects.metrics.scores import Evaluation
from tinydefects.report.sections import bin_by_diameter
from tinydefects.report.words import rate_in_words
from tinydefects.results.result import read_result

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
THEMES = {
    "light": {"ink": "#1f2328", "muted": "#59636e", "line": "#d1d9e0", "page": "#ffffff"},
    "dark": {"ink": "#f0f6fc", "muted": "#9198a1", "line": "#3d444d", "page": "#0d1117"},
}
ACCENT = "#e8590c"


def choose(evaluation: Evaluation) -> Crop:
    """The smallest defect of at least 12 px that is found: small, and still to be seen in print."""
    shown = [crop for crop in evaluation.crops if crop.defect.area_px >= 12]
    hits = zip(evaluation.defects, evaluation.detectability.hits, strict=True)
    boxes = {(defect.sample_id, defect.box_px) for defect, hit in hits if hit}
    found = [crop for crop in shown if (crop.defect.sample_id, crop.defect.box_px) in boxes]
    return min(found or shown, key=lambda crop: crop.defect.area_px)


def draw(evaluation: Evaluation, results: Sequence[Evaluation], image_path: Path, theme: dict[str, str]) -> Figure:
    """The whole picture in one theme."""
    crop = choose(evaluation)
    image = read_image(image_path)
    figure = Figure(figsize=(11, 3.1), dpi=130, facecolor=theme["page"], layout="constrained")
    whole, native, truth, anomaly, plot = figure.subplots(1, 5, width_ratios=(1.25, 1, 1, 1, 1.6))
    whole.imshow(image)
    mark_square(whole, crop, image.shape[:2])
    native.imshow(crop.image, interpolation="nearest")
    truth.imshow(crop.image, interpolation="nearest")
    truth.imshow(np.ma.masked_where(~crop.mask, crop.mask), cmap="autumn", interpolation="nearest", alpha=0.9)
    low, high = evaluation.score_range
    anomaly.imshow(crop.anomaly_map.astype(np.float32), cmap="inferno", vmin=low, vmax=high, interpolation="nearest")
    share = crop.defect.area_px / (image.shape[0] * image.shape[1])
    titles = ("the whole image", "native pixels", "truth", "anomaly map")
    for axes, title in zip((whole, native, truth, anomaly), titles, strict=True):
        axes.set_title(title, color=theme["ink"], fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(theme["line"])
    caption = f"{crop.defect.defect_type}, {crop.defect.area_px} px, {100 * share:.3g} % of the image"
    native.set_xlabel(caption, color=theme["muted"], fontsize=8)
    draw_detection(plot, results, theme)
    return figure


def mark_square(axes: Axes, crop: Crop, size: tuple[int, ...]) -> None:
    """Where the crop lies in the whole image."""
    top, left, height, width = crop.defect.box_px
    side = crop.image.shape[0]
    y = centred_span(top + height // 2, side, size[0]).start
    x = centred_span(left + width // 2, side, size[1]).start
    axes.add_patch(Rectangle((x, y), side, side, fill=False, edgecolor=ACCENT, linewidth=1.5))


def draw_detection(axes: Axes, results: Sequence[Evaluation], theme: dict[str, str]) -> None:
    """Share of defects found, by octaves of diameter, with exact 95 % intervals."""
    defects = [defect for one in results for defect in one.defects]
    bins = bin_by_diameter(defects, [hit for one in results for hit in one.detectability.hits])
    centres = [np.sqrt(one.low_px * one.high_px) for one in bins]
    shares = np.array([one.n_found / one.n_defects for one in bins])
    below = shares - [one.interval[0] for one in bins]
    above = [one.interval[1] for one in bins] - shares
    axes.errorbar(centres, shares, yerr=[below, above], color=ACCENT, marker="o", capsize=2.5, linewidth=1.5)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({one.low_px for one in bins} | {bins[-1].high_px}))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(0, 1.03)
    axes.set_facecolor(theme["page"])
    alarms = rate_in_words(*(one.detectability for one in results)).replace(" (", "\n(")
    axes.set_title(f"found at {alarms}", color=theme["ink"], fontsize=9)
    axes.set_xlabel(f"defect diameter, px  ({len(defects)} defects)", color=theme["muted"], fontsize=8)
    axes.tick_params(colors=theme["muted"], labelsize=8)
    axes.grid(color=theme["line"], linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(theme["line"])


def main(demo: str, family: str) -> None:
    """Write both themes."""
    folder = Path(demo)
    stored = [read_result(path) for path in sorted((folder / "results/synthetic").glob("*.json"))]
    results = [one.evaluation for one in stored]
    own = next(one for one in stored if one.evaluation.category == f"synthetic/{family}")
    evaluation = own.evaluation
    drawn = {name: int(own.provenance.settings[name]) for name in ("seed", "size", "n_train", "n_good", "n_defect")}
    category = load_category(f"synthetic/{family}", root=folder / "data", **drawn)  # the very images that were scored
    image_path = next(one.image_path for one in category.test if one.id == choose(evaluation).defect.sample_id)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, theme in THEMES.items():
        draw(evaluation, results, image_path, theme).savefig(PICTURES / f"demo_{name}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
