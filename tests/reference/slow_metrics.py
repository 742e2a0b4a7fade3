"""Slow and obviously right: every threshold in turn, every region by walking its pixels, every pair of images."""

import math
from itertools import pairwise

import numpy as np
from scipy import integrate


def regions_of(mask):
    """Lists of (row, column), one list a region: pixels that touch by a side or a corner belong together."""
    unvisited = {(int(row), int(column)) for row, column in zip(*np.nonzero(mask), strict=True)}
    regions = []
    for start in sorted(unvisited):
        if start not in unvisited:
            continue
        unvisited.remove(start)
        region, frontier = [], [start]
        while frontier:
            row, column = frontier.pop()
            region.append((row, column))
            for neighbour in [(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]:
                if neighbour in unvisited:
                    unvisited.remove(neighbour)
                    frontier.append(neighbour)
        regions.append(region)
    return regions


def curve(defect_groups, normal_scores):
    """(rate of normal scores >= t, mean over groups of their share >= t) for t from above every score to the lowest."""
    everything = np.concatenate([*defect_groups, normal_scores])
    points = [(0.0, 0.0)]
    for threshold in sorted(set(everything.tolist()), reverse=True):
        fpr = float(np.mean(normal_scores >= threshold))
        recall = float(np.mean([np.mean(scores >= threshold) for scores in defect_groups]))
        points.append((fpr, recall))
    return points


def area(points, limit):
    """Trapezoids under the points up to the limit, divided by the limit."""
    total = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 >= limit:
            break
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        total += (x1 - x0) * (y0 + y1) / 2
    return total / limit


def aupro(maps, masks, limit, largest_area=math.inf):
    """AUPRO of the regions up to an area; larger ones count neither as regions nor as false positives."""
    regions = [
        np.array([anomaly_map[pixel] for pixel in region])
        for anomaly_map, mask in zip(maps, masks, strict=True)
        for region in regions_of(mask)
    ]
    normal_scores = np.concatenate(
        [anomaly_map[~mask] for anomaly_map, mask in zip(maps, masks, strict=True)],
    )
    return area(curve([scores for scores in regions if scores.size <= largest_area], normal_scores), limit)


def auroc(defect_scores, normal_scores):
    """Share of won pairs, a tie is half a win."""
    wins = [1.0 if high > low else 0.5 if high == low else 0.0 for high in defect_scores for low in normal_scores]
    return sum(wins) / len(wins)


def published_curve(regions, normal_scores, n_points=99):
    """The 99-point rule: thresholds at equally spaced ranks, strictly above counts, the rate is the rank."""
    ordered = np.sort(normal_scores)
    points = []
    spacing = (ordered.size - 1) / (n_points - 1)
    for step in range(n_points - 1, -1, -1):
        # In this order, 49 * (2 / 98) rounds to 0.999… and down to rank 0: the published code does the same.
        rank = ordered.size - 1 if step == n_points - 1 else math.floor(step * spacing)
        recall = float(np.mean([np.mean(scores > ordered[rank]) for scores in regions]))
        points.append((1 - (rank + 1) / ordered.size, recall))
    return [*points, (1.0, 1.0)]


def mean_rate(threshold, good_maps):
    """The mean over images of the share of their own pixels that reach a threshold."""
    return float(np.mean([np.mean(scores >= threshold) for scores in good_maps]))


def aupimo(defect_scores, good_maps, bounds):
    """Of one image: recall against the good images' rate, straight between thresholds, over the rate's logarithm."""
    everything = np.concatenate([defect_scores, *[scores.ravel() for scores in good_maps]])
    thresholds = sorted(set(everything.tolist()), reverse=True)
    rates = [0.0, *(mean_rate(threshold, good_maps) for threshold in thresholds)]
    recalls = [0.0, *(float(np.mean(defect_scores >= threshold)) for threshold in thresholds)]
    total = 0.0
    for (x0, x1), (y0, y1) in zip(pairwise(rates), pairwise(recalls), strict=True):
        low, high = max(x0, bounds[0]), min(x1, bounds[1])
        if low < high:

            def recall_over_rate(x, x0=x0, x1=x1, y0=y0, y1=y1):
                return (y0 + (y1 - y0) * (x - x0) / (x1 - x0)) / x

            total += integrate.quad(recall_over_rate, low, high, epsabs=1e-13, epsrel=1e-13)[0]
    return total / math.log(bounds[1] / bounds[0])


def f1(truth, called):
    """Harmonic mean of precision and recall, by counting."""
    found = sum(1 for is_defect, is_called in zip(truth, called, strict=True) if is_defect and is_called)
    wrong = sum(1 for is_defect, is_called in zip(truth, called, strict=True) if is_defect != is_called)
    return 2 * found / (2 * found + wrong)


def fpr_at_95_tpr(defective_scores, good_scores):
    """Every threshold in turn: the smallest rate of good scores among those that 95 of 100 defective scores reach."""
    return min(
        sum(score >= threshold for score in good_scores) / len(good_scores)
        for threshold in [*defective_scores, *good_scores]
        if sum(score >= threshold for score in defective_scores) * 20 >= 19 * len(defective_scores)
    )
