"""A picture of a study's data: examples of every source, with captions or answers in its languages and scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from trainables.artifacts import atomically
from trainables.data.fonts import Ink, Writer
from trainables.data.leakage import Prepared
from trainables.data.prepared import Array, CaptionedImages, VisualQuestions

COLUMNS, CARD_WIDTH, PICTURE, MARGIN = 3, 640, 160, 14
_EXAMPLES = 6  # of a source
_LINES = 14  # of a card
_SIZE, _HEADING = 15, 21  # of letters, in pixels
_CODE_WIDTH = 56
_BLACK, _GREY, _GREEN, _PAPER, _CARD = (20, 20, 20), (125, 125, 125), (0, 115, 40), (238, 238, 238), (255, 255, 255)


@dataclass(frozen=True)
class Line:
    """Of a card."""

    label: str
    text: str
    language: str
    ink: Ink = _BLACK


@dataclass(frozen=True)
class Card:
    """A picture, uint8 [H, W, 3], and what stands beside it."""

    picture: Array
    lines: list[Line]

    def height(self, line_height: int) -> int:
        return max(PICTURE, line_height * len(self.lines)) + 2 * MARGIN


def write_contact_sheet(path: Path, data: Mapping[str, Prepared]) -> list[str]:
    """Write examples of each source, by its key, as a PNG. Returns the scripts for which there is no font."""
    parts = [(_heading(key, part), _cards(part)) for key, part in data.items()]
    line_height = Writer(ImageDraw.Draw(Image.new("RGB", (1, 1))), _SIZE).line_height
    rows = [[cards[start : start + COLUMNS] for start in range(0, len(cards), COLUMNS)] for _, cards in parts]
    height = MARGIN + sum(
        2 * _HEADING + sum(max(card.height(line_height) for card in row) + MARGIN for row in of_part)
        for of_part in rows
    )
    width = MARGIN + COLUMNS * (CARD_WIDTH + MARGIN)
    sheet = Image.new("RGB", (width, height + 2 * line_height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    headings, texts = Writer(draw, _HEADING), Writer(draw, _SIZE)
    top = MARGIN
    for (heading, _), of_part in zip(parts, rows, strict=True):
        headings.line((MARGIN, top), heading, width - 2 * MARGIN, _BLACK)
        top += 2 * _HEADING
        for row in of_part:
            tall = max(card.height(line_height) for card in row)
            for column, card in enumerate(row):
                _draw(sheet, draw, texts, card, (MARGIN + column * (CARD_WIDTH + MARGIN), top), tall)
            top += tall + MARGIN
    missing = sorted(texts.missing | headings.missing)
    if missing:
        note = f"No font is installed for {', '.join(missing)}."
        texts.line((MARGIN, top), note, width - 2 * MARGIN, _BLACK)
    with atomically(path) as temporary:
        sheet.save(temporary, "PNG")
    return missing


def _draw(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, texts: Writer, card: Card, place: tuple[int, int], tall: int
) -> None:
    left, top = place
    draw.rectangle((left, top, left + CARD_WIDTH - 1, top + tall - 1), _CARD)
    sharp = Image.Resampling.LANCZOS if card.picture.shape[0] > PICTURE else Image.Resampling.BICUBIC
    sheet.paste(Image.fromarray(card.picture).resize((PICTURE, PICTURE), sharp), (left + MARGIN, top + MARGIN))
    edge = (left + MARGIN - 1, top + MARGIN - 1, left + MARGIN + PICTURE, top + MARGIN + PICTURE)
    draw.rectangle(edge, outline=_PAPER)  # so that a blank picture is seen to be one
    beside, room = left + PICTURE + 2 * MARGIN, CARD_WIDTH - PICTURE - 3 * MARGIN
    for number, line in enumerate(card.lines):
        level = top + MARGIN + number * texts.line_height
        texts.line((beside, level), line.label, _CODE_WIDTH, _GREY)
        texts.line((beside + _CODE_WIDTH, level), line.text, room - _CODE_WIDTH, line.ink, line.language)


def _heading(key: str, data: Prepared) -> str:
    if isinstance(data, CaptionedImages):
        return f"data.{key}: {len(np.unique(data.image_item)):,} items, {len(data.images):,} pictures"
    return f"data.{key}: {len(data.answer):,} questions; the right option is marked ✓"


def _cards(data: Prepared) -> list[Card]:
    """Of items that are spread evenly."""
    count = len(data.images)
    rows = [int(row) for row in np.linspace(0, count - 1, min(_EXAMPLES, count))]
    if isinstance(data, CaptionedImages):
        return [Card(data.images[row], _captions(data, row)) for row in rows]
    return [Card(data.images[row], _options(data, row, turn)) for turn, row in enumerate(rows)]


def _captions(data: CaptionedImages, row: int) -> list[Line]:
    """Of each language the first caption, and how many more there are."""
    texts = np.flatnonzero(data.text_item == data.image_item[row])
    lines = []
    for place, language in enumerate(data.languages):
        there = texts[data.present[place, texts]]
        more = f" +{len(there) - 1}" if len(there) > 1 else ""
        text = data.texts[place][int(there[0])] if len(there) else "no caption"
        lines.append(Line(language + more, text, language, _BLACK if len(there) else _GREY))
    return _shortened(lines)


def _options(data: VisualQuestions, row: int, turn: int) -> list[Line]:
    """In the languages that ask, from another one on for each card, as far as there is room."""
    asking = [place for place in range(len(data.languages)) if data.options[place, row, 0] >= 0]
    turned = [asking[(turn + place) % len(asking)] for place in range(len(asking))]
    lines: list[Line] = []
    for place in turned:
        options = [int(option) for option in data.options[place, row] if option >= 0]
        if lines and len(lines) + len(options) > _LINES // 2 + 1:
            break
        language = data.languages[place]
        for number, option in enumerate(options):
            is_right = number == data.answer[row]
            label = f"{language if number == 0 else ''} {'✓' if is_right else ''}"
            lines.append(Line(label, data.texts[0][option], language, _GREEN if is_right else _BLACK))
    return _shortened(lines)


def _shortened(lines: Sequence[Line]) -> list[Line]:
    if len(lines) <= _LINES:
        return list(lines)
    return [*lines[: _LINES - 1], Line("", f"and {len(lines) - _LINES + 1} more", "", _GREY)]
