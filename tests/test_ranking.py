import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinydefects.errors import TinyDefectsError
from tinydefects.metrics import ranking as ranking_module
from tinydefects.metrics import spool as spool_module
from tinydefects.metrics.ranking import rank, rank_spooled
from tinydefects.metrics.spool import ScoreSpool

# A small alphabet makes ties; it holds both zeros, two denormals and neighbours that differ in the last bit.
FEW_SCORES = [-2.5, -1e-45, -0.0, 0.0, 1e-45, 0.1, float(np.nextafter(np.float32(0.1), np.float32(1))), 7.0]
SCORES = st.lists(st.sampled_from(FEW_SCORES), min_size=0, max_size=30)


def float32(scores):
    return np.array(scores, dtype=np.float32)


def test_counts_of_a_case_done_by_hand():
    ranking = rank(float32([5, 2, 5]), [float32([1, 5]), float32([9, 2, 3])])
    assert ranking.scores.tolist() == [5, 2]
    assert ranking.level.tolist() == [0, 1, 0]
    assert ranking.normal_above.tolist() == [1, 3]  # 9; 9, 5, 3
    assert ranking.normal_at_least.tolist() == [2, 4]  # 9, 5; 9, 5, 3, 2
    assert ranking.normal_above_next.tolist() == [1, 3]  # above 5; above 2
    assert (ranking.n_normal, ranking.n_defect) == (5, 3)
    assert ranking.fpr_at(float32([5, 2])).tolist() == [0.4, 0.8]


@pytest.mark.slow
@given(defects=SCORES, normals=SCORES, cut=st.integers(0, 30))
def test_counts_are_those_of_comparing_every_pair(defects, normals, cut):
    defect_scores, normal_scores = float32(defects), float32(normals)
    ranking = rank(defect_scores, [normal_scores[:cut], normal_scores[cut:]])
    assert len(set(ranking.scores.tolist())) == ranking.scores.size
    for score, level in zip(defect_scores, ranking.level, strict=True):
        assert ranking.scores[level] == score
        assert ranking.normal_above[level] == np.sum(normal_scores > score)
        assert ranking.normal_at_least[level] == np.sum(normal_scores >= score)
        reaching = normal_scores[normal_scores >= score]
        assert ranking.normal_above_next[level] == (np.sum(normal_scores > reaching.min()) if reaching.size else 0)


def test_minus_zero_and_zero_are_one_level_tied_with_either_zero():
    ranking = rank(float32([-0.0, 0.0]), [float32([0.0, -0.0, 1e-45, -1e-45])])
    assert ranking.scores.size == 1
    assert (ranking.normal_above.tolist(), ranking.normal_at_least.tolist()) == ([1], [3])


def test_scores_of_images_are_ranked_in_double_precision():
    close = [1.0, 1.0 + 1e-12]  # one value in float32
    assert rank(np.array(close[1:]), [np.array(close[:1])]).normal_at_least.tolist() == [0]


@pytest.fixture
def small_buckets(monkeypatch):
    monkeypatch.setattr(spool_module, "BUCKET_SCORES", (4, 4))
    monkeypatch.setattr(spool_module, "FENCE_STRIDE", 2)


@pytest.mark.slow
@given(
    defects=SCORES,
    images=st.lists(SCORES, max_size=5),
    bucket=st.sampled_from([(1, 1), (2, 1), (4, 2), (8, 3), (2**24, 2**10)]),
    sorted_per_search=st.sampled_from([0, 1, np.inf]),  # 0 searches every bucket as it lies, infinity sorts every one
    has_vector_sort=st.booleans(),
)
def test_spooled_scores_are_ranked_as_those_in_memory(defects, images, bucket, sorted_per_search, has_vector_sort):
    with pytest.MonkeyPatch.context() as patch, ScoreSpool() as spool:
        patch.setattr(spool_module, "BUCKET_SCORES", (bucket[0], bucket[0]))
        patch.setattr(spool_module, "FENCE_STRIDE", bucket[1])
        patch.setattr(ranking_module, "SORTED_PER_SEARCH", sorted_per_search)
        patch.setattr(spool_module, "HAS_VECTOR_SORT", has_vector_sort)
        for scores in images:
            spool.add(float32(scores))
        spooled = rank_spooled(float32(defects), spool)
    in_memory = rank(float32(defects), [float32(scores) for scores in images])
    for field in ("scores", "level", "hits", "normal_above", "normal_at_least", "normal_above_next", "n_normal"):
        np.testing.assert_array_equal(getattr(spooled, field), getattr(in_memory, field), err_msg=field)


@pytest.mark.parametrize("has_vector_sort", [True, False])
@pytest.mark.parametrize("lift", [-1, 3], ids=["defects everywhere", "defects far above"])
def test_an_image_of_many_buckets_beside_tiny_constant_and_coarse_ones_is_ranked_exactly(
    lift, has_vector_sort, monkeypatch
):
    monkeypatch.setattr(spool_module, "HAS_VECTOR_SORT", has_vector_sort)
    random = np.random.default_rng(0)
    huge = random.standard_normal(5 * spool_module.BUCKET_SCORES[0], dtype=np.float32)
    coarse = np.round(random.standard_normal(300_000, dtype=np.float32), 1)
    images = [huge, coarse, np.full(200_000, 0.5, np.float32), float32([7]), float32([])]
    defects = np.round(random.standard_normal(2000, dtype=np.float32) + np.float32(lift), 2)
    defects = np.concatenate([defects, huge[:50], float32([-9, 9, 0.5])])
    with ScoreSpool() as spool:
        for scores in images:
            spool.add(scores)
        assert len(list(spool.buckets())) > 4
        ranking = rank_spooled(defects, spool)
    everything = np.sort(np.concatenate(images))
    above = everything.size - np.searchsorted(everything, ranking.scores, side="right")
    at_least = everything.size - np.searchsorted(everything, ranking.scores, side="left")
    next_ones = np.append(everything, everything[-1])[everything.size - at_least]
    above_next = everything.size - np.searchsorted(everything, next_ones, side="right")
    np.testing.assert_array_equal(ranking.scores, np.unique(defects)[::-1])
    np.testing.assert_array_equal(ranking.normal_above, above)
    np.testing.assert_array_equal(ranking.normal_at_least, at_least)
    np.testing.assert_array_equal(ranking.normal_above_next, above_next)


FLOATS = st.floats(width=32, allow_nan=False) | st.sampled_from([*FEW_SCORES, np.inf, -np.inf])


@given(scores=st.lists(FLOATS, max_size=40), block=st.integers(1, 50))
def test_sorting_by_digits_is_sorting_whatever_the_signs_and_sizes(scores, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool_module, "HAS_VECTOR_SORT", False)
        patch.setattr(spool_module, "BLOCK", block)
        ordered = spool_module.ascending(float32(scores))
    assert ordered.dtype == np.float32
    assert ordered.tolist() == sorted(float32(scores).tolist())
    assert np.count_nonzero(np.signbit(ordered)) == np.count_nonzero(np.signbit(float32(scores)))


def test_both_ways_of_sorting_take_images_of_any_layout(monkeypatch):
    image = np.random.default_rng(0).standard_normal((70, 90), dtype=np.float32)[::-2, 3::5].T
    for has_vector_sort in (True, False):
        monkeypatch.setattr(spool_module, "HAS_VECTOR_SORT", has_vector_sort)
        before = image.copy()
        np.testing.assert_array_equal(spool_module.ascending(image), np.sort(image, axis=None))
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("distinct", [1, 2, 10, 1000])
def test_buckets_hold_every_score_once_and_stay_small_whatever_the_ties(small_buckets, distinct):
    random = np.random.default_rng(distinct)
    images = [random.integers(0, distinct, size).astype(np.float32) for size in (50, 1, 0, 70)]
    with ScoreSpool() as spool:
        for scores in images:
            spool.add(scores)
        buckets = list(spool.buckets())
        pieces = [spool.read(bucket) for bucket in buckets]
    assert all(piece.tolist() == sorted(piece.tolist()) for bucket in pieces for piece in bucket)
    assert all(piece.size for bucket in pieces for piece in bucket)
    inside = [np.sort(np.concatenate([float32([]), *bucket])) for bucket in pieces]
    everything = np.sort(np.concatenate(images))
    bounds = [bucket.high for bucket in buckets[:-1]]
    for bucket, scores in zip(buckets, inside, strict=True):
        between = everything[(everything > bucket.low) & (everything < bucket.high)]
        assert scores.tolist() == between.tolist()
        assert scores.size <= 4 + 2 * len(images)
        counts = [np.sum(everything <= bucket.low), np.sum(everything < bucket.high), np.sum(everything <= bucket.high)]
        assert [bucket.n_upto_low, bucket.n_below_high, bucket.n_upto_high] == counts
    tied = [score for score in everything.tolist() if score in bounds]
    assert sum(scores.size for scores in inside) + len(tied) == everything.size


def test_a_bucket_without_a_defect_score_is_never_read(small_buckets):
    read = []

    class Watched(ScoreSpool):
        def read(self, bucket):
            read.append(bucket)
            return ScoreSpool.read(self, bucket)

    with Watched() as spool:
        spool.add(float32(range(100)))
        ranking = rank_spooled(float32([1000]), spool)
    assert [bucket.high for bucket in read] == [np.inf]
    assert ranking.normal_at_least.tolist() == [0]


def test_each_image_is_a_run_that_is_counted_and_whose_highest_scores_are_known():
    with ScoreSpool() as spool:
        spool.add(float32([[3, 1], [2, 2]]))
        spool.add(float32([]))
        spool.add(float32([5]))
        spool.add(float32(range(9)))
        assert spool.count_below(float32([2, 4])).tolist() == [[1, 4], [0, 0], [0, 0], [2, 4]]
        assert spool.count_below(float32([2, 4]), or_tied=True).tolist() == [[3, 4], [0, 0], [0, 0], [3, 5]]
    assert spool.sizes.tolist() == [4, 0, 1, 9]
    tops = [[part.tolist() for part in spool.tops(run)] for run in range(4)]
    assert tops == [[[3, 2, 1], [1, 2, 4]], [[], []], [[5], [1]], [[8, 7, 5, 1, 0], [1, 2, 4, 8, 9]]]


def test_a_full_temporary_folder_is_an_error_that_names_the_remedy():
    class FullDisk:
        def write(self, _):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    with ScoreSpool() as spool:
        spool._file.close()
        spool._file = FullDisk()
        with pytest.raises(TinyDefectsError, match=r"No space left on device.*TMPDIR"):
            spool.add(float32([1]))


@pytest.mark.slow
def test_a_disk_that_fills_up_in_the_middle_of_an_image_ends_in_that_error_alone(tmp_path):
    program = (
        "import resource, numpy as np; from tinydefects.errors import TinyDefectsError;"
        "from tinydefects.metrics.spool import ScoreSpool; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    with ScoreSpool() as spool:\n"
        "        spool.add(np.ones(100, np.float32)); spool.add(np.ones(200, np.float32))\n"
        "except TinyDefectsError as error: print(error)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "cannot hold the normal pixels' scores" in finished.stdout
    assert finished.stderr == ""


def test_a_killed_process_leaves_no_scores_behind(tmp_path):
    program = (
        "import os, signal, numpy as np; from tinydefects.metrics.spool import ScoreSpool; spool = ScoreSpool();"
        "spool.add(np.ones(10**6, np.float32)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    finished = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert finished.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []
