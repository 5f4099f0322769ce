"""The parameters of every method, as pydantic models: ranges and help texts for the command line, the wire and the
hosts.

Light to import: pydantic only.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DraftParameters(BaseModel):
    """What an artist may set of the draft method; the defaults find out by themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["auto", "colour", "paint", "grade"] = Field(
        default="auto",
        title="Kind of edit",
        description=(
            "How the edit travels. colour: what the paint did to each colour is done to every frame's own pixels, so "
            "their texture stays; paint: the painted pixels themselves are moved along with the surface; grade: the "
            "whole frame is recoloured and nothing is tracked; auto: looks at the keyframe and decides."
        ),
        json_schema_extra={"basic": True},
    )
    softness: float = Field(
        default=0.0,
        ge=0.0,
        le=50.0,
        title="Edge softness",
        description="Feathers the matte's edge inwards by this much beyond what the keyframe shows.",
        json_schema_extra={"basic": True, "unit": "px"},
    )
