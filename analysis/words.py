"""A recipe in plain sentences, from its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from analysis.languages import free_weights

STRATEGIES = {
    "fd": "feature distillation",
    "ed": "English-control distillation",
    "sd": "similarity distillation",
    "mcl": "multilingual contrastive learning",
    "dr": "distributional replication",
}
# How a trial ended, or stands.
STATES = {
    "complete": "complete",
    "stopped": "stopped early",
    "infeasible": "did not fit",
    "failed": "failed",
    "running": "running or interrupted",
    "unreadable": "unreadable",
}
_MAPPINGS = {
    "uniform": "evenly spaced layers",
    "last": "the last layers",
    "first": "the first layers",
}


def in_sentences(recipe: Mapping[str, Any]) -> list[str]:
    """What the ``recipe`` does: its losses, its layers, its languages and its optimiser, a sentence each.

    Says what the recipe names and nothing else; what has no part in it, such as a weight of 0, is left out.
    """
    return [*_losses(recipe), *_layers(recipe), *_languages(recipe), *_optimiser(recipe)]


def _losses(recipe: Mapping[str, Any]) -> Iterator[str]:
    strategy = str(recipe.get("strategy", ""))
    weights = {name: weight for name, weight in recipe.get("strategy_weights", {}).items() if weight}
    if strategy == "mix":
        parts = [_strategy(name, f", weight {_number(weight)}") for name, weight in weights.items()]
        said = f"A mix of {_listed(parts)}" if parts else "A mix"
    else:
        name = _strategy(strategy)
        said = name[:1].upper() + name[1:]
    if recipe.get("task_weight"):
        said += f", with the family's own loss (weight {_number(recipe['task_weight'])})"
    yield f"{said}."
    replication = recipe.get("replication", {})
    if replication and "dr" in (strategy, *weights):
        temperatures = [
            f"{_number(replication[f'{who}_temperature'])} ({who})"
            for who in ("teacher", "student")
            if f"{who}_temperature" in replication
        ]
        queue = f" over a queue of {replication['queue_size']}" if "queue_size" in replication else ""
        yield f"Replication compares distributions{queue} at temperatures of {_listed(temperatures)}."


def _layers(recipe: Mapping[str, Any]) -> Iterator[str]:
    mappings = {tower: recipe.get(f"{tower}_mapping", {}) for tower in ("image", "text")}
    mapped = {tower: _mapping(found) for tower, found in mappings.items() if found.get("kind", "none") != "none"}
    if len(mapped) == 2 and mapped["image"] == mapped["text"] and "monotone" not in mappings["image"]["kind"]:
        layers = f"{mapped['image']} of both towers of the teacher"
    else:
        layers = _listed([f"{found} of the teacher's {tower} tower" for tower, found in mapped.items()])
    weight = recipe.get("layer_weight")
    is_matched = bool(mapped and weight)
    if is_matched:
        yield f"The student's layers learn from {layers} (weight {_number(weight)})."
    elif weight is not None:
        yield "No layers are matched."
    start = recipe.get("initialise")
    if start == "random":
        yield "The student starts from random weights."
    elif start == "mapped" and mapped:
        copied = "these layers" if is_matched else layers
        other = "" if len(mapped) == 2 else f"; its {_other(mapped)} layers start from random weights"
        yield f"The student starts as a copy of {copied}{other}."
    elif start == "mapped":
        yield "The student's layers start from random weights, all else as the teacher's."


def _other(mapped: Mapping[str, str]) -> str:
    return "text" if "image" in mapped else "image"


def _languages(recipe: Mapping[str, Any]) -> Iterator[str]:
    weighting = recipe.get("language_weighting", {})
    kind = weighting.get("kind")
    if kind == "uniform":
        yield "All languages weigh the same."
    elif kind == "difficulty":
        gamma = weighting.get("gamma", 0.0)
        more = "poorly" if gamma > 0 else "well"
        effect = f": those that the teacher reads {more} weigh more" if gamma else ""
        yield f"Languages weigh by difficulty, γ = {_number(gamma)}{effect}."
    elif kind == "free":
        weights = free_weights(weighting.get("logits", {}))
        named = ", ".join(f"{language} {weight:.2f}" for language, weight in weights.items())
        yield f"Languages weigh by searched weights: {named}."


def _optimiser(recipe: Mapping[str, Any]) -> Iterator[str]:
    settings = [
        f"{name.replace('_', ' ')} {_number(recipe[name])}"
        for name in ("learning_rate", "weight_decay")
        if name in recipe
    ]
    if settings:
        said = ", ".join(settings)
        yield f"{said[:1].upper()}{said[1:]}."


def _strategy(name: str, more: str = "") -> str:
    return f"{STRATEGIES[name]} ({name.upper()}{more})" if name in STRATEGIES else f"{name}{more}"


def _mapping(mapping: Mapping[str, Any]) -> str:
    kind = str(mapping["kind"])
    if kind == "monotone":
        numbers = [str(layer) for layer in mapping.get("layers", [])]
        return f"layer {numbers[0]}" if len(numbers) == 1 else f"layers {_listed(numbers)}"
    return _MAPPINGS.get(kind, kind)


def _listed(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
