"""What the menu scripts do, for pipelines: DaVinci Resolve Studio's Python, from inside or outside the program.

    from paintover_bridge.hosts.resolve import studio

    resolve = studio.connect()
    clip = studio.current_clip(resolve)
    run = studio.propagate(clip, {clip.frame: "painted.psd"}, "/shots/out.mov", on_event=print)

`bring` puts an output on the timeline: the "output" of the event "done". Rules and sentences are those of
`lua/paintover.lua`; a test holds the two together.
"""

from __future__ import annotations

import importlib
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from paintover_local.processes import code_command

from paintover_bridge.hosts.command import Event, HostError, Run, find_command, make_output_folder
from paintover_bridge.hosts.resolve.mailbox import ScriptRequest
from paintover_bridge.hosts.resolve.runner import arguments

BIN = "Paintover"
EDIT_SECONDS = 6.0
_SAME_RATE = 0.005
_SEQUENCE = re.compile(r"(?P<head>.*)\[(?P<first>\d+)-(?P<last>\d+)\](?P<tail>.*)", re.DOTALL)
_TIMECODE = re.compile(r"(\d+):(\d+):(\d+)([:;.,])(\d+)")
_NUMBER = re.compile(r"%0\d+d")
_KINDS = {
    "compound": "is a compound clip; open it in the timeline and paint a clip inside it",
    "multicam": "is a multicam clip; flatten it first",
    "timeline": "is a nested timeline; open it and paint a clip inside it",
    "fusion": "is a Fusion clip; paint the clip that it was made of",
    "generator": "is a generator, which has no media file",
    "title": "is a title, which has no media file",
    "still": "is a still, which has nothing to carry an edit through",
}
_COLOURS = {
    "logc4": "ARRI LogC4",
    "logc": "ARRI LogC3 (EI800)",
    r"s-gamut3\.cine.*s-log3": "S-Log3 S-Gamut3.Cine",
    "s-gamut3.*s-log3": "S-Log3 S-Gamut3",
    "log3g10": "Log3G10 REDWideGamutRGB",
    "v-log": "V-Log V-Gamut",
    "acescct": "ACEScct",
    "acescg": "ACEScg",
    "aces2065": "ACES2065-1",
    "davinci.*intermediate": "DaVinci Intermediate WideGamut",
}

Resolve = Any
"""Resolve's own object: it seems to have every method, so hasattr tells nothing."""
T = TypeVar("T")


@dataclass(frozen=True)
class TimelineClip:
    """The facts of a timeline item. source: a file or a pattern; frame, first, last: its own numbers, inclusive;
    item: Resolve's id of it; start: its first frame on the timeline."""

    item: str
    name: str
    source: str
    frame: int
    first: int
    last: int
    colorspace: str
    start: int


def connect() -> Resolve:
    """The Resolve that runs. Raises HostError where there is none, or it lets no script in.

    The module is tried in another process first: of the wrong Python it takes its process down."""
    probe = code_command(sys.executable, "import DaVinciResolveScript")
    if subprocess.run(probe, capture_output=True, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        raise HostError(
            "Resolve's Python module cannot be loaded; set RESOLVE_SCRIPT_API, RESOLVE_SCRIPT_LIB and PYTHONPATH as "
            "its README says, and use Python 3.10 to 3.12."
        )
    resolve = importlib.import_module("DaVinciResolveScript").scriptapp("Resolve")
    if resolve is None:
        raise HostError(
            "No Resolve answers: start DaVinci Resolve Studio, and allow Preferences > System > General > "
            "External scripting using: Local."
        )
    return resolve


def _within(seconds: float, ask: Callable[[], T | None]) -> T | None:
    """Asks until there is an answer: Resolve knows none for seconds after an edit."""
    end = time.monotonic() + seconds
    while True:
        found = ask()
        if found or time.monotonic() > end:
            return found
        time.sleep(0.25)


def _try(ask: Callable[[], Any]) -> Any:
    """None for a call that this version of Resolve has not."""
    try:
        return ask()
    except TypeError:  # 'NoneType' object is not callable
        return None


def frames_of(timecode: str, rate: float) -> int:
    """Frames from midnight of a timecode, also of a drop-frame one (";"). Raises HostError for what is none."""
    match = _TIMECODE.fullmatch(str(timecode))
    if not match:
        raise HostError(f"Resolve gave the timecode '{timecode}', which cannot be read.")
    hours, minutes, seconds, frames = (int(match[index]) for index in (1, 2, 3, 5))
    nominal, minutes = math.floor(rate + 0.5), hours * 60 + minutes
    count = (minutes * 60 + seconds) * nominal + frames
    if match[4] != ":":
        count -= math.floor(nominal / 15 + 0.5) * (minutes - minutes // 10)
    return count


def sequence(path: str) -> tuple[str, int] | None:
    """The pattern and the first number of "/plates/a.[0101-0148].exr"; None for one file."""
    match = _SEQUENCE.fullmatch(path)
    if not match or os.path.exists(path):
        return None
    if re.search("[%#@]", match["head"] + match["tail"]):
        raise HostError(f"The name of {path} holds %, # or @, which stand for numbers; rename it.")
    return f"{match['head']}%0{len(match['first'])}d{match['tail']}", int(match["first"])


def colorspace(name: str) -> str:
    """OpenColorIO's name for one of Resolve's; "" for those that are shown as they are, or not known."""
    return next((space for pattern, space in _COLOURS.items() if re.search(pattern, str(name).lower())), "")


def _timeline(resolve: Resolve) -> tuple[Any, Any]:
    project = resolve.GetProjectManager().GetCurrentProject()
    if not project:
        raise HostError("No project is open.")
    timeline = project.GetCurrentTimeline()
    if not timeline:
        raise HostError("No timeline is open; open the one with the clip to paint.")
    return timeline, project


def current_clip(resolve: Resolve, wait: float = EDIT_SECONDS) -> TimelineClip:
    """The clip under the playhead, as it shows now: of one that shows a result, that result.

    Raises HostError for what could only be done wrong."""
    timeline, _ = _timeline(resolve)
    item = _within(wait, timeline.GetCurrentVideoItem)
    if not item:
        raise HostError("There is no clip under the playhead; park it on the clip to paint.")
    name, media = str(item.GetName()), item.GetMediaPoolItem()
    if not media:
        raise HostError(f"'{name}' is a title or a generator, which has no media file.")
    path = str(media.GetClipProperty("File Path") or "")
    _check_kind(str(media.GetClipProperty("Type") or ""), name, path)
    rate = _rate(media, timeline, name)
    pattern, number = sequence(path) or (path, 0)
    offset, duration = _offset(item, name, number)
    at = timeline.GetStartFrame() + frames_of(timeline.GetCurrentTimecode(), rate)
    at -= frames_of(timeline.GetStartTimecode(), rate) + item.GetStart()
    if not 0 <= at < duration:
        raise HostError(f"The playhead is not on '{name}'; park it on the clip to paint.")
    first = offset + number
    space = colorspace(media.GetClipProperty("Input Color Space"))
    return TimelineClip(
        item.GetUniqueId(), name, pattern, first + at, first, first + duration - 1, space, int(item.GetStart())
    )


def _check_kind(kind: str, name: str, path: str) -> None:
    for word, sentence in _KINDS.items():
        if word in kind.lower():
            raise HostError(f"'{name}' {sentence}.")
    if not path:
        raise HostError(
            f"'{name}' has no media file of its own (a compound clip, a title, a generator?); "
            "paint on a clip that has one."
        )


def _rate(media: Any, timeline: Any, name: str) -> float:
    given = (media.GetClipProperty("FPS"), timeline.GetSetting("timelineFrameRate"))
    found = [re.search(r"[\d.]+", str(text)) for text in given]
    if not found[0] or not found[1]:
        raise HostError(f"Resolve does not tell the frame rate of '{name}'.")
    own, whole = float(found[0][0]), float(found[1][0])
    if abs(own - whole) > _SAME_RATE:
        raise HostError(
            f"'{name}' has {own:g} frames a second in a timeline of {whole:g}, so Resolve skips or repeats frames; "
            "paint it in a timeline of its own rate."
        )
    return whole


def _offset(item: Any, name: str, number: int) -> tuple[int, int]:
    """Where the item begins in its media, and its length. GetLeftOffset is exact where rates are equal."""
    duration, offset = int(item.GetDuration()), int(item.GetLeftOffset())
    begin, end, speed = item.GetSourceStartFrame(), item.GetSourceEndFrame(), _try(lambda: item.GetSpeed())
    if (speed and float(speed) not in (1, 100)) or (
        begin is not None and end is not None and abs(end - begin - duration) > 1
    ):
        raise HostError(f"'{name}' is retimed, so its frames are not those of its file; paint it before it is retimed.")
    if begin is not None and abs(begin - offset) > 1 and abs(begin - offset - number) > 1:
        raise HostError(
            f"'{name}' starts at frame {int(begin)} of its file by one account and at {offset} by another "
            "(a subclip?); paint it from the whole clip."
        )
    return offset, duration


def paint(
    clip: TimelineClip,
    output: str,
    on_event: Callable[[Event], None],
    *,
    method: str = "draft",
    editor: str = "",
    command: Sequence[str] | None = None,
) -> Run:
    """Opens the clip's frame for painting; each save is carried through the clip. Does not wait."""
    given = {**vars(clip), "output": output, "method": method, "editor": editor}
    make_output_folder(output)
    return Run(command or find_command(), arguments(ScriptRequest("", "paint", "", given)), on_event)


def propagate(
    clip: TimelineClip,
    paintings: Mapping[int, str],
    output: str,
    on_event: Callable[[Event], None],
    *,
    method: str = "draft",
    command: Sequence[str] | None = None,
) -> Run:
    """Carries paintings, by frame, through the clip. Does not wait."""
    listed = [{"frame": frame, "path": path} for frame, path in paintings.items()]
    given = {**vars(clip), "output": output, "method": method, "paintings": listed}
    make_output_folder(output)
    return Run(command or find_command(), arguments(ScriptRequest("", "propagate", "", given)), on_event)


def bring(resolve: Resolve, clip: TimelineClip, output: str, *, as_track: bool = False, finalize: bool = False) -> str:
    """Puts an output of the clip's frames on the timeline; returns where ("take 2", "track 3").

    as_track: on a new track above all, instead of as a take. finalize: keeps the take alone.
    Nothing is overwritten, and whatever Resolve does not do as requested raises HostError."""
    timeline, project = _timeline(resolve)
    item = next((one for one in _items(timeline) if one.GetUniqueId() == clip.item), None)
    if item is None:
        raise HostError(f"'{clip.name}' is no longer in this timeline; open the timeline that it was painted in.")
    count = clip.last - clip.first + 1
    if item.GetDuration() != count:
        raise HostError(
            f"'{clip.name}' was trimmed since it was painted: it shows {item.GetDuration()} frames, "
            f"the result has {count}; paint it again."
        )
    pool = project.GetMediaPool()
    media = _imported(pool, clip, output)
    found = media.GetClipProperty("Frames")
    if found and int(found) != count:
        raise HostError(f"Resolve reads {found} frames of {output}, which has {count}; it was not put on the timeline.")
    if as_track:
        return _on_track(timeline, pool, media, clip, output, int(item.GetStart()))
    return _as_take(item, media, clip, output, finalize)


def _items(timeline: Any) -> list[Any]:
    tracks = range(1, int(timeline.GetTrackCount("video")) + 1)
    return [item for track in tracks for item in timeline.GetItemListInTrack("video", track) or []]


def _shows(media: Any, output: str) -> bool:
    path = str(media.GetClipProperty("File Path") or "") if media else ""
    found = sequence(path)
    names = {os.path.normcase(path), os.path.normcase(found[0]) if found else path}
    return bool(path) and os.path.normcase(output) in names


def _imported(pool: Any, clip: TimelineClip, output: str) -> Any:
    """In a bin of its own, once; the bin that the artist has open stays open."""
    open_bin, root = pool.GetCurrentFolder(), pool.GetRootFolder()
    own = next((one for one in root.GetSubFolderList() or [] if one.GetName() == BIN), None)
    own = own or pool.AddSubFolder(root, BIN)
    if not own:
        raise HostError(f'The bin "{BIN}" cannot be written; is the project read-only?')
    try:
        for media in own.GetClipList() or []:
            if _shows(media, output):
                return media
        pool.SetCurrentFolder(own)
        what: list[Any] = [output]
        if _NUMBER.search(output):
            what = [{"FilePath": output, "StartIndex": clip.first, "EndIndex": clip.last}]
        imported = pool.ImportMedia(what)
    finally:
        if open_bin:
            pool.SetCurrentFolder(open_bin)
    if not imported:
        raise HostError(f"Resolve does not import {output}; is the file still there?")
    return imported[0]


def _as_take(item: Any, media: Any, clip: TimelineClip, output: str, finalize: bool) -> str:
    for index in range(1, int(item.GetTakesCount()) + 1):
        if _shows((item.GetTakeByIndex(index) or {}).get("mediaPoolItem"), output):
            item.SelectTakeByIndex(index)
            return f"take {index}"
    before = item.GetDuration()
    if not item.AddTake(media):
        raise HostError(f"Resolve adds no take to '{clip.name}'; it may be locked. {output} is in the bin \"{BIN}\".")
    index = int(item.GetTakesCount())
    item.SelectTakeByIndex(index)
    if item.GetDuration() != before:
        item.SelectTakeByIndex(1)
        item.DeleteTakeByIndex(index)
        raise HostError(
            f"The take would have changed the length of '{clip.name}', so it was taken away again; "
            f'{output} is in the bin "{BIN}".'
        )
    if finalize:
        item.FinalizeTake()
    return f"take {index}"


def _on_track(timeline: Any, pool: Any, media: Any, clip: TimelineClip, output: str, start: int) -> str:
    """An append onto another item is dropped without a word, so it is looked for afterwards."""
    for track in range(1, int(timeline.GetTrackCount("video")) + 1):
        for item in timeline.GetItemListInTrack("video", track) or []:
            if item.GetStart() == start and _shows(item.GetMediaPoolItem(), output):
                return f"track {track}"
    timeline.AddTrack("video")
    track, count = int(timeline.GetTrackCount("video")), clip.last - clip.first + 1
    timeline.SetTrackName("video", track, BIN)
    place = {"mediaPoolItem": media, "startFrame": 0, "endFrame": count, "mediaType": 1, "trackIndex": track}
    pool.AppendToTimeline([{**place, "recordFrame": start}])  # endFrame is exclusive, recordFrame the timeline's own

    def placed() -> Any:
        items = timeline.GetItemListInTrack("video", track) or []
        return next((one for one in items if one.GetStart() == start), None)

    found = _within(EDIT_SECONDS, placed)
    if not found or found.GetDuration() != count:
        raise HostError(f"Resolve did not put {output} over '{clip.name}'; it is in the bin \"{BIN}\".")
    return f"track {track}"
