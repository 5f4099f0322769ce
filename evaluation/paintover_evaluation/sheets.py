"""Pictures to judge a result by: contact sheets and before/after frames."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Frame = NDArray[np.uint8]

BACKGROUND = (19, 21, 26)
TEXT = (236, 237, 240)
FAINT = (139, 144, 156)
ACCENT = (255, 184, 77)


def contact_sheet(
    rows: Sequence[tuple[str, Mapping[int, Frame]]],
    numbers: Sequence[int],
    marked: Collection[int] = (),
    width: int = 1920,
) -> Frame:
    """Frames side by side under their numbers, one labelled row for each version of the shot.

    rows: (label, frame by number); all frames (h, w, 3) uint8 of one size. A frame that a row lacks stays empty.
    numbers: the columns, from left to right. marked: numbers to mark as keyframes.
    Returns (H, width, 3) uint8. Raises ValueError if there is nothing to show.
    """
    sizes = [frame.shape for _, frames in rows for number, frame in frames.items() if number in numbers]
    if not sizes:
        raise ValueError("A contact sheet needs at least one row that has one of the numbered frames.")
    gap = round(width / 120)
    head = round(width / 32)
    label_width = max(round(_font(head * 0.4).getlength(label)) for label, _ in rows) + gap * 2
    cell_width = (width - label_width - gap) // len(numbers) - gap
    cell_height = round(cell_width * sizes[0][0] / sizes[0][1])
    sheet = Image.new("RGB", (width, head + gap // 2 + len(rows) * (cell_height + gap)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    outline = _rounded(cell_width, cell_height, gap // 2)
    for column, number in enumerate(numbers):
        left = label_width + gap + column * (cell_width + gap)
        _heading(draw, number, number in marked, left, head)
        for row, (_, frames) in enumerate(rows):
            top = head + gap // 2 + row * (cell_height + gap)
            if number in marked:
                _surround(sheet, left, top, outline, max(2, gap // 5))
            if number in frames:
                picture = Image.fromarray(frames[number]).resize((cell_width, cell_height), Image.Resampling.LANCZOS)
                sheet.paste(picture, (left, top), outline)
    for row, (label, _) in enumerate(rows):
        middle = head + gap // 2 + row * (cell_height + gap) + cell_height // 2
        draw.text((gap * 1.5, middle), label, fill=TEXT, font=_font(head * 0.4), anchor="lm")
    return np.asarray(sheet)


def side_by_side(left: Frame, right: Frame, labels: tuple[str, str] = ("before", "after")) -> Frame:
    """Two frames of one size (h, w, 3) uint8 with a small gap between them and their labels in a corner.

    Returns a frame of even sizes, as video wants them. Raises ValueError if the sizes differ.
    """
    if left.shape != right.shape:
        raise ValueError(f"Both sides must be of one size, not {left.shape[:2]} and {right.shape[:2]}.")
    height, width = left.shape[:2]
    gap = max(2, round(width / 100))
    whole = Image.new("RGB", (_even(2 * width + gap), _even(height)), BACKGROUND)
    for frame, label, x in ((left, labels[0], 0), (right, labels[1], width + gap)):
        picture = Image.fromarray(frame)
        _tag(picture, label)
        whole.paste(picture, (x, 0))
    return np.asarray(whole)


def _font(size: float) -> ImageFont.FreeTypeFont:
    """Pillow's own typeface: the same on every machine."""
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("This Pillow was built without FreeType; install one of its standard wheels.")
    return font


def _even(size: int) -> int:
    return size + size % 2


def _heading(draw: ImageDraw.ImageDraw, number: int, keyframe: bool, left: int, head: int) -> None:
    base = head * 0.72
    font = _font(head * 0.36)
    text = f"{number}"
    draw.text((left + 2, base), text, fill=ACCENT if keyframe else FAINT, font=font, anchor="ls")
    if keyframe:
        after = left + 2 + font.getlength(text) + head * 0.2
        draw.text((after, base), "keyframe", fill=ACCENT, font=font, anchor="ls")


def _rounded(width: int, height: int, radius: int) -> Image.Image:
    """An anti-aliased mask of a rectangle with round corners."""
    large = Image.new("L", (width * 4, height * 4), 0)
    ImageDraw.Draw(large).rounded_rectangle((0, 0, width * 4 - 1, height * 4 - 1), radius * 4, fill=255)
    return large.resize((width, height), Image.Resampling.BOX)


def _surround(sheet: Image.Image, left: int, top: int, outline: Image.Image, border: int) -> None:
    wide = outline.resize((outline.width + 2 * border, outline.height + 2 * border), Image.Resampling.BICUBIC)
    sheet.paste(ACCENT, (left - border, top - border), wide)


def _tag(picture: Image.Image, label: str) -> None:
    """Puts a label on a dark pill into the lower left corner, in place."""
    size = max(10.0, picture.height / 26)
    font = _font(size)
    margin = round(size * 0.7)
    pill = _rounded(round(font.getlength(label) + size * 1.3), round(size * 1.8), round(size * 0.9))
    left, top = margin, picture.height - margin - pill.height
    picture.paste(BACKGROUND, (left, top), pill.point(lambda value: value * 3 // 4))
    middle = (left + pill.width / 2, top + pill.height / 2)
    ImageDraw.Draw(picture).text(middle, label, fill=TEXT, font=font, anchor="mm")
