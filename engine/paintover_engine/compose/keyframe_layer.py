"""A keyframe's contribution to the frames that its edit was propagated to."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose.calibration import Calibration, colour_weight
from paintover_engine.compose.colour_map import ColourMap
from paintover_engine.compose.exposure import NO_CHANGE, Exposure
from paintover_engine.compose.layer import AS_PAINTED, PaintLayer, PaintOptions, Picture, PlateRegion, reach
from paintover_engine.compose.matte import Plane
from paintover_engine.compose.motion import Span
from paintover_engine.compose.paint import ColourEdit, Paint
from paintover_engine.compose.reason import Reason
from paintover_engine.compose.tracker import Propagated, TrackedEdit
from paintover_engine.media.bounds import Bounds, bounds_of, union
from paintover_engine.media.correction import Correction
from paintover_engine.media.keyframe_kind import KeyframeKind


class KeyframeLayer:
    """One keyframe's edit as a layer over some frames.

    frame: the keyframe's number. size: (width, height) of the plate. colour: what its paint does. tracked: None of a
    grade. spans: the frames that it was propagated to. paint: the keyframe's; needed of a mapped edit alone. options:
    of its paint. corrections: those of the spans' frames."""

    def __init__(
        self,
        frame: int,
        size: tuple[int, int],
        colour: ColourEdit,
        tracked: TrackedEdit | None,
        spans: Sequence[tuple[Span, Propagated]],
        paint: Paint | None,
        options: PaintOptions = AS_PAINTED,
        corrections: Sequence[Correction] = (),
    ) -> None:
        self.frame = frame
        self._corrections = {each.frame: each for each in corrections}
        self._calibration: Calibration | None = None
        self._size = size
        self._spans = spans
        self._colour = ColourMap(colour.table, 0.0)
        self._mapped = tracked is not None and tracked.mapped
        self._layer = PaintLayer(paint, self._colour, colour.drawn, tracked.firmness, options) if tracked else None

    def calibrated(self, calibration: Calibration | None) -> KeyframeLayer:
        """The layer beside another keyframe's."""
        layer = copy.copy(self)
        layer._calibration = calibration
        return layer

    def with_mattes(self, span: Span, mattes: NDArray[np.uint8], firmness: float) -> KeyframeLayer:
        """The layer with other mattes (frames, h, w) in a span of its frames.

        firmness: how well their edges are seen in the plate, 0..1."""
        layer = copy.copy(self)
        layer._layer = self._layer and self._layer.with_firmness(firmness)
        layer._spans = [(each, _with_mattes(propagated, each, span, mattes)) for each, propagated in self._spans]
        return layer

    @property
    def mapped(self) -> bool:
        """Whether its paint sticks to the surface under it."""
        return self._mapped

    def confidence(self, number: int) -> float:
        """0..1: how far the edit in a frame is to be trusted; 0 from a cut on."""
        propagated, index = self._at(number)
        return float(propagated.confidence[index])

    def weight(self, number: int) -> float:
        """How much the layer counts in a frame beside another keyframe's; 0 from a cut on."""
        confidence = self.confidence(number)
        weight = self._calibration.weight(confidence) if self._calibration else confidence
        return colour_weight(weight, abs(number - self.frame))

    def reason(self, number: int) -> Reason:
        """What lowers the confidence of a frame most."""
        propagated, index = self._at(number)
        return Reason(int(propagated.reason[index]))

    def bounds(self, number: int) -> Bounds:
        """The bounds of all that this keyframe paints in a frame, in the plate's pixels."""
        propagated, index = self._at(number)
        if self._layer is None or propagated.matte is None:
            return (0, 0, *self._size)
        reached, correction = reach(propagated.matte[index], self._size), self._corrections.get(number)
        if correction is not None and correction.kind is KeyframeKind.ROTO:
            return union([reached, bounds_of(correction.matte)])
        return reached

    def composite(self, number: int, view: PlateRegion) -> tuple[Picture, Plane]:
        """The painted colour (h, w, 3) and the matte (h, w) of a view of a frame."""
        propagated, index = self._at(number)
        exposure = Exposure.unpacked(propagated.exposure[index]).significant()
        if exposure is not NO_CHANGE:
            restored = None if propagated.restored is None else propagated.restored.at(number)
            view = view.exposed(exposure.inverse(), restored)
        if self._layer is None:
            painted, alpha = self._colour(view.working), np.ones(view.working.shape[:2], np.float32)
        else:
            painted, alpha = self._layer.composite(view, propagated, index, number, self._corrections.get(number))
        return painted if exposure is NO_CHANGE else exposure(painted), alpha

    def _at(self, number: int) -> tuple[Propagated, int]:
        """The span that holds a frame, and the frame's index in it."""
        return next((found, number - span[0]) for span, found in self._spans if span[0] <= number <= span[1])


def _with_mattes(propagated: Propagated, own: Span, span: Span, mattes: NDArray[np.uint8]) -> Propagated:
    """What was propagated to its `own` span, with other mattes (frames, h, w) in the frames that it shares with
    another."""
    assert propagated.matte is not None
    first, end = max(own[0], span[0]), min(own[1], span[1]) + 1
    if first >= end:
        return propagated
    replaced = propagated.matte.copy()
    replaced[first - own[0] : end - own[0]] = mattes[first - span[0] : end - span[0]]
    return dataclasses.replace(propagated, matte=replaced)
