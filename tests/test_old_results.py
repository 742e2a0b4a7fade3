import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tinydefects.benchmark.run_folder import finished, read_protocol
from tinydefects.benchmark.summary import read_summary, summarise, write_summary
from tinydefects.results.protocol import OF_EACH_CATEGORY, list_jobs
from tinydefects.results.result import read_result, write_result

OF_EXHIBITS = Path(__file__).parent / "goldens/benchmark_of_exhibits"  # results of format 5, a summary of format 3
RESULT = OF_EXHIBITS / "synthetic/brushed_metal/0/local_contrast/seed_0.json"


def test_a_result_that_says_exhibits_is_read_with_its_crops_and_written_in_the_words_of_today(tmp_path):
    old = read_result(RESULT)
    stored = json.loads(RESULT.read_text())["evaluation"]["exhibits"]
    assert [(one.defect.sample_id, one.defect.area_px) for one in old.evaluation.crops] == [
        (one["sample_id"], one["area_px"]) for one in stored
    ]
    assert len(stored) == 2
    assert all(one.image.shape == (64, 64, 3) for one in old.evaluation.crops)
    # Every drawn defect lies whole in an image of 64 px, and so in its crop.
    assert all(one.mask.sum() >= one.defect.area_px > 0 for one in old.evaluation.crops)
    path = write_result(old, tmp_path / "again.json")
    assert "exhibit" not in path.read_text()
    again = read_result(path)
    assert str(again.evaluation) == str(old.evaluation)
    for kept, cropped in zip(again.evaluation.crops, old.evaluation.crops, strict=True):
        np.testing.assert_array_equal(kept.anomaly_map, cropped.anomaly_map)


def test_settings_take_the_words_of_today_and_ids_of_images_keep_their_own(tmp_path):
    content = json.loads(RESULT.read_text())
    content["provenance"]["settings"] |= {"n_exhibits": "3"}
    content["evaluation"]["aupimo_by_image"] = {"exhibits": 0.5, "figure": 0.25}
    for suffix in (".npz", ".tally.npz"):
        shutil.copy(RESULT.with_suffix(suffix), tmp_path / f"named{suffix}")
    (tmp_path / "named.json").write_text(json.dumps(content))
    result = read_result(tmp_path / "named.json")
    assert result.provenance.settings["n_crops"] == "3"
    assert "n_exhibits" not in result.provenance.settings
    assert result.evaluation.aupimo_by_image == {"exhibits": 0.5, "figure": 0.25}


def test_a_benchmark_that_says_exhibits_goes_on_where_it_stopped():
    protocol = read_protocol(OF_EXHIBITS)
    assert protocol.evaluation == OF_EACH_CATEGORY.changed(n_resamples=20, n_crops=3)
    assert protocol.fingerprint == json.loads((OF_EXHIBITS / "protocol.json").read_text())["fingerprint"]
    (job,) = list_jobs(protocol, ["local_contrast"], teacherless={"local_contrast"})
    found = finished(job, OF_EXHIBITS)
    assert found is not None
    assert found.metrics["image_auroc"] == pytest.approx(1.0, abs=1e-12)


def test_a_summary_that_says_exhibits_equals_one_made_today(tmp_path):
    new = write_summary(summarise(OF_EXHIBITS, n_resamples=20), tmp_path / "summary.json")
    assert "exhibit" not in new.read_text()
    old, again = read_summary(OF_EXHIBITS / "summary.json"), read_summary(new)
    assert old.protocol == again.protocol
    assert [row.category for row in old.rows] == ["synthetic/brushed_metal"]
    assert repr(old.rows) == repr(again.rows)
