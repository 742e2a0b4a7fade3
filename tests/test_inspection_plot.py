import re

import pytest

from tinydefects.errors import TinyDefectsError
from tinydefects.planner.inspection import inspect_defects, inspect_disc
from tinydefects.planner.showing import write_plot


@pytest.mark.slow
def test_the_same_inspection_gives_the_same_bytes_and_its_own_words(tmp_path):
    inspection = inspect_disc(12.0, (400, 600), resolutions=(200, 300), pixel_pitch_mm=0.05)
    first, second = (write_plot("discs", inspection, tmp_path / name).read_bytes() for name in ("a.svg", "b.svg"))
    assert first == second
    words = re.findall(r"<text[^>]*>([^<]*)</text>", first.decode())
    assert f"discs: {inspection.n_defects:,} defects" in words
    assert {"200", "300", "native", "mm", "two patches and more"} <= set(words)


@pytest.mark.slow
def test_every_format_is_written(tmp_path):
    inspection = inspect_disc(12.0, (400, 600), resolutions=(200,))
    starts = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}
    for suffix, start in starts.items():
        assert write_plot("discs", inspection, tmp_path / f"plot{suffix}").read_bytes().startswith(start)


def test_another_format_or_no_defect_is_refused(tmp_path):
    with pytest.raises(TinyDefectsError, match=r"plot\.bmp: a plot ends in one of \.svg, \.png, \.pdf"):
        write_plot("discs", inspect_disc(12.0, (400, 600)), tmp_path / "plot.bmp")
    with pytest.raises(TinyDefectsError, match="no defects to plot"):
        write_plot("none", inspect_defects([]), tmp_path / "plot.svg")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("diameter", "name"), [(1.0, "tiles"), (60.0, "advised")])
def test_the_advised_input_is_the_last_bar(tmp_path, diameter, name):
    path = write_plot("discs", inspect_disc(diameter, (600, 600)), tmp_path / "plot.svg")
    assert f">{name}</text>" in path.read_text()
