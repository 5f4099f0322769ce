"""A clip of an OpenTimelineIO file as a source, and its edit as an alternative media reference of that clip.

What cannot be done right (retimes, mixed rates, media elsewhere) is refused with a sentence.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from paintover_bridge.errors import ClientError, bad_input
from paintover_bridge.messages import absolute

REFERENCE = "paintover"
"""The key of the edit among a clip's media references."""

_SOURCE = re.compile(r"(?P<file>.*\.otio[zd]?)#(?P<clip>.*)", re.IGNORECASE | re.DOTALL)
_OTHER = re.compile(r".*\.(xml|fcpxml|edl|aaf)#.*", re.IGNORECASE | re.DOTALL)
_NTH = re.compile(r"(?P<name>.*)@(?P<nth>[1-9]\d*)", re.DOTALL)
_BRACKETS = re.compile(r"\[(\d+)-(\d+)\]")
_FORMAT = re.compile(r"%0?(\d*)d|(#+)")
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)  # or a whole string, whose brackets do not count
_MAX_NESTING = 500  # OTIO reads JSON recursively and overflows the stack at some thousands
_TOLERANCE = 1e-4  # of a frame: what arithmetic in seconds loses


@dataclass(frozen=True)
class ClipMedia:
    """What a clip shows.

    path: a video file or a pattern. frames: first and last number as the source counts, transitions included.
    start, rate: the time of `first` in the media's own time, in frames at so many a second.
    placed: the timeline says where the media's time begins; else `frames` may count from its timecode.
    """

    file: str
    clip: str
    path: str
    frames: tuple[int, int]
    start: float
    rate: float
    sequence: bool
    placed: bool = True


def is_clip(source: str) -> bool:
    """Whether a source names a clip of a timeline. Raises ClientError for timelines of other kinds."""
    if _OTHER.fullmatch(source) and not os.path.exists(source):
        kind = source.rpartition("#")[0].rpartition(".")[2]
        raise bad_input(f"'{source}' names a clip of a .{kind} timeline; convert it to .otio first (otioconvert).")
    return _SOURCE.fullmatch(source) is not None and not os.path.exists(source)


def locate(source: str) -> ClipMedia:
    """The media of "timeline.otio#CLIP". CLIP is a clip's name, "TRACK/NAME" where tracks have clips of one name, and
    "NAME@2" for the second of them in the timeline's order.

    Raises ClientError with one sentence for what is missing, ambiguous, or cannot be done right."""
    match = _SOURCE.fullmatch(source)
    assert match  # the caller asked `is_clip`
    file, wanted = os.path.abspath(os.path.expanduser(match["file"])), match["clip"]
    timeline = _read(file)
    clip = _find(timeline, wanted, file)
    _refuse_retimes(clip)
    return _media(clip, file, wanted)


def result_paths(media: ClipMedia, output: str) -> tuple[str, str]:
    """Where the edited media and the timeline go. output: a .otio, with the media beside it; or the media, with the
    .otio beside that."""
    path = Path(absolute(output))
    if path.suffix.lower() == ".otio":
        name = re.sub(r"[^\w-]+", "_", f"{path.stem}_{media.clip}")
        if media.sequence:
            return str(path.with_name(name)), _free(path, media)
        return str(path.with_name(f"{name}.mov")), _free(path, media)
    is_folder = not path.suffix or output.endswith(("/", os.sep))
    name = path.name if is_folder else re.sub(r"[.\s_]*(%0?\d*d|#+)", "", path.stem) or "shot"
    return output, _free(path.with_name(f"{name}.otio"), media)


def _free(timeline: Path, media: ClipMedia) -> str:
    if str(timeline) == media.file or (timeline.exists() and timeline.samefile(media.file)):
        raise bad_input(f"The result would replace the timeline {timeline}, which is read; name the output otherwise.")
    return str(timeline)


def from_timecode(media: ClipMedia, timecode: str, last: int) -> ClipMedia:
    """The clip with its frames counted from a video's timecode; unchanged where they lie in the video as they are, or
    do not either way.

    timecode: of the video's frame 0, "" where it has none. last: the number of its last frame."""
    if media.frames[1] <= last or not timecode:
        return media
    origin = _otio().opentime.from_timecode(timecode, media.rate).to_frames()
    first, end = (number - origin for number in media.frames)
    return replace(media, frames=(first, end)) if 0 <= first <= end <= last else media


def check_rate(media: ClipMedia, rate: float) -> None:
    """Raises ClientError where the media's own rate is not what the timeline says. rate: frames a second; 0: none."""
    if rate and not media.sequence and abs(rate - media.rate) > 0.01:
        raise bad_input(
            f"The timeline says that {media.path} has {media.rate:g} frames a second and the file has {rate:g}; "
            "relink the clip in the editor, and export again."
        )


def write_result(media: ClipMedia, output: str, target: str) -> None:
    """Writes the timeline with the edit as the active media reference "paintover" of the clip; the original stays under
    its own key. output: the media that was written. target: the .otio, replaced if it is there.

    Raises ClientError where it cannot be written."""
    otio = _otio()
    timeline = _read(media.file)
    clip = _find(timeline, media.clip, media.file)
    references = dict(clip.media_references())
    references[REFERENCE] = _reference(otio, media, output, Path(target).parent)
    clip.set_media_references(references, REFERENCE)
    _make_portable(clip, media, Path(target).parent)
    partial = f"{target}.{secrets.token_hex(4)}.partial"
    try:
        Path(partial).write_text(otio.adapters.write_to_string(timeline, "otio_json"), encoding="utf-8")
        os.replace(partial, target)
    except OSError as error:
        raise bad_input(f"The timeline {target} cannot be written ({error.strerror}); choose another place.") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def _otio() -> Any:
    try:
        import opentimelineio
    except ImportError as error:
        raise ClientError(
            "FAILED_PRECONDITION",
            "Timelines need OpenTimelineIO, which is not installed: pip install 'paintover[timelines]'.",
        ) from error
    return opentimelineio


def _read(file: str) -> Any:
    otio = _otio()
    if not os.path.isfile(file):
        raise bad_input(f"There is no timeline {file}; check the path.")
    if not file.lower().endswith(".otio"):
        raise bad_input(f"{file} is a bundle; unpack it and name the .otio file inside.")
    try:
        text = Path(file).read_text("utf-8")
        if _nesting(text) > _MAX_NESTING:
            raise ValueError("it is nested too deeply for a timeline")
        read = otio.adapters.read_from_string(text, "otio_json")
    except Exception as error:  # OTIO raises many kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise bad_input(f"The timeline {file} cannot be read: {reason.rstrip('.')}.") from error
    if not hasattr(read, "find_clips"):
        raise bad_input(f"{file} holds no timeline but a {type(read).__name__}; export the timeline itself.")
    return read


def _nesting(text: str) -> int:
    """How many objects and arrays of a JSON text lie inside each other, at most."""
    depth = deepest = 0
    for token in _BRACKET.findall(text):
        depth += 1 if token in "[{" else -1 if token in "]}" else 0
        deepest = max(deepest, depth)
    return deepest


def _find(timeline: Any, wanted: str, file: str) -> Any:
    clips = list(timeline.find_clips())
    if not wanted:
        raise bad_input(f"Name a clip of {file} after the #: {_listed(clips)}.")
    found = _named(clips, wanted)
    nth = _NTH.fullmatch(wanted)
    if not found and nth:
        same_name = _named(clips, nth["name"])
        found = same_name[int(nth["nth"]) - 1 : int(nth["nth"])]
        if same_name and not found:
            raise bad_input(f"{file} has {len(same_name)} clips named '{nth['name']}', so there is no '{wanted}'.")
    if not found:
        raise bad_input(f"{file} has no clip '{wanted}'; it has {_listed(clips)}.")
    if len(found) > 1:
        tracks = [_track_name(clip) for clip in found]
        if len(set(tracks)) == len(found):
            ways = " or ".join(f"'{track}/{found[0].name}'" for track in tracks)
        else:
            ways = f"'{wanted}@1' to '{wanted}@{len(found)}', in the timeline's order"
        raise bad_input(f"{file} has {len(found)} clips named '{wanted}'; say which: {ways}.")
    return found[0]


def _named(clips: list[Any], wanted: str) -> list[Any]:
    exact = [clip for clip in clips if clip.name == wanted]
    return exact or [clip for clip in clips if f"{_track_name(clip)}/{clip.name}" == wanted]


def _track_name(clip: Any) -> str:
    """Of the nearest track around it that has a name."""
    for parent in _parents(clip):
        if type(parent).__name__ == "Track" and parent.name:
            return str(parent.name)
    return ""


def _parents(item: Any) -> Iterator[Any]:
    parent = item.parent()
    while parent is not None:
        yield parent
        parent = parent.parent()


def _listed(clips: list[Any]) -> str:
    names = list(dict.fromkeys(clip.name for clip in clips if clip.name))
    if not names:
        return "none with a name" if clips else "no clips"
    return ", ".join(f"'{name}'" for name in names[:8]) + (", …" if len(names) > 8 else "")


def _refuse_retimes(clip: Any) -> None:
    otio = _otio()
    for item in (clip, *_parents(clip)):
        for effect in getattr(item, "effects", ()):
            if not isinstance(effect, otio.schema.TimeEffect):
                continue
            if isinstance(effect, otio.schema.LinearTimeWarp) and effect.time_scalar == 1.0:
                continue
            what = "The clip" if item is clip else f"'{item.name or type(item).__name__}' around the clip"
            raise bad_input(
                f"{what} '{clip.name}' is retimed ({type(effect).__name__}); take the speed change off, "
                "propagate, and put it on the result."
                if item is clip
                else f"{what} '{clip.name}' is retimed; take the speed change off before."
            )


def _media(clip: Any, file: str, wanted: str) -> ClipMedia:
    """The media under a clip, the edit that an earlier result wrote apart."""
    otio = _otio()
    key = clip.active_media_reference_key
    references = dict(clip.media_references())
    if key == REFERENCE and len(references) > 1:
        key = next(name for name in references if name != REFERENCE)
    reference = references.get(key)
    shown = clip.visible_range() if clip.source_range is not None or _available(reference) is not None else None
    if shown is None:
        raise bad_input(f"The clip '{wanted}' says nowhere which frames of its media it shows.")
    available = _available(reference)
    if isinstance(reference, otio.schema.ImageSequenceReference):
        return _sequence_media(reference, available, shown, file, wanted)
    if not isinstance(reference, otio.schema.ExternalReference):
        kind = "no media" if reference is None or reference.is_missing_reference else type(reference).__name__
        raise bad_input(f"The clip '{wanted}' has {kind} behind it; relink it in the editor, and export again.")
    path, numbered_from = _pattern(_path(reference.target_url, file, wanted))
    rate = available.start_time.rate if available is not None else shown.start_time.rate
    origin = available.start_time.value if available is not None else 0.0
    start = _frames(shown.start_time, rate, wanted)
    count = _frames(shown.duration, rate, wanted)
    first = round(start - origin) + (numbered_from or 0)
    _whole(start - origin, wanted)
    frames = (first, first + round(count) - 1)
    sequence = numbered_from is not None
    return ClipMedia(file, wanted, path, frames, start, rate, sequence, placed=sequence or available is not None)


def _available(reference: Any) -> Any:
    return None if reference is None else reference.available_range


def _sequence_media(reference: Any, available: Any, shown: Any, file: str, wanted: str) -> ClipMedia:
    if reference.frame_step != 1:
        raise bad_input(
            f"The clip '{wanted}' shows every {reference.frame_step}th image of its sequence; "
            "Paintover needs them all: renumber the sequence."
        )
    padding = reference.frame_zero_padding
    number = f"%0{padding}d" if padding else "%d"
    base = reference.target_url_base
    folder = base if not base or base.endswith("/") else base + "/"
    path = _path(f"{folder}{reference.name_prefix}{number}{reference.name_suffix}", file, wanted, pattern=number)
    rate = reference.rate or shown.start_time.rate
    origin = available.start_time.rescaled_to(rate).value if available is not None else 0.0
    start, count = _frames(shown.start_time, rate, wanted), _frames(shown.duration, rate, wanted)
    _whole(start - origin, wanted)
    first = reference.start_frame + round(start - origin)
    return ClipMedia(file, wanted, path, (first, first + round(count) - 1), start, rate, sequence=True)


def _frames(time: Any, rate: float, wanted: str) -> float:
    """A time in frames of the media. Raises ClientError where it is between two of them, as under mixed rates."""
    value = float(time.value) * rate / float(time.rate)
    if abs(time.rate - rate) > 1e-3 and abs(value - round(value)) > _TOLERANCE:
        raise bad_input(
            f"The clip '{wanted}' is cut at {time.rate:g} frames a second and its media has {rate:g}, so that its ends "
            "lie between frames; cut it to whole frames of the media."
        )
    return value


def _whole(frames: float, wanted: str) -> None:
    if abs(frames - round(frames)) > 1e-3:
        raise bad_input(
            f"The clip '{wanted}' begins between two frames of its media; move its in-point to a whole one."
        )


def _path(url: str, file: str, wanted: str, pattern: str = "") -> str:
    """A local path for a reference's address, relative ones from the timeline's folder."""
    if not url:
        raise bad_input(f"The clip '{wanted}' has no media behind it; relink it in the editor, and export again.")
    parts = urlparse(url.replace(pattern, "\0") if pattern else url)
    windows = len(parts.scheme) == 1  # a drive's letter
    if parts.scheme not in ("", "file") and not windows:
        raise bad_input(f"The clip '{wanted}' has its media at {url}, which is no file of this machine; download it.")
    if parts.scheme == "file":
        text = unquote(parts.path)
        if parts.netloc not in ("", "localhost"):
            text = f"//{parts.netloc}{text}"
        elif re.match(r"/[A-Za-z]:", text):
            text = text[1:]
    else:
        # Some programs write plain names and some encode them: what lies there tells.
        text = url.replace(pattern, "\0") if pattern else url
        if "%" in text and not os.path.exists(os.path.join(os.path.dirname(file), text)):
            text = unquote(text) if not _FORMAT.search(text) else text
    text = text.replace("\0", pattern) if pattern else text
    return os.path.normpath(os.path.join(os.path.dirname(file), text))


def _pattern(path: str) -> tuple[str, int | None]:
    """A path as Paintover writes patterns, and the first number of a sequence that it names; None for a video."""
    brackets = _BRACKETS.search(path)
    if brackets:
        number = f"%0{len(brackets[1])}d" if brackets[1].startswith("0") or len(brackets[1]) > 1 else "%d"
        return path[: brackets.start()] + number + path[brackets.end() :], int(brackets[1])
    if _FORMAT.search(os.path.basename(path)):
        return path, _first_on_disk(path)
    return path, None


def _first_on_disk(pattern: str) -> int:
    """The lowest number of a pattern's files."""
    folder, name = os.path.split(pattern)
    match = _FORMAT.search(name)
    assert match
    numbered = re.compile(re.escape(name[: match.start()]) + r"(\d+)" + re.escape(name[match.end() :]))
    try:
        numbers = [int(found[1]) for found in map(numbered.fullmatch, os.listdir(folder)) if found]
    except OSError:
        numbers = []
    if not numbers:
        raise bad_input(f"The images {pattern} that the timeline names are not there; check the path.")
    return min(numbers)


def _reference(otio: Any, media: ClipMedia, output: str, folder: Path) -> Any:
    """The edit as media: it shows the same time as the original does, and only that of the clip."""
    count = media.frames[1] - media.frames[0] + 1
    time = otio.opentime.RationalTime
    span = otio.opentime.TimeRange(time(media.start, media.rate), time(count, media.rate))
    path = Path(absolute(output))
    number = _FORMAT.search(path.name)
    if path.suffix.lower() in (".mov", ".mp4", ".mkv"):
        return otio.schema.ExternalReference(target_url=_url(path, folder), available_range=span)
    if number is None:  # a folder, in which the engine chose the names
        path, number = _in_folder(path, media.frames[0])
    digits = number[1] or (str(len(number[2])) if number[2] else "0")
    return otio.schema.ImageSequenceReference(
        target_url_base=_url(path.parent, folder) + "/",
        name_prefix=path.name[: number.start()],
        name_suffix=path.name[number.end() :],
        start_frame=media.frames[0],
        frame_step=1,
        rate=media.rate,
        frame_zero_padding=int(digits or 0),
        available_range=span,
    )


def _in_folder(folder: Path, first: int) -> tuple[Path, Any]:
    for entry in sorted(os.listdir(folder)):
        found = re.fullmatch(rf"(.*?)0*{first}(\.\w+)", entry)
        if found:
            digits = len(entry) - len(found[1]) - len(found[2])
            path = folder / f"{found[1]}%0{digits}d{found[2]}"
            return path, _FORMAT.search(path.name)
    raise bad_input(f"The result's images in {folder} are not there any more.")


def _url(path: Path, folder: Path) -> str:
    """Relative where it lies below the timeline's folder, so that both can be moved together."""
    try:
        return path.relative_to(folder).as_posix()
    except ValueError:
        return path.as_uri()


def _make_portable(clip: Any, media: ClipMedia, folder: Path) -> None:
    """Makes the relative addresses of all clips' media whole, where the result lies in another folder."""
    if folder == Path(media.file).parent:
        return
    root = clip
    for root in _parents(clip):  # noqa: B007  # the outermost is meant
        pass
    for other in root.find_clips() if hasattr(root, "find_clips") else [clip]:
        references = dict(other.media_references())
        for key, reference in references.items():
            for name in ("target_url", "target_url_base"):
                url = getattr(reference, name, None)
                if (key == REFERENCE and other is clip) or not url or urlparse(url).scheme or os.path.isabs(url):
                    continue
                moved = Path(os.path.normpath(os.path.join(os.path.dirname(media.file), unquote(url))))
                setattr(reference, name, moved.as_uri() + ("/" if url.endswith("/") else ""))
        other.set_media_references(references, other.active_media_reference_key)
