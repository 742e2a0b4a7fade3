"""A copy of one finished benchmark with one thing changed in it: verify names the file, whatever it is."""

import hashlib
import json
import re
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark_scene import CATEGORY, PROTOCOL, SCENE, jobs_for, settings_in
from command_line import run
from dataset_trees import draw_loco
from tinydefects.benchmark.data_digests import read_digests, split_digest
from tinydefects.benchmark.processes import InThisProcess
from tinydefects.benchmark.reproduce import Machine, reproduce
from tinydefects.benchmark.run_folder import write_protocol
from tinydefects.benchmark.runner import run as run_jobs
from tinydefects.data.map_files import read_header, read_map
from tinydefects.data.pixels import read_image, write_map, write_png
from tinydefects.datasets.catalog import load_category
from tinydefects.results.result import read_result, write_result

pytestmark = pytest.mark.slow

OLD = Path(__file__).parent / "goldens/benchmark_of_exhibits"
PLACE = Path(CATEGORY) / "0/local_contrast/seed_0.json"
PROTOCOL_PLACE = Path("protocol.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Data and results of one job, its maps kept."""
    folder = tmp_path_factory.mktemp("made")
    settings = settings_in(folder, keep_maps=True)
    write_protocol(PROTOCOL, settings.out)
    (outcome,) = run_jobs(jobs_for("local_contrast"), settings, InThisProcess(), n_at_once=lambda: 1)
    assert not outcome.reason
    return folder


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made / "out", tmp_path / "out with blanks")
    return tmp_path / "out with blanks"


@pytest.fixture
def verify(monkeypatch, capsys):
    def run_it(*arguments):
        code, out, err = run(monkeypatch, capsys, "verify", *arguments, "--json", "-q")
        assert code in {0, 2}, err
        found = json.loads(out)
        assert (code == 2) == bool(found["wrong"])
        return found

    return run_it


def rewrite(path: Path, change, *, forge: bool = True) -> None:
    """Change a JSON file of ours; who forges a result knows about the digest in it."""
    content = json.loads(path.read_text())
    change(content)
    if forge and "content_sha256" in content:
        bare = {name: value for name, value in content.items() if name != "content_sha256"}
        text = json.dumps(bare, sort_keys=True, separators=(",", ":"))
        content["content_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(content))


def set_at(*keys, by):
    """A change of the value below these keys."""

    def change(content):
        *first, last = keys
        for key in first:
            content = content[key]
        content[last] = by(content[last])

    return change


def test_what_a_benchmark_wrote_holds_and_nothing_is_left_unchecked_with_the_data_at_hand(made, verify):
    found = verify(made / "out", "--root", made / "data")
    assert found["wrong"] == []
    assert found["unchecked"] == {}
    assert found["n_results"] == 1
    assert set(found["checked"]) == {
        "fingerprint of the protocol",
        "digest of the file itself",
        "numbers counted again from the tally",
        "job and protocol that the result answers",
        "intervals drawn again (a sample)",
        "numbers scored again from the maps (a sample)",
        "results of a category are of the same images and masks",
        "images and masks are those of the results (categories)",
        "versions of packages are recorded",
    }


def test_it_says_what_it_could_not_check_without_the_data(made, verify, monkeypatch, capsys):
    unchecked = verify(made / "out")["unchecked"]
    assert set(unchecked) == {
        "numbers from the maps, which need the masks: give --root (a sample)",
        "images and masks themselves: give --root",
    }
    code, out, _ = run(monkeypatch, capsys, "verify", made / "out", "-q")
    assert code == 0
    assert out.splitlines()[-1] == "1 result read; all that was checked holds"
    assert "not checked: images and masks themselves: give --root: 1" in out


@pytest.mark.parametrize(
    "keys",
    [
        ("evaluation", "n_images"),
        ("evaluation", "n_normal_pixels"),
        ("evaluation", "overall", "aupro", 0),
        ("evaluation", "overall", "curve", "pro", 20),
        ("evaluation", "cumulative", 0, "aupro", 2),
        ("evaluation", "cumulative", 1, "n_defects"),
        ("evaluation", "by_type", 0, "image_auroc"),
        ("evaluation", "rho", 1),
        ("evaluation", "image_auroc"),
        ("evaluation", "image_best_f1"),
        ("evaluation", "pixel_auroc"),
        ("evaluation", "pixel_average_precision"),
        ("evaluation", "pixel_best_f1"),
        ("evaluation", "aupimo"),
        ("evaluation", "quartile_areas_px", 1),
        ("evaluation", "score_range", 1),
        ("evaluation", "defects", 0, "area_px"),
        ("evaluation", "defects", 0, "peak"),
        ("evaluation", "defects", 1, "first_touched_fpr"),
        ("evaluation", "defects", 1, "half_covered_fpr"),
        ("evaluation", "defects", 2, "aupro", 3),
        ("evaluation", "detectability", "n_alarming_images"),
        ("evaluation", "detectability", "threshold"),
        ("evaluation", "detectability", "fit", "n_hits"),
        ("evaluation", "intervals", "aupro_Q1@0.05", "low"),
        ("evaluation", "intervals", "image_auroc", "high"),
    ],
    ids=lambda keys: ".".join(map(str, keys[1:])),
)
def test_a_number_that_was_changed_with_the_digest_of_its_file_contradicts_the_tally(copy, verify, keys):
    rewrite(copy / PLACE, set_at(*keys, by=lambda value: value + 1 if isinstance(value, int) else value * 0.9 - 0.02))
    (line,) = verify(copy)["wrong"]
    assert line.startswith(f"{copy / PLACE}: ")
    assert str(keys[1]) in line


def test_numbers_of_a_defect_that_all_agree_are_found_in_the_maps(copy, made, verify):
    """One AUPRO moved by less than the tally knows: only scoring the maps again shows it."""

    def change(content):
        content["evaluation"]["score_range"][0] += 0.001
        content["evaluation"]["defects"][0]["contrast"] += 0.5

    rewrite(copy / PLACE, change)
    assert verify(copy)["wrong"] == []
    (line,) = verify(copy, "--root", made / "data")["wrong"]
    assert line.startswith(f"{copy / PLACE}: ")
    assert "the maps give" in line


def test_any_careless_edit_breaks_the_digest_of_the_file(copy, verify):
    rewrite(copy / PLACE, set_at("run", "fit_seconds", by=lambda value: value / 2), forge=False)
    assert verify(copy)["wrong"] == [
        f"{copy / PLACE}: was changed after it was written (its digest is of other content)"
    ]


def lose_crops(path):
    path.with_suffix(".npz").unlink()


def swap_tally(path):
    np.savez(path.with_suffix(".tally.npz"), thresholds=np.zeros(3))


def cut_json(path):
    path.write_text(path.read_text()[:500])


@pytest.mark.parametrize(
    ("damage", "name"), [(lose_crops, "seed_0.npz"), (swap_tally, "seed_0.tally.npz"), (cut_json, "seed_0.json")]
)
def test_what_is_missing_swapped_or_cut_is_named(copy, verify, damage, name):
    second = copy / "synthetic/brushed_metal/0/other/seed_0.json"
    second.parent.mkdir()
    for path in (copy / PLACE).parent.glob("seed_0.*"):
        shutil.copy(path, second.parent)
    damage(second)
    assert [line for line in verify(copy)["wrong"] if line.startswith(str(second.with_name(name)))]


def test_another_protocol_is_found_whether_or_not_its_fingerprint_was_made_to_fit(copy, verify):
    rewrite(copy / PROTOCOL_PLACE, set_at("protocol", "threshold_rate", by=lambda rate: 2 * rate))
    first, second = verify(copy)["wrong"]
    assert first.startswith(f"{copy / PROTOCOL_PLACE}: says fingerprint {PROTOCOL.fingerprint}")
    assert second.startswith(f"{copy / PLACE}: made under another protocol")
    given = re.search(r"its settings give (\w{16}): it was changed", first)
    assert given is not None
    rewrite(copy / PROTOCOL_PLACE, lambda content: content.update(fingerprint=given[1]))
    assert [line.partition(": ")[0] for line in verify(copy)["wrong"]] == [str(copy / PLACE)]


def test_another_job_and_another_place_are_found(copy, verify):
    moved = (copy / PLACE).parent.with_name("better_method")
    (copy / PLACE).parent.rename(moved)
    (line,) = verify(copy)["wrong"]
    assert line.startswith(f"{moved / 'seed_0.json'}: is the result of {CATEGORY} – local_contrast seed 0")
    rewrite(moved / "seed_0.json", set_at("run", "method", by=lambda _: "better_method"))
    (line,) = verify(copy)["wrong"]
    assert "answers another job than" in line


def test_a_changed_mask_and_a_changed_image_are_named(copy, made, verify, tmp_path):
    shutil.copytree(made / "data", tmp_path / "data")
    category = load_category(CATEGORY, root=tmp_path / "data", **SCENE)
    defective = [sample for sample in category.test if sample.mask_paths]
    (mask_path,) = defective[0].mask_paths
    mask = defective[0].mask()
    mask[0, 0] = not mask[0, 0]
    write_png(mask_path, mask)
    wrong = verify(copy, "--root", tmp_path / "data", "--sample", 0)["wrong"]
    assert wrong == [f"{mask_path}: is not the file that the results were made with"]
    image_path = category.train[1].image_path
    write_png(image_path, 255 - read_image(image_path))
    wrong = verify(copy, "--root", tmp_path / "data", "--sample", 0)["wrong"]
    assert [line.partition(": ")[0] for line in wrong] == [str(image_path), str(mask_path)]


def test_a_changed_map_and_one_of_another_job_are_found(copy, made, verify):
    path = sorted((copy / PLACE).with_suffix("").rglob("*.tiff"))[0]
    description = read_header(path).description
    write_map(path, read_map(path) + np.float32(0.5), description=description)
    (line,) = verify(copy, "--root", made / "data")["wrong"]
    assert line.startswith(f"{copy / PLACE}: ")
    assert "the maps give" in line
    write_map(
        path, read_map(path), description=description.replace(jobs_for("local_contrast")[0].fingerprint, "0" * 16)
    )
    (line,) = verify(copy, "--root", made / "data")["wrong"]
    assert f"{path}: is not a map of this job" in line


def test_results_of_other_images_and_a_record_that_was_edited_are_found(copy, verify):
    rewrite(copy / PLACE, set_at("run", "settings", "split", by=lambda _: "0" * 64))
    (line,) = verify(copy)["wrong"]
    assert line.startswith(f"{copy / PLACE}: is of other images or masks of {CATEGORY}")
    record = copy / CATEGORY / "data.json"
    record.write_text(record.read_text().replace("'good'", "'defect'", 1))
    assert f"{record}: content: Value error, its lines do not give its digest" in verify(copy)["wrong"][0]


def test_the_record_of_files_gives_the_digest_that_results_always_carried(made):
    category = load_category(CATEGORY, root=made / "data", **SCENE)
    stored = read_digests(made / "out" / CATEGORY / "data.json")
    assert stored is not None
    assert stored.split == split_digest(category) == read_result(made / "out" / PLACE).run.settings["split"]
    assert list(stored.test) == [sample.id for sample in category.test]


def test_results_of_earlier_versions_are_read_and_said_to_lack_their_digests(verify):
    found = verify(OLD)
    assert found["wrong"] == []
    assert {
        "digest of the file itself, which results of earlier versions lack",
        "intervals of results of earlier versions, which drew otherwise",
        "digest of each single file, as there is no data.json beside the results",
    } <= set(found["unchecked"])
    assert found["checked"]["numbers counted again from the tally"] == 1


def test_a_result_from_before_parts_and_saturations_is_not_wrong_for_lacking_them(tmp_path, verify):
    draw_loco(tmp_path / "data/mvtec_loco/pushpins", size=(24, 32))
    protocol = replace(PROTOCOL, categories=("mvtec_loco/pushpins",), options={})
    settings = settings_in(tmp_path, keep_maps=True)
    write_protocol(protocol, settings.out)
    jobs = jobs_for("local_contrast", protocol=protocol)
    (outcome,) = run_jobs(jobs, settings, InThisProcess(), n_at_once=lambda: 1)
    assert not outcome.reason
    path = settings.out / jobs[0].path
    assert read_result(path).evaluation.n_saturated == 2

    def age(content):
        content["format"] = 7
        for name in ("n_parts", "n_good_parts", "part_auroc", "n_saturated", "spro"):
            del content["evaluation"][name]
        known = content["evaluation"]["intervals"].items()
        content["evaluation"]["intervals"] = {name: one for name, one in known if not name.startswith("spro")}

    for name in ("is_view", "saturation_px", "image_of_outlined", "outlined_at_least"):
        tally_of(path, lambda arrays, name=name: arrays.pop(name))
    rewrite(path, age)
    found = verify(settings.out, "--root", settings.root)
    assert found["wrong"] == []
    assert found["checked"]["numbers scored again from the maps (a sample)"] == 1
    assert reproduce(path, Machine(root=settings.root)).beyond(0) == {}


def test_a_result_of_no_benchmark_has_its_numbers_checked_alone(verify, tmp_path, made):
    result = read_result(made / "out" / PLACE)
    write_result(replace(result, run=None), tmp_path / "alone/metal.json")
    found = verify(tmp_path / "alone")
    assert found["wrong"] == []
    assert found["checked"]["numbers counted again from the tally"] == 1
    assert "protocol and data, as no benchmark made the result" in found["unchecked"]


def test_nothing_to_verify_is_one_line(monkeypatch, capsys, tmp_path):
    code, _, err = run(monkeypatch, capsys, "verify", tmp_path / "nowhere", "-q")
    assert code == 2
    assert "nowhere: no results here" in err


def tally_of(path: Path, change) -> None:
    """Change the arrays of a tally, and what the result says of that file, as a forger would."""
    tally = path.with_suffix(".tally.npz")
    with np.load(tally) as stored:
        arrays = dict(stored)
    change(arrays)
    np.savez_compressed(tally, **arrays)
    digest = hashlib.sha256(tally.read_bytes()).hexdigest()
    rewrite(path, lambda content: content.update(tally_sha256=digest))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("image_of_defect", lambda numbers: numbers + 10**12),
        ("image_of_defect", lambda numbers: -numbers - 1),
        ("image_of_defect", lambda numbers: numbers.astype(float)),
        ("peak", lambda numbers: numbers.astype(str)),
        ("image_score", lambda numbers: numbers.astype(complex)),
        ("sample_id", lambda names: np.arange(names.size)),
        ("area_px", lambda numbers: numbers * 0),
        ("thresholds", lambda numbers: numbers[::-1]),
        ("n_normal", lambda numbers: numbers[:-1]),
    ],
)
def test_a_tally_that_is_none_is_a_line_and_not_a_crash(copy, verify, name, change):
    tally_of(copy / PLACE, lambda arrays: arrays.update({name: change(arrays[name])}))
    (line,) = verify(copy)["wrong"]
    assert line.startswith(f"{copy / PLACE}: not a readable result (ValueError: ")
    assert "tally" in line


def test_an_array_that_promises_a_terabyte_is_refused_before_memory_is_set_aside(copy, verify):
    tally = (copy / PLACE).with_suffix(".tally.npz")
    with np.load(tally) as stored, zipfile.ZipFile(copy / "new.npz", "w") as new:
        for name in stored.files:
            with new.open(f"{name}.npy", "w") as file:
                if name != "peak":
                    np.lib.format.write_array(file, stored[name])
                else:
                    header = {"descr": "<f4", "fortran_order": False, "shape": (2**38,)}
                    np.lib.format.write_array_header_1_0(file, header)
    (copy / "new.npz").replace(tally)
    rewrite(copy / PLACE, lambda content: content.update(tally_sha256=hashlib.sha256(tally.read_bytes()).hexdigest()))
    (line,) = verify(copy)["wrong"]
    assert "peak.npy promises more than it holds" in line


def test_one_strange_result_does_not_keep_others_from_being_looked_at(copy, verify):
    shutil.copytree(copy / CATEGORY, copy / "other/brushed_metal")
    rewrite(copy / PLACE, set_at("evaluation", "detectability", "rule", by=lambda _: "by feel"))
    found = verify(copy)
    assert found["n_results"] == 2
    assert any(line.startswith(f"{copy / PLACE}: does not fit its tally (detection rule") for line in found["wrong"])
    assert any(line.startswith(f"{copy / 'other'}") for line in found["wrong"])


def test_a_result_of_this_version_without_a_digest_was_changed(copy, verify):
    rewrite(copy / PLACE, lambda content: content.pop("content_sha256"))
    (line,) = verify(copy)["wrong"]
    assert line.startswith(f"{copy / PLACE}: was changed after it was written")


def test_a_pixel_pitch_that_is_not_the_protocols_is_named(copy, verify):
    rewrite(copy / PLACE, set_at("evaluation", "pixel_pitch_mm", by=lambda _: 0.05))
    (line,) = verify(copy)["wrong"]
    assert "bins or pixel pitch are not those of the protocol" in line


def test_a_table_of_defects_that_says_something_else_is_named(copy, verify):
    path = copy / PLACE
    write_result(read_result(path), path, with_table=True)
    assert verify(copy)["checked"]["table of defects"] == 1
    table = path.with_suffix(".defects.csv")
    table.write_text(table.read_text().replace("pit", "pot", 1))
    (line,) = verify(copy)["wrong"]
    assert line == f"{table}: is not the table of {path.name}; remove it"


def test_strange_bits_of_an_image_are_a_line(copy, made, verify):
    rewrite(copy / PLACE, set_at("run", "settings", "image_bits", by=lambda _: "many"))
    (line,) = verify(copy, "--root", made / "data")["wrong"]
    assert "cannot be scored again from its maps" in line


def test_options_that_a_loader_does_not_have_are_a_line(copy, made, verify):
    rewrite(copy / PROTOCOL_PLACE, set_at("protocol", "options", "synthetic", by=lambda old: {**old, "root": "/"}))
    lines = verify(copy, "--root", made / "data")["wrong"]
    assert any("the protocol gives the option 'root', which synthetic does not have" in line for line in lines)


def test_a_protocol_without_a_seed_is_named(copy, verify):
    rewrite(copy / PROTOCOL_PLACE, set_at("protocol", "seeds", by=lambda _: []))
    assert any(line.endswith("names no seed; ask for it again") for line in verify(copy)["wrong"])


def test_a_test_image_that_is_learnt_from_is_told(made, tmp_path, verify):
    settings = settings_in(tmp_path)
    shutil.copytree(made / "data", settings.root)
    category = load_category(CATEGORY, root=settings.root, **SCENE)
    shutil.copy(category.test[0].image_path, category.train[1].image_path)
    write_protocol(PROTOCOL, settings.out)
    (outcome,) = run_jobs(jobs_for("local_contrast"), settings, InThisProcess(), n_at_once=lambda: 1)
    assert not outcome.reason
    found = verify(settings.out)
    assert found["wrong"] == []
    told = f"1 of the test images of {CATEGORY} are images to learn from as well, first {category.test[0].id}"
    assert told in found["remarks"]
    assert not any("learn from" in remark for remark in verify(made / "out")["remarks"])
