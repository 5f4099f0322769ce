"""The host, its effects, and an effect's overlay."""

from __future__ import annotations

import ctypes
import threading
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_uint, c_void_p
from functools import partial
from pathlib import Path

import numpy as np

from tests.plugin_ofx.ofx_host.effects import EffectSuite, ParameterSuite, PropertySuite
from tests.plugin_ofx.ofx_host.interface import DrawSuite, InteractSuite, MessageSuite, ProgressSuite, TimeLineSuite
from tests.plugin_ofx.ofx_host.objects import Clip, Described, Image, Param, Properties, Window, make_image
from tests.plugin_ofx.ofx_host.quirks import GUARD, OK, Pixels, Quirks, Source, Value
from tests.plugin_ofx.ofx_host.state import HostState
from tests.plugin_ofx.ofx_host.suite import Suite

ENTRY = CFUNCTYPE(c_int, c_char_p, c_void_p, c_void_p, c_void_p)
SUITES: list[type[Suite]] = [
    PropertySuite,
    EffectSuite,
    ParameterSuite,
    ProgressSuite,
    TimeLineSuite,
    MessageSuite,
    InteractSuite,  # this and the next: of hosts that draw overlays
    DrawSuite,
]


class Host(HostState):
    """Loads a plugin's library and is its host."""

    def __init__(self, library: Path, quirks: Quirks | None = None) -> None:
        super().__init__(quirks or Quirks())
        self.properties = Properties(
            {
                "OfxPropName": [self.quirks.name],
                "OfxPropAPIVersion": [1, 5],
                "OfxImageEffectPropTemporalClipAccess": [int(self.quirks.other_times == "given")],
                **self.quirks.extra_host,
            }
        )
        suites = SUITES if self.quirks.draws else SUITES[:-2]
        self._suites = {kind.NAME: kind(self) for kind in suites if kind.NAME[0] not in self.quirks.missing_suites}
        self._fetch = CFUNCTYPE(c_void_p, c_void_p, c_char_p, c_int)(self._fetch_suite)
        self._host = _HostStruct(self.number(self.properties), ctypes.cast(self._fetch, c_void_p))
        self._library = ctypes.CDLL(str(library))
        self._library.OfxGetPlugin.restype = POINTER(_PluginStruct)
        self._library.OfxSetHost(ctypes.byref(self._host))
        self.plugin = self._library.OfxGetPlugin(0).contents
        self.main = ENTRY(self.plugin.main_entry)
        self.descriptor: Effect | None = None

    def load(self) -> int:
        CFUNCTYPE(None, c_void_p)(self.plugin.set_host)(ctypes.addressof(self._host))
        return int(self.main(b"OfxActionLoad", None, None, None))

    def describe(self) -> Effect:
        """Load, describe, and describe in the quirks' context."""
        assert self.load() == OK
        effect = Effect(self)
        assert effect.action("OfxActionDescribe") == OK
        context = Properties({"OfxImageEffectPropContext": [self.quirks.context]})
        assert effect.action("OfxImageEffectActionDescribeInContext", context) == OK
        self.descriptor = effect
        return effect

    def create(self, values: dict[str, Value], source: Source, matte: Source | None = None) -> Effect:
        """An instance with some parameters' values and the pictures of its clips."""
        described = self.descriptor or self.describe()
        effect = Effect(self, source, matte)
        for name, clip in described.clips.items():
            properties = self._clip_properties(name, clip.properties, matte is not None)
            effect.clips[name] = Clip(name, properties, partial(effect.picture, name))
        for name, param in described.params.items():
            default = param.properties.values.get("OfxParamPropDefault", [None])[0]
            effect.params[name] = Param(param.kind, name, Properties(dict(param.properties.values)), default)
        effect.properties.values["OfxImageEffectPropContext"] = [self.quirks.context]
        if self.quirks.project:
            effect.properties.values["OfxImageEffectPropProjectSize"] = list(self.quirks.project)
            effect.properties.values["OfxImageEffectPropProjectOffset"] = [0.0, 0.0]
        for name, value in values.items():
            effect.set(name, value)
        assert effect.action("OfxActionCreateInstance") == OK
        return effect

    def unload(self) -> int:
        return int(self.main(b"OfxActionUnload", None, None, None))

    def _clip_properties(self, name: str, described: Properties, matte: bool) -> Properties:
        connected = name != "Matte" or matte
        values: dict[str, list[Value]] = {
            **described.values,
            "OfxImageClipPropConnected": [int(connected)],
            "OfxImageEffectPropFrameRate": [24.0],
        }
        if self.quirks.colourspace:
            values["OfxImageClipPropColourspace"] = [self.quirks.colourspace]
        if self.quirks.frames:
            values["OfxImageEffectPropFrameRange"] = [float(frame) for frame in self.quirks.frames]
        return Properties({key: value for key, value in values.items() if key not in self.quirks.absent})

    def _fetch_suite(self, _host: int, name: bytes, version: int) -> int | None:
        suite = self._suites.get((name.decode(), version))
        return ctypes.addressof(suite.table) if suite else None


class Effect(Described):
    """An effect's description, or an instance."""

    def __init__(self, host: Host, source: Source | None = None, matte: Source | None = None) -> None:
        super().__init__()
        self.host = host
        self.source = source
        self.matte = matte
        self._output = threading.local()
        self.time = 0.0

    def action(self, name: str, in_args: Properties | None = None, out_args: Properties | None = None) -> int:
        host = self.host
        arguments = [host.handle(found) if found else None for found in (in_args, out_args)]
        try:
            return int(host.main(name.encode(), host.handle(self), *arguments))
        finally:
            for argument in filter(None, arguments):
                del host.objects[argument]

    def set(self, name: str, value: Value) -> None:
        """Sets a parameter as a project file would. A choice takes its label."""
        param = self.params[name]
        if param.kind == "OfxParamTypeChoice" and isinstance(value, str):
            value = param.properties.values["OfxParamPropChoiceOption"].index(value)
        param.value = value

    def edit(self, name: str, value: Value = None, time: float = 0.0) -> int:
        """The user changes a parameter, or presses a button."""
        if value is not None:
            self.set(name, value)
        self.time = time
        return self.action(
            "OfxActionInstanceChanged",
            Properties(
                {
                    "OfxPropType": ["OfxTypeParameter"],
                    "OfxPropName": [name],
                    "OfxPropChangeReason": ["OfxChangeUserEdited"],
                    "OfxPropTime": [time],
                    "OfxImageEffectPropRenderScale": [1.0, 1.0],
                }
            ),
        )

    def is_identity(self, time: float = 0.0) -> bool:
        out = Properties()
        status = self.action("OfxImageEffectActionIsIdentity", Properties({"OfxPropTime": [time]}), out)
        return status == OK and out.values["OfxPropName"] == ["Source"]

    @property
    def status(self) -> str:
        return str(self.params["status"].value)

    @property
    def message(self) -> str:
        """The persistent message that stands at it; "" for none."""
        return self.host.persistent.get(self.host.handle(self), "")

    def saved(self) -> dict[str, Value]:
        """What a project file keeps of it: the values of its persistent parameters, after it was told to put its data
        there, where it asked for that."""
        if self.param_set.values.get("OfxPropParamSetNeedsSyncing", [0])[0]:
            assert self.action("OfxActionSyncPrivateData") == OK
        keeps = lambda param: param.properties.values.get("OfxParamPropPersistant", [1])[0]  # noqa: E731
        return {name: param.value for name, param in self.params.items() if keeps(param) and param.value is not None}

    def copy(self) -> Effect:
        """Copy and paste: another instance with the values of this one."""
        assert self.source
        return self.host.create(self.saved(), self.source, self.matte)

    def region(self, time: float = 0.0) -> list[float] | None:
        """What it answers for its region of definition."""
        out = Properties()
        arguments = Properties({"OfxPropTime": [time], "OfxImageEffectPropRenderScale": [1.0, 1.0]})
        status = self.action("OfxImageEffectActionGetRegionOfDefinition", arguments, out)
        return out.values["OfxImageEffectPropRegionOfDefinition"] if status == OK else None

    def output_colourspace(self) -> str:
        """Its answer to OpenFX 1.5's GetOutputColourspace."""
        out = Properties()
        assert self.action("OfxImageEffectActionGetOutputColourspace", Properties(), out) == OK
        return str(out.values["OfxImageClipPropColourspace"][0])

    def begin(self, first: float, last: float, *, interactive: bool = False) -> int:
        """Begins the render of a sequence."""
        return self.action(
            "OfxImageEffectActionBeginSequenceRender",
            Properties(
                {
                    "OfxImageEffectPropFrameRange": [first, last],
                    "OfxImageEffectPropFrameStep": [1.0],
                    "OfxPropIsInteractive": [int(interactive)],
                    "OfxImageEffectPropRenderScale": [1.0, 1.0],
                    "OfxImageEffectPropInteractiveRenderStatus": [int(interactive)],
                }
            ),
        )

    def destroy(self) -> int:
        return self.action("OfxActionDestroyInstance")

    def picture(self, clip: str, time: float) -> Image | None:
        """`image`, which tests may replace."""
        return self.image(clip, time)

    def image(self, clip: str, time: float) -> Image | None:
        if clip == "Output":
            return getattr(self._output, "image", None)
        quirks = self.host.quirks
        if quirks.other_times == "refused" and time != self.time:
            return None
        provider = self.matte if clip == "Matte" else self.source
        pixels = provider(self.time if quirks.other_times == "ignored" else time) if provider else None
        if pixels is not None and clip == "Source" and quirks.components == "RGB":
            pixels = pixels[..., :3]
        if pixels is None:
            return None
        if quirks.in_place and clip == "Source":
            output = getattr(self._output, "image", None)
            if output is not None:
                output.rows[...] = pixels
                return Image(output.memory, output.rows, Properties(dict(output.properties.values)))
        return make_image(pixels, quirks, window=self._asked_for(pixels) if quirks.tiles and clip == "Source" else None)

    def _asked_for(self, pixels: Pixels) -> Window:
        """The part of a picture that a host of tiles gives."""
        rendering, (x, y) = self.host.rendering, self.host.quirks.origin
        asked = getattr(rendering, "region", None) or getattr(rendering, "window", None)
        whole = (x, y, x + pixels.shape[1], y + pixels.shape[0])
        if not asked:
            return whole
        sides = [max(asked[i], whole[i]) for i in (0, 1)] + [min(asked[i], whole[i]) for i in (2, 3)]
        return (int(sides[0]), int(sides[1]), int(sides[2]), int(sides[3]))

    def render(
        self,
        time: float,
        *,
        window: tuple[int, int, int, int] | None = None,
        interactive: bool = False,
        extra: dict[str, list[Value]] | None = None,
    ) -> tuple[int, Pixels]:
        """Renders one frame: its status, and the picture, row 0 at the top. window: x1, y1, x2, y2, y up.

        Fails if anything was written outside the window."""
        assert self.source
        self.time = time
        plate = self.source(time)
        assert plate is not None
        if self.host.quirks.components == "RGB":
            plate = plate[..., :3]
        image = make_image(np.zeros_like(plate), self.host.quirks, guarded=True)
        before = image.memory.copy()
        bounds = image.properties.values["OfxImagePropBounds"]
        window = window or tuple(bounds)
        self._output.image = image
        self.host.rendering.now, self.host.rendering.window = True, window
        try:
            status = self.action(
                "OfxImageEffectActionRender",
                Properties(
                    {
                        "OfxPropTime": [time],
                        "OfxImageEffectPropRenderWindow": list(window),
                        "OfxImageEffectPropRenderScale": [self.host.quirks.scale] * 2,
                        "OfxImageEffectPropFieldToRender": ["OfxFieldNone"],
                        "OfxImageEffectPropInteractiveRenderStatus": [int(interactive)],
                        **(extra or {}),
                    }
                ),
            )
        finally:
            self.host.rendering.now, self.host.rendering.window = False, None
            self._output.image = None
        picture = image.rows.copy()
        x1, y1, x2, y2 = window
        left, top = x1 - bounds[0], bounds[3] - y2
        image.rows[top : top + y2 - y1, left : left + x2 - x1].view(np.uint8)[...] = GUARD
        if not self.host.quirks.in_place:
            assert np.array_equal(image.memory, before), "something was written outside the render window"
        return status, picture


class Overlay:
    """An effect's overlay in the viewer, at 1:1."""

    def __init__(self, effect: Effect) -> None:
        self.effect = effect
        self.host = effect.host
        assert self.host.descriptor
        self._main = ENTRY(self.host.descriptor.properties.values["OfxImageEffectPluginPropOverlayInteractV2"][0])
        self._number = self.host.number(self)
        assert self._main(b"OfxActionDescribe", self._number, None, None) == OK
        assert self._main(b"OfxActionCreateInstance", self._number, None, None) == OK

    def act(self, name: str, pen: tuple[float, float] | None = None) -> int:
        """One interact action at the effect's time."""
        context = self.host.number("draw context")
        arguments = Properties(
            {
                "OfxPropEffectInstance": [self.host.handle(self.effect)],
                "OfxPropTime": [self.effect.time],
                "OfxInteractPropPixelScale": [1.0, 1.0],
                "OfxInteractPropDrawContext": [context],
                **({"OfxInteractPropPenPosition": list(pen)} if pen else {}),
            }
        )
        return int(self._main(f"OfxInteractAction{name}".encode(), self._number, self.host.handle(arguments), None))

    def destroy(self) -> int:
        return int(self._main(b"OfxActionDestroyInstance", self._number, None, None))


class _HostStruct(ctypes.Structure):
    _fields_ = [("host", c_void_p), ("fetch_suite", c_void_p)]


class _PluginStruct(ctypes.Structure):
    _fields_ = [
        ("api", c_char_p),
        ("api_version", c_int),
        ("identifier", c_char_p),
        ("version_major", c_uint),
        ("version_minor", c_uint),
        ("set_host", c_void_p),
        ("main_entry", c_void_p),
    ]
