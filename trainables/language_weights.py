"""How much each language counts: weights w ≥ 0 with mean 1 over the languages of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from trainables.recipe import LanguageWeighting

_HARDEST = 1e-3  # the smallest 1 − AP: keeps a negative power of it finite


def language_weights(
    weighting: LanguageWeighting, languages: Sequence[str], teacher_map: Mapping[str, float]
) -> dict[str, float]:
    """The weight of each language.

    uniform: 1; difficulty: w_l ∝ (1 − AP_l of the teacher)^γ, so that γ > 0 favours languages that the teacher finds
    hard; free: w = L·softmax(z).

    Raises:
        ValueError: if a free weighting lacks a language.
    """
    if weighting.kind == "uniform":
        raw = [1.0 for _ in languages]
    elif weighting.kind == "difficulty":
        raw = [max(1 - teacher_map[language], _HARDEST) ** weighting.gamma for language in languages]
    else:
        missing = [language for language in languages if language not in weighting.logits]
        if missing:
            raise ValueError(
                f"language_weighting: free weights need a logit for each language; none for {', '.join(missing)}"
            )
        highest = max(weighting.logits[language] for language in languages)
        raw = [math.exp(weighting.logits[language] - highest) for language in languages]
    mean = sum(raw) / len(raw)
    return {language: value / mean for language, value in zip(languages, raw, strict=True)}
