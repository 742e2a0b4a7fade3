"""Slow and obviously right: saturated overlap at every threshold in turn, straight lines between them."""

import numpy as np

from reference.slow_metrics import area


def au_spro(defects, maps, limit):
    """`defects` are lists of (mask, saturation) for each image; the mean over defects of min(found / saturation, 1)."""
    normal = []
    for found, anomaly_map in zip(defects, maps, strict=True):
        is_free = [not any(mask[pixel] for mask, _ in found) for pixel in np.ndindex(anomaly_map.shape)]
        normal += anomaly_map.ravel()[is_free].tolist()
    points = [(0.0, 0.0)]
    for threshold in sorted({value for anomaly_map in maps for value in anomaly_map.ravel().tolist()}, reverse=True):
        overlaps = []
        for found, anomaly_map in zip(defects, maps, strict=True):
            for mask, saturation in found:
                n_marked = sum(1 for pixel in np.ndindex(mask.shape) if mask[pixel] and anomaly_map[pixel] >= threshold)
                overlaps.append(min(n_marked / saturation, 1.0))
        false_positives = sum(1 for value in normal if value >= threshold)
        points.append((false_positives / len(normal), sum(overlaps) / len(overlaps)))
    return area(points, limit)
