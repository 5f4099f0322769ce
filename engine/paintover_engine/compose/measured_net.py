"""A keyframe's matte network, and how well it knows the edge of what is painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from paintover_engine.compose import unpainted
from paintover_engine.compose.analysis_frame import AnalysisFrame
from paintover_engine.compose.flow import Field, warp
from paintover_engine.compose.long_range import Evidence
from paintover_engine.compose.matte import Plane
from paintover_engine.compose.matte_net import MatteNet, Shown, TrainedNet, motion_plane, train
from paintover_engine.compose.tracker import TrackedEdit, segment, to_bytes

_TRIED = 1.6  # pixels by which the matte is displaced to test its edge
_DIRECTIONS = 8  # in which it is: an edge that is no edge may lie in any
_UNSEEN, _FIRM = 0.28, 0.75  # share of the displacements' error taken back: no edge of the plate; one all around


@dataclass(frozen=True)
class MeasuredNet:
    """A network trained on a keyframe alone, and its `firmness` there. unpainted: (h, w) uint8, `unpainted.beside`."""

    net: TrainedNet
    firmness: float
    unpainted: NDArray[np.uint8]

    @staticmethod
    def of(key: AnalysisFrame, region: Plane, backward: Field, returned: Field) -> MeasuredNet:
        """key: the keyframe's plate. region: (h, w) float32 0..1, where it is painted. backward: flow from the keyframe
        to a neighbour; returned: from that to it."""
        net = train(Shown(key.lab, region, backward))
        other = to_bytes(unpainted.beside(region, backward, returned))
        return MeasuredNet(net, firmness(net, key, region, backward), other)

    def edit(self, region: Plane, surface_matters: bool) -> TrackedEdit:
        """What a local edit is tracked by. region: as of `of`. surface_matters: the paint has texture or a soft edge,
        which must stick to the surface; an edit whose edge is not seen in the plate is mapped in any case."""
        mapped = bool(region.any()) and (surface_matters or self.firmness == 0)
        return TrackedEdit(to_bytes(region), mapped, surface_matters, self.firmness, self.net, self.unpainted)


def firmness(net: TrainedNet, key: AnalysisFrame, region: Plane, backward: Field) -> float:
    """0..1: how far the network brings displaced copies of the keyframe's matte back to it. 0 where the matte's edge is
    no edge of the plate (a mark on a plain door), 1 where it is an object's outline.

    backward: flow from the keyframe to a neighbour."""
    network = MatteNet(net)
    before = after = 1e-6
    for angle in np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS):
        displacement = np.array([np.cos(angle), np.sin(angle)], np.float32) * np.float32(_TRIED)
        shift: Field = np.broadcast_to(displacement, (*region.shape, 2))
        displaced = warp(region, shift)
        prior = Evidence(displaced, np.zeros_like(displaced))
        corrected = segment(network, prior, key, warp(key.lab, shift), motion_plane(backward, displaced)).matte
        before += float(np.abs(displaced - region).sum())
        after += float(np.abs(corrected - region).sum())
    return float(np.clip((1 - after / before - _UNSEEN) / (_FIRM - _UNSEEN), 0, 1))
