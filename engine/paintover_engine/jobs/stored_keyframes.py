"""Keyframes and corrections as files, each read once, checked against the plate and stored by its digest."""

from __future__ import annotations

from pathlib import Path

from paintover_engine.jobs import outputs
from paintover_engine.jobs.protocol import KeyframeReply, KeyframeRequest
from paintover_engine.media.correction import Correction, Drag, drag_of, load_correction
from paintover_engine.media.keyframe import load_keyframe
from paintover_engine.media.keyframe_kind import KeyframeKind
from paintover_engine.media.source import Source


def store_keyframe(request: KeyframeRequest, source: Source, folder: Path) -> KeyframeReply:
    """Stores what a request names in a folder, as DIGEST.safetensors. source: of the request's `info`.

    Raises PaintoverError as `load_keyframe`, `load_correction` and `drag_of` do."""
    info, frame = request.info, request.frame
    if request.kind is KeyframeKind.PAINT:
        matte = request.matte_path or None
        keyframe = load_keyframe(request.path, frame, source.read(frame), info, matte, source.read)
        outputs.save_keyframe(folder / f"{keyframe.digest}.safetensors", keyframe)
        return KeyframeReply(digest=keyframe.digest, notes=list(keyframe.notes), has_matte=keyframe.matte is not None)
    if request.kind is KeyframeKind.DRAG:
        correction: Correction | Drag = drag_of(frame, request.drag, (info.width, info.height))
    else:
        correction = load_correction(request.path, frame, request.kind, source.read(frame))
    outputs.save_correction(folder / f"{correction.digest}.safetensors", correction)
    return KeyframeReply(digest=correction.digest, notes=list(correction.notes), has_matte=False)
