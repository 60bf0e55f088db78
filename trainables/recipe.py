"""`Recipe`: one point of the search space, typed. Everything in which one trial of a study may differ from another."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from trainables.models.spec import Count, Typed

StrategyName = Literal["fd", "ed", "sd", "mcl", "dr"]
STRATEGY_NAMES: tuple[StrategyName, ...] = get_args(StrategyName)
MappingKind = Literal["none", "uniform", "last", "first", "monotone"]
WeightingKind = Literal["uniform", "difficulty", "free"]

Positive = Annotated[float, Field(gt=0, strict=True)]
NotNegative = Annotated[float, Field(ge=0, strict=True)]


class LayerMapping(Typed):
    """Which teacher layer each student layer learns from, in one tower."""

    kind: MappingKind = "uniform"
    """With n student and m teacher layers: `uniform` s → round(s·m/n), `last` s → m − n + s, `first` s → s, `monotone` as
    `layers` say, `none` none."""
    layers: tuple[Count, ...] = ()
    """Of `monotone` alone: the teacher layer of each student layer, counted from 1, strictly increasing."""

    @model_validator(mode="after")
    def _layers_belong_to_monotone(self) -> Self:
        if (self.kind == "monotone") != bool(self.layers):
            raise ValueError(f"a mapping of kind {self.kind} {'needs' if not self.layers else 'takes no'} layers")
        if any(later <= earlier for earlier, later in pairwise(self.layers)):
            raise ValueError(f"layers {list(self.layers)} are not strictly increasing")
        return self


class LanguageWeighting(Typed):
    """How much each language counts in the losses."""

    kind: WeightingKind = "uniform"
    """`uniform`: all alike; `difficulty`: in proportion to (1 − AP of the teacher)^gamma; `free`: L·softmax(logits)."""
    gamma: Annotated[float, Field(ge=-2, le=2, strict=True)] = 0.0
    """Of `difficulty`; above 0 it favours languages that the teacher finds hard."""
    logits: dict[str, float] = Field(default={})
    """Of `free`, one a language."""


class Replication(Typed):
    """Settings of distributional replication (DR)."""

    teacher_temperature: Positive = 0.05
    """τ_T."""
    student_temperature: Positive = 0.05
    """τ_S."""
    queue_size: Count = 2048
    """Teacher embeddings in the queue Q."""


class Recipe(Typed):
    """A distillation recipe; the total loss is task_weight·task + Σ strategy_weights·strategy + layer_weight·layers."""

    strategy: Literal[StrategyName, "mix"]
    """One of the strategies, or a weighted sum of them."""
    strategy_weights: dict[StrategyName, NotNegative] = Field(default={})
    """Of `mix`; a single strategy has weight 1."""
    task_weight: NotNegative = 0.0
    """λ_task, of the family's own loss."""
    layer_weight: NotNegative = 0.0
    """λ_layer, of the match of hidden layers."""
    image_mapping: LayerMapping = LayerMapping()
    text_mapping: LayerMapping = LayerMapping()
    initialise: Literal["mapped", "random"] = "mapped"
    """What the student starts from: its mapped teacher layers, or random weights."""
    language_weighting: LanguageWeighting = LanguageWeighting()
    replication: Replication = Replication()
    learning_rate: Positive = 2e-3
    """At its highest."""
    weight_decay: NotNegative = 0.1
    """Of the optimiser."""

    @model_validator(mode="after")
    def _mix_has_weights(self) -> Self:
        if self.strategy == "mix" and not any(self.strategy_weights.values()):
            raise ValueError("a mix needs a positive weight for at least one strategy")
        if self.strategy != "mix" and self.strategy_weights:
            raise ValueError(f"strategy {self.strategy} takes no strategy_weights: only mix does")
        return self

    @property
    def weights(self) -> dict[StrategyName, float]:
        """λ of each strategy that takes part."""
        if self.strategy == "mix":
            return {name: weight for name, weight in self.strategy_weights.items() if weight > 0}
        return {self.strategy: 1.0}
