"""What figures of effects have in common: how objectives are named in sentences and along axes."""

from __future__ import annotations

import textwrap

from analysis.load import StudyData
from analysis.pareto import Direction
from analysis.units import better, shown

LETTERS = 34  # of a label


def short(objective: str) -> str:
    return {"retrieval_map": "retrieval", "vqa_variance": "the spread of VQA"}.get(objective, shown(objective).label)


def way(data: StudyData, objective: str) -> str:
    direction: Direction = better(objective, data.objectives)
    return f", {'more' if direction == 'maximise' else 'less'} is better"


def wrapped(text: str) -> str:
    return textwrap.fill(text, LETTERS)


def sentence(said: list[str]) -> str:
    text = "; ".join(said)
    return text[:1].upper() + text[1:]
