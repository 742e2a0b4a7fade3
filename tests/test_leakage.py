import threading
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from dataset_trees import draw, draw_loco
from tinydefects.benchmark.leakage import LeakError, Seal, guarded, seal_for_fit, seal_for_predict
from tinydefects.data.sample import Category, Sample
from tinydefects.datasets.catalog import load_category


@pytest.fixture
def category(tmp_path):
    def sample(split, kind):
        masks = (draw(tmp_path / f"{split}_mask.png"),) if kind != "good" else ()
        image = draw(tmp_path / f"{split}.png")
        label = "good" if kind == "good" else "defect"
        return Sample(id=f"{split}/{kind}/000", image_path=image, label=label, mask_paths=masks)

    return Category(id="folder/parts", train=[sample("train", "good")], test=[sample("test", "pit")])


def with_open(path):
    path.open("rb").close()


def with_pillow(path):
    Image.open(path).close()


def with_numpy(path):
    np.fromfile(path, dtype=np.uint8)


@pytest.mark.parametrize("reading", [with_open, with_pillow, with_numpy])
def test_opening_a_test_image_while_learning_names_the_method_and_the_file(category, reading):
    path = category.test[0].image_path
    with (
        pytest.raises(LeakError, match=rf"peeking: opened {path} during fit"),
        guarded(seal_for_fit(category, "peeking")),
    ):
        reading(path)


def test_masks_are_sealed_while_predicting_and_test_images_are_not(category):
    seal = seal_for_predict(category, "peeking")
    with guarded(seal):
        category.test[0].image()
    with pytest.raises(LeakError, match="during predict"), guarded(seal):
        category.test[0].mask()


@pytest.mark.parametrize("seal_of", [seal_for_fit, seal_for_predict])
def test_saturations_are_sealed_as_masks_are(tmp_path, seal_of):
    config = draw_loco(tmp_path / "mvtec_loco/pushpins") / "defects_config.json"
    seal = seal_of(load_category("mvtec_loco/pushpins", root=tmp_path), "peeking")
    with pytest.raises(LeakError, match=rf"peeking: opened {config}"), guarded(seal):
        with_open(config)


def test_training_images_are_open_and_after_the_block_everything_is(category):
    with guarded(seal_for_fit(category, "honest")):
        category.train[0].image()
    assert category.test[0].mask().shape == category.test[0].image().shape[:2]


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_another_name_of_a_sealed_file_is_the_same_file(category, tmp_path, link):
    other_name = tmp_path / "elsewhere.png"
    getattr(other_name, link)(category.test[0].image_path)
    with pytest.raises(LeakError), guarded(seal_for_fit(category, "peeking")):
        with_open(other_name)


def test_a_leak_in_a_thread_that_swallows_its_error_still_fails_the_block(category):
    def peek():
        with suppress(Exception):
            with_open(category.test[0].image_path)

    def learn():
        thread = threading.Thread(target=peek)
        thread.start()
        thread.join()

    with pytest.raises(LeakError, match=r"test\.png"), guarded(seal_for_fit(category, "peeking")):
        learn()


def test_a_leak_does_not_follow_into_the_next_block(category):
    with pytest.raises(LeakError), guarded(seal_for_fit(category, "peeking")):
        with_open(category.test[0].image_path)
    with guarded(seal_for_fit(category, "honest")):
        category.train[0].image()


def test_a_file_that_inherits_the_number_of_a_deleted_one_is_not_sealed(tmp_path):
    sealed, newcomer = tmp_path / "mask.png", tmp_path / "other.png"
    newcomer.write_bytes(b"new")
    number = newcomer.stat()
    seal = Seal(files={(number.st_dev, number.st_ino): sealed}, method="reader", task="fit")
    with guarded(seal):
        assert newcomer.read_bytes() == b"new"
