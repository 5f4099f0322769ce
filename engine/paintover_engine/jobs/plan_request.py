"""The call by which a device gets a job's plan."""

from __future__ import annotations

from collections.abc import Sequence

from paintover_engine.jobs.entities import Job, StoredKeyframe
from paintover_engine.jobs.protocol import Output, PlanJobRequest
from paintover_engine.media.info import SourceInfo
from paintover_engine.methods.stage import KeyframeRef


def plan_request(job: Job, info: SourceInfo, keyframes: Sequence[StoredKeyframe], writes: bool) -> PlanJobRequest:
    """Declares a job's stages. info: of its shot. keyframes: with its corrections. writes: whether the worker also
    writes the output."""
    spec, output = job.spec, None
    if writes and spec.output:
        paintings = tuple(path for keyframe in keyframes for path in keyframe.files)
        output = Output(spec.output, spec.overwrite, spec.mattes, paintings)
    return PlanJobRequest(
        job=job.id,
        info=info,
        method=spec.method,
        parameters=dict(spec.parameters),
        keyframes=[KeyframeRef(keyframe.frame, keyframe.digest, keyframe.kind) for keyframe in keyframes],
        model=spec.model,
        output=output,
        kept=list(spec.kept),
    )
