import pytest

from dataset_trees import draw, draw_all
from tinydefects.data.mask_checks import check_masks
from tinydefects.datasets.catalog import list_categories, load_category, load_training
from tinydefects.errors import DatasetError, ResolutionMismatchError


def draw_split(folder, defective: str, good: str) -> None:
    """Photographs, labels of the defective ones, and the list as it is published: the class's number comes first."""
    stems = sorted([*defective.split(), *good.split()])
    draw_all(folder, " ".join(f"{stem}.PNG" for stem in stems))
    draw_all(folder / "Label", " ".join(f"{stem}_label.PNG" for stem in defective.split()), spot=(1, 2))
    rows = [
        f"{int(stem)}\t1\t{stem}.PNG\t0\t{stem}_label.PNG" if stem in defective else f"{int(stem)}\t0\t{stem}.PNG\t0\t0"
        for stem in stems
    ]
    (folder / "Label" / "Labels.txt").write_text("\n".join(["1", *rows, ""]))


@pytest.fixture
def dagm(tmp_path):
    place = tmp_path / "DAGM_KaggleUpload" / "Class1"
    draw_split(place / "Train", defective="0577 0579", good="0576 0578")
    draw_split(place / "Test", defective="0002", good="0001 0003")
    return tmp_path


def ids(samples):
    return [sample.id for sample in samples]


def test_good_training_images_are_learnt_from_and_all_test_images_tested(dagm):
    category = load_category("dagm/Class1", root=dagm)
    assert ids(category.train) == ["train/good/0576", "train/good/0578"]
    assert ids(category.test) == ["test/good/0001", "test/defect/0002", "test/good/0003"]
    assert [sample.label for sample in category.test] == ["good", "defect", "good"]
    assert category.test[1].mask()[1, 2]
    assert not category.test[0].mask().any()
    assert list_categories("dagm", dagm) == ["dagm/Class1"]


def test_what_is_left_out_and_what_labels_are_is_said_and_nothing_else(dagm):
    spoiled, ellipses = load_category("dagm/Class1", root=dagm).remarks
    assert spoiled == "2 defective images of Train not learnt from"
    assert ellipses.startswith("labels are ellipses about the defects, not outlines")


@pytest.mark.parametrize("split", ["Train", "Test"])
def test_without_the_list_nothing_is_taken_as_good(dagm, split):
    """A copy that lost labels as well would have its defective images learnt from, or counted as false alarms."""
    (dagm / "DAGM_KaggleUpload/Class1" / split / "Label/Labels.txt").unlink()
    told = rf"{split}.Label.Labels\.txt: not there, and nothing else says which images are good; unpack Class1 again"
    with pytest.raises(DatasetError, match=told):
        load_category("dagm/Class1", root=dagm)


def test_a_defective_image_without_label_is_refused_in_the_test_alone(dagm):
    (dagm / "DAGM_KaggleUpload/Class1/Train/Label/0577_label.PNG").unlink()
    assert ids(load_training("dagm/Class1", root=dagm).train) == ["train/good/0576", "train/good/0578"]
    (dagm / "DAGM_KaggleUpload/Class1/Test/Label/0002_label.PNG").unlink()
    with pytest.raises(DatasetError, match=r"0002\.PNG: no mask for this defective image, tried .*0002_label\.\*"):
        load_category("dagm/Class1", root=dagm)
    allowed = load_category("dagm/Class1", root=dagm, allow_unmarked=True).test[1]
    assert (allowed.label, allowed.mask_paths) == ("defect", ())


def test_a_label_of_an_image_that_the_list_calls_good_is_refused(dagm):
    draw(dagm / "DAGM_KaggleUpload/Class1/Test/Label/0003_label.PNG", spot=(0, 0))
    with pytest.raises(DatasetError, match=r"0003_label\.PNG: a label of an image that Labels\.txt calls good"):
        load_category("dagm/Class1", root=dagm)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda text: text.replace("0001.PNG", "0009.PNG"), r"Labels\.txt: does not list 0001, unlike .*Test"),
        (lambda text: text + "4\t0\t0004.PNG\t0\t0\n", r"Labels\.txt: lists 0004, unlike .*Test; unpack it again"),
        (lambda text: text.replace("1\t0\t0001.PNG", "1\t7\t0001.PNG"), r"Labels\.txt: line 2 is '1\\t7\\t0001\.PNG"),
        (lambda text: text.replace("1\n", "\0\n", 1) + "\udcff", r"Labels\.txt: not a readable list"),
    ],
)
def test_a_list_that_fits_the_images_no_more_is_refused(dagm, spoil, complaint):
    path = dagm / "DAGM_KaggleUpload/Class1/Test/Label/Labels.txt"
    path.write_bytes(spoil(path.read_text()).encode(errors="surrogateescape"))
    with pytest.raises(DatasetError, match=complaint):
        load_category("dagm/Class1", root=dagm)


def test_a_label_of_another_size_is_refused_before_anything_is_scored(dagm):
    draw(dagm / "DAGM_KaggleUpload/Class1/Test/Label/0002_label.PNG", size=(4, 5), spot=(1, 2))
    with pytest.raises(ResolutionMismatchError, match=r"0002_label\.PNG: the mask is \(4, 5\)"):
        check_masks(load_category("dagm/Class1", root=dagm))


def test_the_older_form_of_the_archives_is_not_guessed_at(tmp_path):
    draw_all(tmp_path / "dagm" / "Class1", "1.png 2.png")
    draw_all(tmp_path / "dagm" / "Class1_def", "1.png")
    with pytest.raises(DatasetError, match=r"Class1 is incomplete, it should hold Train/ and Test/"):
        load_category("dagm/Class1", root=tmp_path)


def test_training_needs_no_test_folder(dagm):
    for path in sorted((dagm / "DAGM_KaggleUpload/Class1/Test").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert ids(load_training("dagm/Class1", root=dagm).train) == ["train/good/0576", "train/good/0578"]


def test_an_image_that_is_listed_twice_is_refused(dagm):
    """Good in one line and defective in another: either would be a guess."""
    path = dagm / "DAGM_KaggleUpload/Class1/Test/Label/Labels.txt"
    path.write_text(path.read_text() + "1\t1\t0001.PNG\t0\t0001_label.PNG\n")
    with pytest.raises(DatasetError, match=r"Labels\.txt: line 5 lists 0001 again"):
        load_category("dagm/Class1", root=dagm)


def test_a_list_of_good_images_alone_is_refused_for_the_test(dagm):
    folder = dagm / "DAGM_KaggleUpload/Class1/Test/Label"
    (folder / "0002_label.PNG").unlink()
    (folder / "Labels.txt").write_text((folder / "Labels.txt").read_text().replace("\t1\t0002", "\t0\t0002"))
    with pytest.raises(DatasetError, match=r"Labels\.txt: no defective image among those to test on"):
        load_category("dagm/Class1", root=dagm)
