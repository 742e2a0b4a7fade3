import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinydefects.metrics import ranking as ranking_module
from tinydefects.metrics.ranking import ScoreSpool, rank

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


@settings(deadline=None)
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


@pytest.mark.parametrize("chunk_scores", [1, 3, 7, 8])
def test_a_spool_gives_back_every_score_in_chunks_no_larger_than_asked(monkeypatch, chunk_scores):
    monkeypatch.setattr(ranking_module, "CHUNK_SCORES", chunk_scores)
    with ScoreSpool() as spool:
        spool.add(float32([[1, 2], [3, 4]]))
        spool.add(float32([]))
        spool.add(float32([5, 6, 7]))
        chunks = list(spool.chunks())
    assert max(chunk.size for chunk in chunks) <= chunk_scores
    assert np.concatenate(chunks).tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_a_full_temporary_folder_is_an_error_that_names_the_remedy():
    class FullDisk:
        def write(self, _):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    with ScoreSpool() as spool:
        spool._file.close()
        spool._file = FullDisk()
        with pytest.raises(ranking_module.TinyDefectsError, match=r"No space left on device.*TMPDIR"):
            spool.add(float32([1]))
