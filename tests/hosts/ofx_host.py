"""A small OpenFX host, with a switch for each quirk that real hosts were seen to have.

    host = Host(library, Quirks(depth="float", negative_rows=True))
    effect = host.create({"job": "jobs/1"}, source)     # source(time) gives (H, W, 4) pixels, row 0 at the top
    status, picture = effect.render(3.0)

Only what an effect like ours uses is there. Handles are numbers that this host looks up, so a wrong one is an error and
never a crash. Variadic functions are declared with fixed arguments, which is the same call on x86-64 Linux.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable, Sequence
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_double, c_float, c_int, c_uint, c_void_p
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OK, FAILED, ERR_UNKNOWN, ERR_UNSUPPORTED, ERR_BAD_HANDLE, REPLY_DEFAULT = 0, 1, 3, 5, 9, 14
COMPONENTS = {1: "OfxImageComponentAlpha", 3: "OfxImageComponentRGB", 4: "OfxImageComponentRGBA"}
GUARD = 0xA5  # what memory holds that a render must not touch

DEPTHS = {
    "byte": ("OfxBitDepthByte", np.dtype(np.uint8)),
    "short": ("OfxBitDepthShort", np.dtype(np.uint16)),
    "half": ("OfxBitDepthHalf", np.dtype(np.float16)),
    "float": ("OfxBitDepthFloat", np.dtype(np.float32)),
}

Pixels = NDArray[Any]
Source = Callable[[float], "Pixels | None"]
Value = Any


@dataclass(frozen=True)
class Quirks:
    """How this host differs from a perfect one.

    missing_suites: names of suites that it does not have. missing_functions: their NULL functions.
    absent: properties that it never gives. origin: where the lower left pixel lies. padding: bytes after each row.
    other_times: "given", "refused", or "ignored" (any time gives the current frame, as MLT does).
    components: "RGBA" or "RGB". project: the format's width and height, its lower left at (0, 0); None: not given.
    scale: the images' render scale. colourspace: of the Source clip, by OpenFX 1.5's names; "": it is not said.
    draws: it has the interact and draw suites. refused_kinds: kinds of parameters that it does not have.
    """

    name: str = "org.paintover.testhost"
    context: str = "OfxImageEffectContextFilter"
    depth: str = "byte"
    negative_rows: bool = False
    padding: int = 0
    origin: tuple[int, int] = (0, 0)
    missing_suites: frozenset[str] = frozenset()
    missing_functions: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset()
    other_times: str = "given"
    premultiplied: bool = False
    in_place: bool = False
    keeps_instance_data: bool = True
    frames: tuple[int, int] | None = (0, 11)
    components: str = "RGBA"
    project: tuple[float, float] | None = None
    scale: float = 1.0
    colourspace: str = ""
    draws: bool = False
    refused_kinds: frozenset[str] = frozenset()
    extra_host: dict[str, list[Value]] = field(default_factory=dict)


class Properties:
    """A property set: lists of values by name."""

    def __init__(self, values: dict[str, list[Value]] | None = None) -> None:
        self.values = values or {}
        self._strings: dict[bytes, ctypes.Array[ctypes.c_char]] = {}

    def string(self, value: str | bytes) -> int:
        """The address of a C string that lives as long as this set."""
        raw = value.encode() if isinstance(value, str) else value
        buffer = self._strings.setdefault(raw, ctypes.create_string_buffer(raw))
        return ctypes.addressof(buffer)

    def put(self, name: str, index: int, value: Value) -> None:
        values = self.values.setdefault(name, [])
        values.extend([None] * (index + 1 - len(values)))
        values[index] = value


@dataclass
class Param:
    kind: str
    name: str
    properties: Properties
    value: Value = None


@dataclass
class Clip:
    name: str
    properties: Properties
    effect: Effect | None = None


@dataclass
class Image:
    """Pixels with guarded memory around them. rows: the pixels in it, row 0 at the top."""

    memory: Pixels
    rows: Pixels
    properties: Properties


class Host:
    """Loads a plugin's library and is its host."""

    def __init__(self, library: Path, quirks: Quirks | None = None) -> None:
        self.quirks = quirks or Quirks()
        self.objects: dict[int, Any] = {}
        self._numbers = itertools.count(0x1000, 16)
        self._lock = threading.Lock()
        self.progress: list[float] = []
        self.cancel_at: float | None = None
        self.aborts = False
        self.released = 0
        self.handed_out = 0
        self.set_values: list[tuple[str, Value, bool]] = []
        self.persistent: dict[int, str] = {}  # the message that stands at an effect, by its handle
        self.goes_to: list[float] = []
        self.lines: list[tuple[tuple[float, float], tuple[float, float]]] = []  # drawn by overlays
        self.redraws = 0
        self.rendering = threading.local()
        self.properties = Properties(
            {
                "OfxPropName": [self.quirks.name],
                "OfxPropAPIVersion": [1, 5],
                "OfxImageEffectPropTemporalClipAccess": [int(self.quirks.other_times == "given")],
                **self.quirks.extra_host,
            }
        )
        self._suites = self._make_suites()
        self._fetch = CFUNCTYPE(c_void_p, c_void_p, c_char_p, c_int)(self._fetch_suite)
        self._host = _HostStruct(self._number(self.properties), ctypes.cast(self._fetch, c_void_p))
        self._library = ctypes.CDLL(str(library))
        self._library.OfxGetPlugin.restype = POINTER(_PluginStruct)
        self._library.OfxSetHost(ctypes.byref(self._host))
        self.plugin = self._library.OfxGetPlugin(0).contents
        self.main = ENTRY(self.plugin.main_entry)
        self.descriptor: Effect | None = None

    def load(self) -> int:
        CFUNCTYPE(None, c_void_p)(self.plugin.set_host)(ctypes.addressof(self._host))
        return self.main(b"OfxActionLoad", None, None, None)

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
            effect.clips[name] = Clip(name, self._clip_properties(name, clip.properties, matte is not None), effect)
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
        return self.main(b"OfxActionUnload", None, None, None)

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

    # Handles.

    def _number(self, thing: object) -> int:
        with self._lock:
            number = next(self._numbers)
            self.objects[number] = thing
            return number

    def handle(self, thing: Any) -> int:
        """The number by which the plugin knows a thing."""
        if not hasattr(thing, "_handle"):
            thing._handle = self._number(thing)
        return int(thing._handle)

    # Suites.

    def _fetch_suite(self, _host: int, name: bytes, version: int) -> int | None:
        suite = self._suites.get((name.decode(), version))
        return ctypes.addressof(suite[0]) if suite else None

    def _make_suites(self) -> dict[tuple[str, int], tuple[Any, list[Any]]]:
        handle, text, out = c_void_p, c_char_p, c_void_p
        setter = [handle, text, c_int]
        functions: dict[tuple[str, int], list[tuple[str, list[Any], Callable[..., int] | None]]] = {
            ("OfxPropertySuite", 1): [
                ("propSetPointer", [*setter, c_void_p], self._prop_set),
                ("propSetString", [*setter, c_char_p], self._prop_set),
                ("propSetDouble", [*setter, c_double], self._prop_set),
                ("propSetInt", [*setter, c_int], self._prop_set),
                *[(f"propSet{kind}N", [handle, text, c_int, c_void_p], None) for kind in _KINDS],
                ("propGetPointer", [*setter, out], self._getter(c_void_p)),
                ("propGetString", [*setter, out], self._getter(c_char_p)),
                ("propGetDouble", [*setter, out], self._getter(c_double)),
                ("propGetInt", [*setter, out], self._getter(c_int)),
                *[(f"propGet{kind}N", [handle, text, c_int, c_void_p], None) for kind in _KINDS],
                ("propReset", [handle, text], None),
                ("propGetDimension", [handle, text, out], None),
            ],
            ("OfxImageEffectSuite", 1): [
                ("getPropertySet", [handle, out], self._effect_properties),
                ("getParamSet", [handle, out], self._param_set),
                ("clipDefine", [handle, text, out], self._clip_define),
                ("clipGetHandle", [handle, text, out, out], self._clip_get),
                ("clipGetPropertySet", [handle, out], self._thing_properties),
                ("clipGetImage", [handle, c_double, c_void_p, out], self._clip_image),
                ("clipReleaseImage", [handle], self._release_image),
                ("clipGetRegionOfDefinition", [handle, c_double, out], self._clip_region),
                ("abort", [handle], lambda _effect: int(self.aborts)),
                *[(f"imageMemory{verb}", [handle], None) for verb in ("Alloc", "Free", "Lock", "Unlock")],
            ],
            ("OfxParameterSuite", 1): [
                ("paramDefine", [handle, text, text, out], self._param_define),
                ("paramGetHandle", [handle, text, out, out], self._param_get),
                ("paramSetGetPropertySet", [handle, out], None),
                ("paramGetPropertySet", [handle, out], self._thing_properties),
                ("paramGetValue", [handle, out], self._param_value),
                ("paramGetValueAtTime", [handle, c_double, out], lambda h, _time, o: self._param_value(h, o)),
                ("paramGetDerivative", [handle], None),
                ("paramGetIntegral", [handle], None),
                ("paramSetValue", [handle, c_void_p, c_double], self._param_set_value),
                *[(f"param{number}", [handle], None) for number in range(9)],
            ],
            ("OfxProgressSuite", 1): [
                ("progressStart", [handle, text], lambda _effect, _label: self._progress(0.0)),
                ("progressUpdate", [handle, c_double], lambda _effect, done: self._progress(done)),
                ("progressEnd", [handle], lambda _effect: OK),
            ],
            ("OfxTimeLineSuite", 1): [
                ("getTime", [handle, out], lambda _effect, _out: ERR_UNKNOWN),
                ("gotoTime", [handle, c_double], self._go_to),
                ("getTimeBounds", [handle, out, out], lambda *_: ERR_UNKNOWN),
            ],
            ("OfxInteractSuite", 1): [
                ("interactSwapBuffers", [handle], None),
                ("interactRedraw", [handle], self._redraw),
                ("interactGetPropertySet", [handle, out], None),
            ],
            ("OfxDrawSuite", 1): [
                ("getColour", [handle, c_int, out], lambda *_: OK),
                ("setColour", [handle, c_void_p], lambda *_: OK),
                ("setLineWidth", [handle, c_float], lambda *_: OK),
                ("setLineStipple", [handle, c_int], lambda *_: OK),
                ("draw", [handle, c_int, c_void_p, c_int], self._draw),
                ("drawText", [handle], None),
            ],
            ("OfxMessageSuite", 2): [
                ("message", [handle, text, text, text, text], lambda *_: OK),
                ("setPersistentMessage", [handle, text, text, text, text], self._set_message),
                ("clearPersistentMessage", [handle], self._clear_message),
            ],
        }
        suites: dict[tuple[str, int], tuple[Any, list[Any]]] = {}
        for (name, version), entries in functions.items():
            if name in self.quirks.missing_suites or (name in _OVERLAYS and not self.quirks.draws):
                continue
            made = [
                CFUNCTYPE(c_int, *types)(self._safe(function))
                if function and entry not in self.quirks.missing_functions
                else None
                for entry, types, function in entries
            ]
            table = (c_void_p * len(made))(
                *[ctypes.cast(function, c_void_p) if function else None for function in made]
            )
            suites[name, version] = (table, made)
        return suites

    @staticmethod
    def _safe(function: Callable[..., int]) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            try:
                return function(*arguments)
            except (KeyError, AttributeError, TypeError):
                return ERR_BAD_HANDLE

        return call

    # Properties.

    def _prop_set(self, handle: int, name: bytes, index: int, value: Value) -> int:
        key = name.decode()
        if key == "OfxPropInstanceData" and not self.quirks.keeps_instance_data:
            return ERR_UNKNOWN
        self.objects[handle].put(key, index, value.decode() if isinstance(value, bytes) else value)
        return OK

    def _getter(self, kind: Any) -> Callable[..., int]:
        def get(handle: int, name: bytes, index: int, out: int) -> int:
            properties: Properties = self.objects[handle]
            key = name.decode()
            values = properties.values.get(key, [])
            if key in self.quirks.absent or not 0 <= index < len(values):
                return ERR_UNKNOWN
            value = values[index]
            if kind is c_char_p:
                value = properties.string(value)
            store(out, c_void_p if kind is c_char_p else kind, value)
            return OK

        return get

    def _effect_properties(self, handle: int, out: int) -> int:
        store(out, c_void_p, self.handle(self.objects[handle].properties))
        return OK

    _thing_properties = _effect_properties

    # Clips.

    def _clip_define(self, handle: int, name: bytes, out: int) -> int:
        effect: Effect = self.objects[handle]
        assert name.decode() not in effect.clips, f"clip {name!r} defined twice"
        clip = effect.clips[name.decode()] = Clip(name.decode(), Properties())
        store(out, c_void_p, self.handle(clip.properties))
        return OK

    def _clip_get(self, handle: int, name: bytes, out: int, properties: int | None) -> int:
        clip = self.objects[handle].clips[name.decode()]
        store(out, c_void_p, self.handle(clip))
        if properties:
            store(properties, c_void_p, self.handle(clip.properties))
        return OK

    def _clip_image(self, handle: int, time: float, _region: int, out: int) -> int:
        clip: Clip = self.objects[handle]
        assert clip.effect
        image = clip.effect.image(clip.name, time)
        if image is None:
            return FAILED
        with self._lock:
            self.handed_out += 1
        store(out, c_void_p, self.handle(image.properties))
        return OK

    def _release_image(self, handle: int) -> int:
        with self._lock:
            self.released += 1  # first: what was never handed out counts too
            del self.objects[handle]
        return OK

    def _clip_region(self, handle: int, time: float, out: int) -> int:
        clip: Clip = self.objects[handle]
        assert clip.effect
        image = clip.effect.image(clip.name, time)
        if image is None:
            return FAILED
        sides = image.properties.values["OfxImagePropRegionOfDefinition"]
        (c_double * 4).from_address(out)[:] = [side / self.quirks.scale for side in sides]
        return OK

    # Messages and the time line.

    def _set_message(self, handle: int, kind: bytes, _id: bytes, form: bytes, sentence: bytes) -> int:
        assert kind in (b"OfxMessageError", b"OfxMessageWarning", b"OfxMessageMessage")
        assert form == b"%s"
        self.persistent[handle] = sentence.decode()
        return OK

    def _clear_message(self, handle: int) -> int:
        self.persistent.pop(handle, None)
        return OK

    def _redraw(self, _interact: int) -> int:
        self.redraws += 1
        return OK

    def _draw(self, context: int, primitive: int, points: int, count: int) -> int:
        assert self.objects[context] == "draw context"
        assert (primitive, count) == (0, 2)  # a line
        values = (c_double * 4).from_address(points)
        self.lines.append(((values[0], values[1]), (values[2], values[3])))
        return OK

    def _go_to(self, _handle: int, time: float) -> int:
        self.goes_to.append(time)
        return OK

    # Parameters.

    def _param_set(self, handle: int, out: int) -> int:
        store(out, c_void_p, handle)
        return OK if isinstance(self.objects[handle], Effect) else ERR_BAD_HANDLE

    def _param_define(self, handle: int, kind: bytes, name: bytes, out: int) -> int:
        effect: Effect = self.objects[handle]
        if kind.decode() in self.quirks.refused_kinds:
            return ERR_UNSUPPORTED
        effect.defined.append(name.decode())
        param = effect.params[name.decode()] = Param(kind.decode(), name.decode(), Properties())
        store(out, c_void_p, self.handle(param.properties))
        return OK

    def _param_get(self, handle: int, name: bytes, out: int, properties: int | None) -> int:
        param = self.objects[handle].params[name.decode()]
        store(out, c_void_p, self.handle(param))
        if properties:
            store(properties, c_void_p, self.handle(param.properties))
        return OK

    def _param_value(self, handle: int, out: int) -> int:
        param: Param = self.objects[handle]
        if param.kind == "OfxParamTypeString":
            store(out, c_void_p, param.properties.string(param.value or ""))
        elif param.kind == "OfxParamTypeDouble":
            store(out, c_double, float(param.value or 0.0))
        else:
            store(out, c_int, int(param.value or 0))
        return OK

    def _param_set_value(self, handle: int, whole: int | None, real: float) -> int:
        param: Param = self.objects[handle]
        if param.kind == "OfxParamTypeString":
            param.value = ctypes.string_at(whole or 0).decode()
        elif param.kind == "OfxParamTypeDouble":
            param.value = real
        else:
            param.value = c_int((whole or 0) & 0xFFFFFFFF).value
        self.set_values.append((param.name, param.value, getattr(self.rendering, "now", False)))
        return OK

    def _progress(self, done: float) -> int:
        self.progress.append(done)
        return REPLY_DEFAULT if self.cancel_at is not None and done >= self.cancel_at else OK


class Effect:
    """An effect's description, or an instance."""

    def __init__(self, host: Host, source: Source | None = None, matte: Source | None = None) -> None:
        self.host = host
        self.source = source
        self.matte = matte
        self.properties = Properties()
        self.clips: dict[str, Clip] = {}
        self.params: dict[str, Param] = {}
        self.defined: list[str] = []
        self._output = threading.local()
        self.time = 0.0

    def action(self, name: str, in_args: Properties | None = None, out_args: Properties | None = None) -> int:
        host = self.host
        arguments = [host.handle(found) if found else None for found in (in_args, out_args)]
        try:
            return host.main(name.encode(), host.handle(self), *arguments)
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
        """What a project file keeps of it: the values of its persistent parameters."""
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
        return make_image(pixels, quirks)

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
        self.host.rendering.now = True
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
            self.host.rendering.now = False
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
        self._number = self.host._number(self)
        assert self._main(b"OfxActionDescribe", self._number, None, None) == OK
        assert self._main(b"OfxActionCreateInstance", self._number, None, None) == OK

    def act(self, name: str, pen: tuple[float, float] | None = None) -> int:
        """One interact action at the effect's time."""
        context = self.host._number("draw context")
        arguments = Properties(
            {
                "OfxPropEffectInstance": [self.host.handle(self.effect)],
                "OfxPropTime": [self.effect.time],
                "OfxInteractPropPixelScale": [1.0, 1.0],
                "OfxInteractPropDrawContext": [context],
                **({"OfxInteractPropPenPosition": list(pen)} if pen else {}),
            }
        )
        return self._main(f"OfxInteractAction{name}".encode(), self._number, self.host.handle(arguments), None)

    def destroy(self) -> int:
        return self._main(b"OfxActionDestroyInstance", self._number, None, None)


def make_image(pixels: Pixels, quirks: Quirks, *, guarded: bool = False) -> Image:
    """An image of a host's. guarded: its pixels are not those given but the guard's bytes."""
    height, width, channels = pixels.shape
    row = width * channels * pixels.itemsize
    stride = row + quirks.padding
    memory = np.full((height + 2, stride), GUARD, np.uint8)
    inner = memory[1:-1]
    strides = (stride, channels * pixels.itemsize, pixels.itemsize)
    rows = np.ndarray((height, width, channels), pixels.dtype, memory, stride, strides)
    address = inner.ctypes.data
    if quirks.negative_rows:
        data, row_bytes = address + (height - 1) * stride, -stride
    else:
        rows = rows[::-1]
        data, row_bytes = address, stride
    if not guarded:
        rows[...] = pixels
    x, y = quirks.origin
    bounds = [x, y, x + width, y + height]
    depth = next(name for name, dtype in DEPTHS.values() if dtype == pixels.dtype)
    properties = Properties(
        {
            "OfxPropType": ["OfxTypeImage"],
            "OfxImagePropData": [data],
            "OfxImagePropBounds": bounds,
            "OfxImagePropRegionOfDefinition": list(bounds),
            "OfxImagePropRowBytes": [row_bytes],
            "OfxImageEffectPropPixelDepth": [depth],
            "OfxImageEffectPropComponents": [COMPONENTS[channels]],
            "OfxImageEffectPropRenderScale": [quirks.scale, quirks.scale],
            "OfxImagePropPixelAspectRatio": [1.0],
            "OfxImageEffectPropPreMultiplication": [
                "OfxImageAlphaPremultiplied" if quirks.premultiplied else "OfxImageAlphaUnPremultiplied"
            ],
            "OfxImagePropField": ["OfxFieldNone"],
        }
    )
    properties.memory = memory  # type: ignore[attr-defined]  # lives as long as the plugin holds it
    return Image(memory, rows, properties)


def store(address: int, kind: Any, value: Value) -> None:
    """Writes a C value where a pointer points."""
    kind.from_address(address).value = value


_OVERLAYS = ("OfxInteractSuite", "OfxDrawSuite")
_KINDS: Sequence[str] = ("Pointer", "String", "Double", "Int")
ENTRY = CFUNCTYPE(c_int, c_char_p, c_void_p, c_void_p, c_void_p)


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
