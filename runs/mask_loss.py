"""What shrinking the truth takes away, by defect size: python runs/mask_loss.py [DATA]

Discs of several diameters in an image of 2048 x 2448 pixels, synthetic defects of two pixels, and, where DATA holds
them, the magnetic tiles. Writes results/mask_loss.json, then `python runs/tables.py` prints it. Five minutes, nearly
all of it for drawing.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tinydefects.data.json_files import write_json
from tinydefects.datasets.catalog import list_categories, load_category
from tinydefects.planner.inspection import Inspection, inspect_defects, inspect_disc
from tinydefects.results.result import describe_run

RESULT = Path(__file__).resolve().parents[1] / "results" / "mask_loss.json"
IMAGE_SIZE = (2048, 2448)  # five megapixels
DIAMETERS_PX = (2.0, 4.0, 8.0, 16.0)
TWO_PIXELS: dict[str, float] = {"size": 1024, "n_train": 1, "n_good": 1, "n_defect": 120, "min_area_px": 2, "seed": 0}
TWO_PIXELS |= {"max_area_share": 2.2 / 1024**2}


def inspections(data: Path) -> Iterator[tuple[str, Inspection]]:
    """Every row of the table, by name."""
    for diameter in DIAMETERS_PX:
        yield f"discs of {diameter:g} px in {IMAGE_SIZE[0]}x{IMAGE_SIZE[1]} px", inspect_disc(diameter, IMAGE_SIZE)
    drawn = load_category("synthetic/brushed_metal", root=data, **TWO_PIXELS)
    yield "synthetic defects of 2 pixels in 1024x1024 px", inspect_defects(drawn.test)
    if "magnetic_tile/all" in list_categories("magnetic_tile", data):
        yield "magnetic tiles, all five types", inspect_defects(load_category("magnetic_tile/all", root=data).test)


def main(data: Path) -> None:
    """Measure and write."""
    rows = []
    for name, inspection in inspections(data):
        numbers = asdict(inspection)
        del numbers["diameters_px"]
        rows.append({"name": name, **numbers})
        print(name, inspection.n_defects, flush=True)
    provenance = describe_run({"command": "runs/mask_loss.py", "image_size": IMAGE_SIZE, **TWO_PIXELS})
    write_json(RESULT, {"provenance": asdict(provenance), "rows": rows})


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "data"))
