"""The suites of what an effect is made of: properties, effects with clips and images, parameters."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import c_char_p, c_double, c_int, c_void_p
from typing import Any

from tests.plugin_ofx.ofx_host.objects import Clip, Described, Param, Properties
from tests.plugin_ofx.ofx_host.quirks import ERR_BAD_HANDLE, ERR_UNKNOWN, ERR_UNSUPPORTED, FAILED, OK, Value
from tests.plugin_ofx.ofx_host.suite import Entry, Suite, handle, out, store, text

_KINDS: Sequence[str] = ("Pointer", "String", "Double", "Int")


class PropertySuite(Suite):
    """Property sets."""

    NAME = ("OfxPropertySuite", 1)

    def entries(self) -> list[Entry]:
        return [
            ("propSetPointer", [handle, text, c_int, c_void_p], self._prop_set),
            ("propSetString", [handle, text, c_int, c_char_p], self._prop_set),
            ("propSetDouble", [handle, text, c_int, c_double], self._prop_set),
            ("propSetInt", [handle, text, c_int, c_int], self._prop_set),
            *[(f"propSet{kind}N", [handle, text, c_int, c_void_p], None) for kind in _KINDS],
            ("propGetPointer", [handle, text, c_int, out], self._getter(c_void_p)),
            ("propGetString", [handle, text, c_int, out], self._getter(c_char_p)),
            ("propGetDouble", [handle, text, c_int, out], self._getter(c_double)),
            ("propGetInt", [handle, text, c_int, out], self._getter(c_int)),
            *[(f"propGet{kind}N", [handle, text, c_int, c_void_p], None) for kind in _KINDS],
            ("propReset", [handle, text], None),
            ("propGetDimension", [handle, text, out], None),
        ]

    def _prop_set(self, handle: int, name: bytes, index: int, value: Value) -> int:
        key = name.decode()
        if key == "OfxPropInstanceData" and not self.host.quirks.keeps_instance_data:
            return ERR_UNKNOWN
        self.host.objects[handle].put(key, index, value.decode() if isinstance(value, bytes) else value)
        return OK

    def _getter(self, kind: Any) -> Callable[..., int]:
        def get(handle: int, name: bytes, index: int, out: int) -> int:
            properties: Properties = self.host.objects[handle]
            key = name.decode()
            values = properties.values.get(key, [])
            if key in self.host.quirks.absent or not 0 <= index < len(values):
                return ERR_UNKNOWN
            value = values[index]
            if kind is c_char_p:
                value = properties.string(value)
            store(out, c_void_p if kind is c_char_p else kind, value)
            return OK

        return get


class EffectSuite(Suite):
    """Effects, their clips and images."""

    NAME = ("OfxImageEffectSuite", 1)

    def entries(self) -> list[Entry]:
        return [
            ("getPropertySet", [handle, out], self._effect_properties),
            ("getParamSet", [handle, out], self._param_set),
            ("clipDefine", [handle, text, out], self._clip_define),
            ("clipGetHandle", [handle, text, out, out], self._clip_get),
            ("clipGetPropertySet", [handle, out], self._effect_properties),
            ("clipGetImage", [handle, c_double, c_void_p, out], self._clip_image),
            ("clipReleaseImage", [handle], self._release_image),
            ("clipGetRegionOfDefinition", [handle, c_double, out], self._clip_region),
            ("abort", [handle], lambda _effect: int(self.host.aborts)),
            *[(f"imageMemory{verb}", [handle], None) for verb in ("Alloc", "Free", "Lock", "Unlock")],
        ]

    def _effect_properties(self, handle: int, out: int) -> int:
        store(out, c_void_p, self.host.handle(self.host.objects[handle].properties))
        return OK

    def _param_set(self, handle: int, out: int) -> int:
        store(out, c_void_p, handle)
        return OK if isinstance(self.host.objects[handle], Described) else ERR_BAD_HANDLE

    def _clip_define(self, handle: int, name: bytes, out: int) -> int:
        effect: Described = self.host.objects[handle]
        assert name.decode() not in effect.clips, f"clip {name!r} defined twice"
        clip = effect.clips[name.decode()] = Clip(name.decode(), Properties())
        store(out, c_void_p, self.host.handle(clip.properties))
        return OK

    def _clip_get(self, handle: int, name: bytes, out: int, properties: int | None) -> int:
        clip = self.host.objects[handle].clips[name.decode()]
        store(out, c_void_p, self.host.handle(clip))
        if properties:
            store(properties, c_void_p, self.host.handle(clip.properties))
        return OK

    def _clip_image(self, handle: int, time: float, region: int | None, out: int) -> int:
        clip: Clip = self.host.objects[handle]
        assert clip.picture
        self.host.rendering.region = list((c_double * 4).from_address(region)) if region else None
        image = clip.picture(time)
        if image is None:
            return FAILED
        with self.host.lock:
            self.host.handed_out += 1
        store(out, c_void_p, self.host.handle(image.properties))
        return OK

    def _release_image(self, handle: int) -> int:
        with self.host.lock:
            self.host.released += 1  # first: what was never handed out counts too
            del self.host.objects[handle]
        return OK

    def _clip_region(self, handle: int, time: float, out: int) -> int:
        clip: Clip = self.host.objects[handle]
        assert clip.picture
        image = clip.picture(time)
        if image is None:
            return FAILED
        quirks = self.host.quirks
        across, up = quirks.scale / quirks.pixel_aspect, quirks.scale
        sides = image.properties.values["OfxImagePropRegionOfDefinition"]
        (c_double * 4).from_address(out)[:] = [
            side / scale for side, scale in zip(sides, (across, up) * 2, strict=True)
        ]
        return OK


class ParameterSuite(Suite):
    """Parameters."""

    NAME = ("OfxParameterSuite", 1)

    def entries(self) -> list[Entry]:
        return [
            ("paramDefine", [handle, text, text, out], self._param_define),
            ("paramGetHandle", [handle, text, out, out], self._param_get),
            ("paramSetGetPropertySet", [handle, out], self._param_set_properties),
            ("paramGetPropertySet", [handle, out], self._param_properties),
            ("paramGetValue", [handle, out], self._param_value),
            ("paramGetValueAtTime", [handle, c_double, out], lambda h, time, o: self._param_value(h, o, time)),
            ("paramGetDerivative", [handle], None),
            ("paramGetIntegral", [handle], None),
            ("paramSetValue", [handle, c_void_p, c_double], self._param_set_value),
            *[(f"param{number}", [handle], None) for number in range(9)],
        ]

    def _param_set_properties(self, handle: int, out: int) -> int:
        store(out, c_void_p, self.host.handle(self.host.objects[handle].param_set))
        return OK

    def _param_properties(self, handle: int, out: int) -> int:
        store(out, c_void_p, self.host.handle(self.host.objects[handle].properties))
        return OK

    def _param_define(self, handle: int, kind: bytes, name: bytes, out: int) -> int:
        effect: Described = self.host.objects[handle]
        if kind.decode() in self.host.quirks.refused_kinds:
            return ERR_UNSUPPORTED
        effect.defined.append(name.decode())
        param = effect.params[name.decode()] = Param(kind.decode(), name.decode(), Properties())
        store(out, c_void_p, self.host.handle(param.properties))
        return OK

    def _param_get(self, handle: int, name: bytes, out: int, properties: int | None) -> int:
        param = self.host.objects[handle].params[name.decode()]
        store(out, c_void_p, self.host.handle(param))
        if properties:
            store(properties, c_void_p, self.host.handle(param.properties))
        return OK

    def _param_value(self, handle: int, out: int, time: float = 0.0) -> int:
        param: Param = self.host.objects[handle]
        value = param.at(time)
        if param.kind == "OfxParamTypeString":
            store(out, c_void_p, param.properties.string(value or ""))
        elif param.kind == "OfxParamTypeDouble":
            store(out, c_double, float(value or 0.0))
        else:
            store(out, c_int, int(value or 0))
        return OK

    def _param_set_value(self, handle: int, whole: int | None, real: float) -> int:
        param: Param = self.host.objects[handle]
        if param.kind == "OfxParamTypeString":
            param.value = ctypes.string_at(whole or 0).decode()
        elif param.kind == "OfxParamTypeDouble":
            param.value = real
        else:
            param.value = c_int((whole or 0) & 0xFFFFFFFF).value
        self.host.set_values.append((param.name, param.value, getattr(self.host.rendering, "now", False)))
        return OK
