"""What a study prints when it ends: the front beside the teacher, and where the time went."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from analysis.load import StudyData, front, load_study, write_results
from analysis.metric_names import split_metric

_OF_SETS: dict[str, tuple[str, Callable[[float], str]]] = {
    "retrieval_map": ("mAP", "{:.3f}".format),
    "vqa_accuracy": ("VQA acc.", lambda share: f"{100 * share:.1f} %"),
    "vqa_variance": ("VQA variance", "{:.1f}".format),
}
_SCORES = ("VQA acc.", "VQA variance")
_COLUMNS = ("trial", "strategy", "validation: mAP", *_SCORES, "lift kept", "test: mAP", *_SCORES)


def write_report(folder: Path) -> StudyData:
    """Rebuild report/pareto.png and results/ from the ledger; results/front.json, last, says that all of it is there."""
    from analysis.figures.front import pareto  # draws, which takes a second to import
    from analysis.style import save

    data = load_study(folder)
    (folder / "report").mkdir(exist_ok=True)
    save(pareto(data), folder / "report" / "pareto")
    write_results(data)
    return data


def withdraw_report(folder: Path) -> None:
    """What is to run now may change the front: until the report is written again, the study is not finished."""
    (folder / "results" / "front.json").unlink(missing_ok=True)


def print_front(data: StudyData, console: Console) -> None:
    """The front and the teacher, in the units that people read."""
    found = front(data)
    table = Table(title=f"Pareto front of {data.name}: {_objectives(data.objectives)}", title_justify="left")
    for place, column in enumerate(_COLUMNS):
        table.add_column(column, justify="left" if place < 2 else "right")
    if data.teacher:
        table.add_row("teacher", data.teacher.family, *_row(data.teacher.metrics), style="bold")
    for member in found["members"]:
        metrics = {"validation": member["validation"], "test": member["test"]}
        table.add_row(member["trial"], member["recipe"]["strategy"], *_row(metrics))
    console.print(table)
    _print_sets(found, console)
    students = data.trials["parameters"].dropna()
    if data.teacher and len(students):
        student, teacher = int(students.iloc[0]), data.teacher.parameters
        sizes = f"Parameters: teacher {teacher / 1e6:.2f} M, student {student / 1e6:.2f} M"
        console.print(f"{sizes}, {100 * student / teacher:.0f} % of it.")
    variance = "VQA variance: over languages, in squared percentage points, ± its bootstrap standard error over items."
    console.print(f"{variance} Hypervolume {found['hypervolume']:.3f}.")
    _print_confirmed(found, console)
    if not found["members"]:
        console.print("No trial meets the constraints: the front is empty.")


def _print_sets(found: Mapping[str, Any], console: Console) -> None:
    """What each named set scores; the front's own table has the means over them."""
    named = [(*split_metric(metric), metric) for metric in found["teacher"].get("validation", {})]
    shown = sorted((of, list(_OF_SETS).index(name), metric) for name, of, metric in named if of and name in _OF_SETS)
    if not shown:
        return
    table = Table(title="By set: on validation, then on test", title_justify="left")
    for column in ("set", "score", "teacher", *(member["trial"] for member in found["members"])):
        table.add_column(column, justify="left" if column in ("set", "score") else "right")
    for of, _, metric in shown:
        label, form = _OF_SETS[split_metric(metric)[0]]
        scores = (found["teacher"], *found["members"])
        values = [[(one.get(split) or {}).get(metric) for split in ("validation", "test")] for one in scores]
        table.add_row(of, label, *(", ".join(form(v) for v in pair if v is not None) for pair in values))
    console.print(table)


def _print_confirmed(found: Mapping[str, Any], console: Console) -> None:
    """What further trainings say of the members of the front, and of those just behind it."""
    rows = [
        (member["trial"], member["recipe"]["strategy"], place, member["confirmed"])
        for place, members in (("front", found["members"]), ("behind it", found["neighbours"]))
        for member in members
        if member["confirmed"]
    ]
    if not rows:
        return
    table = Table(title="Trained again with new seeds: mean and its 95 % interval", title_justify="left")
    for column in ("trial", "strategy", "in the search", "seeds"):
        table.add_column(column)
    for name in found["objectives"]:
        table.add_column(name, justify="right")
    table.add_column("support", justify="right")
    for trial, strategy, place, confirmed in rows:
        scores = [_interval(name, confirmed) for name in found["objectives"]]
        mark = "" if confirmed["is_supported"] or place != "front" else " not supported"
        table.add_row(
            trial, strategy, place, str(confirmed["seeds"]), *scores, f"{100 * confirmed['support']:.0f} %{mark}"
        )
    console.print(table)
    console.print(
        "Support: the chance that a recipe is on the front of these means; a place under 50 % is not supported."
    )


def _interval(name: str, confirmed: Mapping[str, Any]) -> str:
    mean = f"{confirmed['mean'][name]:.3g}"
    return f"{mean} ({confirmed['low'][name]:.3g} to {confirmed['high'][name]:.3g})" if confirmed["low"] else mean


def _objectives(objectives: Mapping[str, str]) -> str:
    return ", ".join(f"{way} {name}" for name, way in objectives.items())


def _row(metrics: Mapping[str, Mapping[str, float] | None]) -> list[str]:
    validation, test = metrics.get("validation") or {}, metrics.get("test") or {}
    kept = validation.get("vqa_lift_kept")
    return [*_scores(validation), "" if kept is None else f"{100 * kept:.0f} %", *_scores(test)]


def _scores(metrics: Mapping[str, float]) -> list[str]:
    if not metrics:
        return ["", "", ""]
    return [
        f"{metrics['retrieval_map']:.3f}",
        f"{100 * metrics['vqa_accuracy']:.1f} %",
        f"{metrics['vqa_variance']:.1f} ± {metrics['vqa_variance_noise']:.1f}",
    ]


def print_time(seconds: Mapping[str, float], trials: Mapping[str, float], console: Console) -> None:
    """Where the time went: each stage's wall time, and each part's share of the time that the trials took."""
    table = Table(title="Time", title_justify="left")
    table.add_column("stage")
    table.add_column("wall", justify="right")
    for stage, took in seconds.items():
        table.add_row(stage, f"{took:.0f} s")
    table.add_row("in all", f"{sum(seconds.values()) / 60:.1f} min", style="bold")
    console.print(table)
    whole = sum(trials.values())
    if whole:
        parts = ", ".join(f"{name} {100 * value / whole:.0f} %" for name, value in trials.items())
        console.print(f"Time of the trials, from proposal to end: {parts}.", soft_wrap=True)
