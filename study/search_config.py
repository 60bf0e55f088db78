"""The section of a study's configuration that says what is searched, how, and for what."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from study.metrics import METRICS, Metric, out_of_reach, place_of
from trainables.data.settings import keeps_no_secret
from trainables.models.spec import Count, Typed
from trainables.recipe import Positive

Sampler = Literal["tpe", "tpe_grouped", "nsga2", "gp", "random"]
Direction = Literal["maximise", "minimise"]


class Bound(Typed):
    """What a metric must be for a recipe to be feasible."""

    min: Annotated[float, Field(strict=True)] | None = None
    """At least this."""
    max: Annotated[float, Field(strict=True)] | None = None
    """At most this."""

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a constraint needs a min or a max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"no value is at least {self.min:g} and at most {self.max:g}")
        return self


class SchedulerConfig(Typed):
    """Early stopping: `moasha` stops the worse of the trials that reached a rung, `none` lets all trials run."""

    kind: Literal["moasha", "none"] = "moasha"
    """How trials are judged at a rung."""
    rungs: tuple[Count, ...] = (10,)
    """Steps at which trials report and the worse ones stop; rising, and below `training.steps`."""
    reduction: Annotated[float, Field(gt=1, strict=True)] = 2.0
    """One in so many trials goes on from a rung."""
    brackets: Count = 1
    """Trials are dealt to so many brackets; those of bracket b, from 0 on, are not judged at the first b rungs."""
    evaluation_share: Annotated[float, Field(gt=0, le=1, strict=True)] = 0.15
    """The share of the validation items that is scored at a rung."""

    @field_validator("rungs")
    @classmethod
    def _rising(cls, rungs: tuple[int, ...]) -> tuple[int, ...]:
        if list(rungs) != sorted(set(rungs)):
            raise ValueError(f"rungs {list(rungs)} are not strictly increasing")
        return rungs

    @model_validator(mode="after")
    def _every_bracket_has_a_rung(self) -> Self:
        if self.kind == "moasha" and self.rungs and self.brackets > len(self.rungs):
            raise ValueError(
                f"brackets: {self.brackets} are more than the {len(self.rungs)} rungs, one for each at most"
            )
        return self


class LimitsConfig(Typed):
    """What a recipe may need; one that is foreseen to need more is infeasible, and is not run."""

    parameters: Count | None = None
    """What the student trains, projections for layer matching included."""
    memory_gb: Positive | None = None
    """The peak of one worker; a GPU's where it has one."""
    minutes: Positive | None = None
    """From a trial's first step to its last score."""


class ConfirmConfig(Typed):
    """Members of the front, and what is behind them by less than the noise, are trained again with new seeds."""

    seeds: Annotated[int, Field(ge=0, strict=True)] = 2
    """Further trainings of each recipe; 0: none."""
    most: Count = 5
    """So many recipes at most, members of the front first."""


class SearchConfig(Typed):
    """What is searched, how, and for what."""

    space: str = "full"
    """The search space: a file of `search_spaces/` by its name (`full`, `mix`, `paper`), or the path of one of your own."""
    start_from: tuple[str, ...] = ("known",)
    """Where the first trials come from, in order: `known`, recipes with sensible settings; the folder or the URL of
    another study, its front; a YAML file, its recipes."""
    sampler: Sampler = "tpe"
    """What proposes recipes; `gp` needs a space without conditions, such as `mix`."""
    trials: Count = 24
    """The search ends after so many trials that were run, however they ended."""
    hours: Positive | None = None
    """The search ends after so much wall time, over all runs; trials that are under way still end."""
    patience: Count | None = None
    """The search ends after so many trials in a row whose results leave the hypervolume as it was."""
    objectives: Annotated[dict[Metric, Direction], Field(json_schema_extra={"minProperties": 2})] = Field(
        default={"retrieval_map": "maximise", "vqa_variance": "minimise"}
    )
    """What the front is of: a metric, or `METRIC@SET`, that of one set."""
    constraints: dict[Metric, Bound] = Field(default={"vqa_lift_kept": Bound(min=0.5)})
    """What a recipe must keep to be on the front, by metric."""
    limits: LimitsConfig = LimitsConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    confirm: ConfirmConfig = ConfirmConfig()

    @property
    def directions(self) -> dict[str, Direction]:
        """The objectives as `analysis.pareto` takes them."""
        return dict(self.objectives)

    @property
    def bounds(self) -> dict[str, dict[str, float | None]]:
        """The constraints as `analysis.pareto` takes them."""
        return {name: {"min": bound.min, "max": bound.max} for name, bound in self.constraints.items()}

    @field_validator("constraints")
    @classmethod
    def _can_be_met(cls, constraints: dict[Metric, Bound]) -> dict[Metric, Bound]:
        for metric, bound in constraints.items():
            if mistake := out_of_reach(metric, bound.min, bound.max):
                raise ValueError(f"{metric}.{mistake}")
        return constraints

    @field_validator("start_from")
    @classmethod
    def _keeps_no_secret(cls, sources: tuple[str, ...]) -> tuple[str, ...]:
        for source in sources:
            keeps_no_secret(source)
        return sources

    @field_validator("objectives")
    @classmethod
    def _several(cls, objectives: dict[Metric, Direction]) -> dict[Metric, Direction]:
        if len(objectives) < 2:
            raise ValueError(f"a Pareto front needs at least two objectives, of {', '.join(METRICS)}")
        # In one order, whatever the file's: Optuna knows objectives by their place.
        return {metric: objectives[metric] for metric in sorted(objectives, key=place_of)}
