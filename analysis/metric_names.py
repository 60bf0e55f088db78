"""What scores are called: a metric's name, followed by ``@SET`` where it is that of one of several sets."""

from __future__ import annotations

_OF = "@"


def of_set(metric: str, name: str) -> str:
    """A metric of one set; that of an unnamed set is the metric itself."""
    return f"{metric}{_OF}{name}" if name else metric


def split_metric(metric: str) -> tuple[str, str]:
    """The metric itself, and the set that it is of, empty if it is of all."""
    name, _, of = metric.partition(_OF)
    return name, of


def noise_of(metric: str) -> str:
    """What the standard error of a metric is called: ``vqa_variance_noise@cvqa`` for ``vqa_variance@cvqa``."""
    name, of = split_metric(metric)
    return of_set(f"{name}_noise", of)
