"""Fonts for every script that data may be in, and lines of text drawn with them.

They are found in installed packages: DejaVu Sans in matplotlib (Latin, Greek, Cyrillic, Arabic, Hebrew and more), Noto
Sans CJK (Han, kana, Hangul) in ``noto-cjk-sans-jp-regular``, Noto Sans of further scripts in ``manimgx-fonts``; then
among the system's own. What no font has is drawn as the name of its script, never as an empty box.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from PIL import ImageDraw, ImageFont, features

_PACKAGES = (
    ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf"),
    ("noto_cjk_sans_jp_regular", "*.otf"),
    ("manimgx_fonts", "NotoSans*.ttf"),
    ("manimgx_fonts", "NotoEmoji*.ttf"),
)
_RIGHT_TO_LEFT = ("R", "AL")
_JOINED = ("Mn", "Mc", "Me", "Cf", "Zs", "Cc")  # marks, joiners and spaces: of the font of what they follow
_LEFT_OUT = "…"
# Scripts, as characters' names begin, whose letters stand one after the other in forms of their own.
_PLAIN = ("LATIN", "GREEK", "CYRILLIC", "CJK", "HIRAGANA", "KATAKANA", "HANGUL")

Ink = tuple[int, int, int]


@lru_cache(maxsize=256)
def font_of(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size)


@cache
def _of_packages() -> list[Path]:
    found = []
    for package, pattern in _PACKAGES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            found += sorted(path for path in Path(folder).glob(pattern) if "Italic" not in path.name)
    return found


@cache
def _of_the_system() -> list[Path]:
    from matplotlib import font_manager

    return sorted(map(Path, font_manager.findSystemFonts()))


@cache
def _characters(path: Path) -> frozenset[int]:
    """The code points that a font has; none of a file that is no font."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(FT2Font(str(path)).get_charmap())
    except (RuntimeError, OSError):
        return frozenset()


@cache
def font_for(character: str) -> Path | None:
    """The first font that has a character, None if no font has."""
    if not _is_shaped() and _needs_shaping(character):
        return None
    for path in _of_packages():
        if ord(character) in _characters(path):
            return path
    return next((path for path in _of_the_system() if ord(character) in _characters(path)), None)


@cache
def _is_shaped() -> bool:
    """Whether PIL can shape text and order it from right to left."""
    return bool(features.check("raqm"))


def _needs_shaping(character: str) -> bool:
    """Without it letters of Arabic, Hebrew or Indic scripts would stand in a wrong order or form."""
    return character.isalpha() and not unicodedata.name(character, "").startswith(_PLAIN)


def script_of(character: str) -> str:
    """What a character's Unicode name begins with, such as Thai."""
    return unicodedata.name(character, f"U+{ord(character):04X}").split()[0].capitalize()


def is_right_to_left(text: str) -> bool:
    """By its first letter that has a direction, as Unicode's algorithm says (UAX 9, rule P2)."""
    directions = (unicodedata.bidirectional(character) for character in text)
    return next((one in _RIGHT_TO_LEFT for one in directions if one in ("L", *_RIGHT_TO_LEFT)), False)


class Writer:
    """Draws lines of text onto a picture and keeps in mind which scripts no font has."""

    def __init__(self, draw: ImageDraw.ImageDraw, size: int) -> None:
        self._draw, self._size = draw, size
        self.missing: set[str] = set()

    @property
    def line_height(self) -> int:
        return round(self._size * 1.5)

    def line(self, place: tuple[int, int], text: str, width: int, ink: Ink = (0, 0, 0), language: str = "") -> int:
        """Draw one line within ``width`` pixels from ``place``, its left end on top; what is too long ends in an
        ellipsis. Returns the width that it took."""
        runs = self._fitting(" ".join(text.split()), width, language)
        left, top = place
        baseline = top + self._size
        for path, part in reversed(runs) if is_right_to_left(text) else runs:
            font, (direction, spoken) = font_of(path, self._size), _shaping(part, language)
            self._draw.text((left, baseline), part, ink, font, "ls", direction=direction, language=spoken)
            left += round(self._length([(path, part)], language))
        return left - place[0]

    def _fitting(self, text: str, width: int, language: str) -> list[tuple[Path, str]]:
        """As much of a text as fits, in runs of one font each; found by halving."""
        runs = list(self._runs(text))
        if self._length(runs, language) <= width:
            return runs
        least, most = 0, len(text) - 1
        while least < most:
            middle = (least + most + 1) // 2
            if self._length(list(self._runs(text[:middle] + _LEFT_OUT)), language) <= width:
                least = middle
            else:
                most = middle - 1
        return list(self._runs(text[:least].rstrip() + _LEFT_OUT))

    def _length(self, runs: list[tuple[Path, str]], language: str) -> float:
        total = 0.0
        for path, part in runs:
            direction, spoken = _shaping(part, language)
            total += font_of(path, self._size).getlength(part, direction=direction, language=spoken)
        return total

    def _runs(self, text: str) -> Iterator[tuple[Path, str]]:
        """A text in its parts of one font each; a part that no font has becomes the name of its script."""
        whole = next(iter(_of_packages()), None)
        chosen: list[tuple[Path | str | None, str]] = []
        before: Path | str | None = None
        for character in text:
            if unicodedata.category(character) in _JOINED:
                path = before if before is not None else font_for(character)
            else:
                path = font_for(character) or script_of(character)
            before = path
            chosen.append((path, character))
        for path, group in groupby(chosen, key=lambda pair: pair[0]):
            part = "".join(character for _, character in group)
            if isinstance(path, Path):
                yield path, part
            elif path is not None and whole is not None:
                self.missing.add(path)
                rest = part.rstrip()
                yield whole, f"[{path}: {len(rest)} characters, no font]{part[len(rest) :]}"


def _shaping(part: str, language: str) -> tuple[str | None, str | None]:
    """Direction and language of a run of text, which PIL is told if it can shape it at all."""
    if not _is_shaped():
        return None, None
    return "rtl" if is_right_to_left(part) else "ltr", language or None
