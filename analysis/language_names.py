"""What languages are called, which script they are written in, and which family they are of."""

from __future__ import annotations

from functools import lru_cache

UNKNOWN = "not known"

# Top-level families as Glottolog 5 has them (https://glottolog.org, CC BY 4.0), by ISO 639 codes. No package that is
# well kept has families; these are the languages of the usual multilingual sets of captions and questions.
_FAMILIES = {
    "Indo-European": "af an as be bg bn br bs ca cs cy da de el en es fa fr ga gd gl gu hi hr hy is it ku lb lt lv mk mr "
    "ne nb nl nn no or pa pl ps pt ro ru sd si sk sl sq sr sv tg uk ur yi ckb",
    "Afro-Asiatic": "am ar arz ary apc ha he mt om so ti",
    "Sino-Tibetan": "bo dz my yue zh",
    "Austronesian": "ceb fil id jv mg mi ms su tl haw sm min",
    "Dravidian": "kn ml ta te",
    "Turkic": "az ba kk ky tr tt tk ug uz",
    "Uralic": "et fi hu",
    "Atlantic-Congo": "ig lg ln ny rn rw sn st sw tn wo xh yo zu",
    "Austroasiatic": "km vi",
    "Tai-Kadai": "lo th",
    "Japonic": "ja",
    "Koreanic": "ko",
    "Kartvelian": "ka",
    "Mongolic-Khitan": "mn",
    "Quechuan": "qu quz",
    "Tupian": "gn",
    "language isolate": "eu",
}
# What the CLDR's names of scripts leave out when they stand by themselves.
_SCRIPTS = {"Hans": "Han, simplified", "Hant": "Han, traditional"}
_FAMILY_OF = {code: family for family, codes in _FAMILIES.items() for code in codes.split()}


def family(language: str) -> str:
    """The top-level family of a BCP 47 code, ``UNKNOWN`` if it is not among those of this module."""
    return _FAMILY_OF.get(_base(language), UNKNOWN)


@lru_cache(maxsize=1024)
def name(language: str) -> str:
    """A language's English name, by the Unicode CLDR; the code itself where that has none."""
    from babel import Locale, UnknownLocaleError

    try:
        return str(Locale.parse(language.replace("_", "-"), sep="-").get_display_name("en") or language)
    except (UnknownLocaleError, ValueError):
        return str(Locale("en").languages.get(_base(language), language))


@lru_cache(maxsize=1024)
def script(language: str) -> str:
    """The script that a language is mostly written in, by the Unicode CLDR's likely subtags; ``UNKNOWN`` if it has none."""
    from babel import Locale
    from babel.core import get_global

    parts = language.replace("_", "-").split("-")
    written = [part.title() for part in parts[1:] if len(part) == 4 and part.isalpha()]
    likely = get_global("likely_subtags")
    guess = next((likely[key] for key in ("_".join(parts), parts[0].lower()) if key in likely), "")
    code = written[0] if written else next((part for part in guess.split("_") if len(part) == 4), "")
    return _SCRIPTS.get(code, str(Locale("en").scripts.get(code, UNKNOWN)))


def _base(language: str) -> str:
    return language.replace("_", "-").split("-")[0].lower()
