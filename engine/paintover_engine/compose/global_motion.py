"""Motion of a whole picture that is too long for flow to find by itself: a jump, a whip pan, frames left out.

It is found without an initial guess, and dense flow starts from it.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.flow import Field, endpoints, halved, magnitudes

Grey = NDArray[np.uint8]  # (h, w)

LONG = 12.0
"""Pixels; shorter motion is found by flow alone."""

_CENTRE = np.full(2, 0.5, np.float32)  # of a pixel of half the size, from the first of those that it covers
_LEAST_MATCHES = 12  # features that must agree on a motion
_RATIO = 0.8  # between the best and the second best match's distance (Lowe, IJCV 2004)
_REPROJECTION = 3.0  # pixels by which a feature may miss the motion
_LARGEST_SCALE = 2.0
_LEAST_RESPONSE = 0.03  # of the correlation's peak


def candidates(first: Grey, second: Grey) -> Iterator[tuple[Field, Field]]:
    """Fields (h, w, 2), first -> second and back, of long motions that the whole picture may have made: a similarity of
    its features, and a translation."""
    grid = endpoints(np.zeros((*first.shape, 2), np.float32))
    small = halved(first), halved(second)  # motion that is long enough shows there, too, in a quarter of the time
    for find in (_by_features, _by_correlation):
        matrix = find(*small)
        if matrix is not None:
            matrix[:, 2] = 2 * matrix[:, 2] + (np.eye(2, dtype=np.float32) - matrix[:, :2]) @ _CENTRE
            field = np.asarray(cv2.transform(grid, matrix) - grid, np.float32)
            if magnitudes(field).max() > LONG:
                back = cv2.invertAffineTransform(matrix)
                yield field, np.asarray(cv2.transform(grid, back) - grid, np.float32)


def _by_features(first: Grey, second: Grey) -> NDArray[np.float32] | None:
    """(2, 3): by SIFT features (Lowe: Distinctive Image Features from Scale-Invariant Keypoints, IJCV 2004) and
    RANSAC."""
    detector = cv2.SIFT_create(nfeatures=500, contrastThreshold=0.02)
    (points, features), (other_points, other_features) = (
        detector.detectAndCompute(cv2.equalizeHist(picture), None) for picture in (first, second)
    )
    if features is None or other_features is None or min(len(features), len(other_features)) < _LEAST_MATCHES:
        return None
    pairs = cv2.BFMatcher().knnMatch(features, other_features, k=2)
    matches = [best for best, other in pairs if best.distance < _RATIO * other.distance]
    if len(matches) < _LEAST_MATCHES:
        return None
    here = np.array([points[match.queryIdx].pt for match in matches], np.float32)
    there = np.array([other_points[match.trainIdx].pt for match in matches], np.float32)
    matrix, inliers = cv2.estimateAffinePartial2D(
        here, there, method=cv2.RANSAC, ransacReprojThreshold=_REPROJECTION, maxIters=4000
    )
    if matrix is None or int(inliers.sum()) < _LEAST_MATCHES:
        return None
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    return matrix.astype(np.float32) if 1 / _LARGEST_SCALE < scale < _LARGEST_SCALE else None


def _by_correlation(first: Grey, second: Grey) -> NDArray[np.float32] | None:
    """(2, 3): by phase correlation (Kuglin, Hines: The phase correlation image alignment method, 1975)."""
    window = cv2.createHanningWindow((first.shape[1], first.shape[0]), cv2.CV_32F)
    shift, response = cv2.phaseCorrelate(first.astype(np.float32), second.astype(np.float32), window)
    if response < _LEAST_RESPONSE:
        return None
    return np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
