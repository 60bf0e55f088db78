"""Which search finds the better front for the same training: ours, or what else runs on Ray.

    python -m pip install -e '.[benchmark]'
    python -m tests.benchmarks.search               (about five minutes on two cores)
    python -m tests.benchmarks.search --seeds 5 --budgets 18 --json outcome.json

Searches run on a surrogate of real, recorded trials (see `tests.benchmarks.record` and `tests.benchmarks.surrogate`),
with two workers in virtual time, until they have spent as many training steps as so many whole trials take. Evaluations
and what a search itself takes cost nothing. What counts is the hypervolume of the complete feasible trials, by the
surrogate's values without noise, in mAP times squared percentage points; the reference point is a study's own (no
retrieval, twice the teacher's variance). Searches only ever see values with noise.

What a search itself takes is measured by `python -m tests.benchmarks.driver`.

Each contender that has settings is run with several, and its best median counts at each budget. Exit code 1 if ours
does not lead at every budget.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core, before numpy is there to see it

import numpy as np
import optuna
import pandas as pd
from syne_tune.optimizer.schedulers.multiobjective.multiobjective_priority import NonDominatedPriority

from study.checks import checked_space, surroundings
from study.config import load_config
from tests.benchmarks.contenders import MendedPriority, OptunaAlone, Ours, SyneTuneMOASHA, Task
from tests.benchmarks.driver import in_memory
from tests.benchmarks.record import Recording, read_recording
from tests.benchmarks.simulation import Contender, simulate
from tests.benchmarks.surrogate import Surrogate, held_out_errors

WORKERS = 2
OURS = "ours"
Maker = Callable[[Task, int, Path], Contender]


def _optuna(sampler: Callable[[int], optuna.samplers.BaseSampler]) -> Maker:
    return lambda task, seed, folder: OptunaAlone(task, sampler(seed))


def _moasha(priority: Callable[[], NonDominatedPriority], reduction: float | None) -> Maker:
    """With ``reduction`` None, ours."""

    def make(task: Task, seed: int, folder: Path) -> Contender:
        scheduler = task.config.search.scheduler
        return SyneTuneMOASHA(task, priority(), scheduler.rungs[0], reduction or scheduler.reduction, seed)

    return make


CONTENDERS: dict[str, dict[str, Maker]] = {
    "random": {"no early stopping": _optuna(lambda seed: optuna.samplers.RandomSampler(seed=seed))},
    "Optuna TPE": {
        "defaults": _optuna(lambda seed: optuna.samplers.TPESampler(seed=seed)),
        "multivariate, group": _optuna(
            lambda seed: optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)
        ),
    },
    "Optuna NSGA-II": {
        "defaults": _optuna(lambda seed: optuna.samplers.NSGAIISampler(seed=seed)),
        "population 10": _optuna(lambda seed: optuna.samplers.NSGAIISampler(population_size=10, seed=seed)),
    },
    "Syne Tune MOASHA": {
        "defaults": _moasha(NonDominatedPriority, 3),
        "our reduction": _moasha(NonDominatedPriority, None),
        "defaults, ranks mended": _moasha(MendedPriority, 3),
        "our reduction, ranks mended": _moasha(MendedPriority, None),
    },
    OURS: {"as shipped": Ours},
}
# Shown beside the others, to tell how much of ours is the recipes that it starts from; it does not compete.
WITHOUT_KNOWN = "ours, no known recipes"


def task_of(recording: Recording, budget: int, start_from: Sequence[str] = ("known",)) -> Task:
    """The default study, of as many trials as the budget would run whole, trained as long as the recorded ones."""
    config = load_config(
        "emoji_clip",
        [
            f"training.steps={recording.levels[-1]}",
            f"search.trials={budget}",
            f"search.start_from={json.dumps(list(start_from))}",
        ],
    )
    return Task(config, checked_space(config), surroundings(config))


def search_once(recording: Recording, surrogate: Surrogate, name: str, variant: str, budget: int, seed: int) -> float:
    """The hypervolume that a contender reaches with the steps of ``budget`` whole trials."""
    is_bare = name == WITHOUT_KNOWN
    task = task_of(recording, budget, () if is_bare else ("known",))
    make = CONTENDERS[OURS if is_bare else name][variant]
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        rng = np.random.default_rng(seed)
        contender = make(task, seed, Path(folder))
        outcome = simulate(contender, surrogate, budget * recording.levels[-1], WORKERS, rng)
    return outcome.hypervolume(task.config.search.directions, task.config.search.bounds, recording.reference)


_recording: Recording
_surrogate: Surrogate


def _start(recording: Recording, surrogate: Surrogate) -> None:
    global _recording, _surrogate
    _recording, _surrogate = recording, surrogate


def _run(arguments: tuple[str, str, int, int]) -> float:
    return search_once(_recording, _surrogate, *arguments)


def compare(recording: Recording, surrogate: Surrogate, budgets: Sequence[int], seeds: int) -> pd.DataFrame:
    """The hypervolumes of all contenders: a row a contender, variant, budget and seed."""
    variants = [(name, variant) for name, found in CONTENDERS.items() for variant in found]
    variants += [(WITHOUT_KNOWN, variant) for variant in CONTENDERS[OURS]]
    runs = [(*pair, budget, seed) for budget in budgets for pair in variants for seed in range(seeds)]
    # The longest first, so that the cores end together.
    order = sorted(range(len(runs)), key=lambda place: -runs[place][2])
    with ProcessPoolExecutor(os.cpu_count(), initializer=_start, initargs=(recording, surrogate)) as pool:
        volumes = dict(zip(order, pool.map(_run, [runs[place] for place in order], chunksize=4), strict=True))
    rows = [(*run, volumes[place]) for place, run in enumerate(runs)]
    return pd.DataFrame(rows, columns=["contender", "variant", "budget", "seed", "hypervolume"])


def summary(volumes: pd.DataFrame) -> pd.DataFrame:
    """Median and quartiles of each contender's best variant, best contender first within a budget."""
    grouped = volumes.groupby(["budget", "contender", "variant"])["hypervolume"]
    table = grouped.quantile([0.25, 0.5, 0.75]).unstack().reset_index()
    table = table.rename(columns={0.25: "lower", 0.5: "median", 0.75: "upper"})
    best = table.loc[table.groupby(["budget", "contender"])["median"].idxmax()]
    return best.sort_values(["budget", "median"], ascending=[True, False], ignore_index=True)


def verdict(table: pd.DataFrame) -> tuple[bool, str]:
    """Whether ours leads at every budget, and who leads by how much."""
    parts, leads = [], True
    for budget, rows in table[table["contender"] != WITHOUT_KNOWN].groupby("budget"):
        median = rows.set_index("contender")["median"]
        others = median.drop(OURS)
        first, second = (OURS, others.idxmax()) if median[OURS] > others.max() else (others.idxmax(), OURS)
        leads = leads and first == OURS
        parts.append(f"{first} by {100 * (median[first] / median[second] - 1):.1f} % over {second} at {budget}")
    head = "ours leads at every budget" if leads else "ours does not lead at every budget"
    return leads, f"{head}: {'; '.join(parts)}"


def _lines(errors: pd.DataFrame, table: pd.DataFrame) -> Iterator[str]:
    yield "The surrogate's error on held-out recipes (10 folds; mae and spread in the metric's own unit):"
    yield errors.round(3).to_string(index=False)
    for budget, rows in table.groupby("budget"):
        yield f"\nHypervolume for the steps of {budget} whole trials, median [quartiles]:"
        for row in rows.itertuples():
            yield f"  {row.contender:24} {row.median:7.3f}  [{row.lower:.3f}, {row.upper:.3f}]  {row.variant}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare ways to search at equal training steps.")
    parser.add_argument("--seeds", type=int, default=20, help="searches of each contender at each budget")
    parser.add_argument("--budgets", type=int, nargs="+", default=[18, 50, 100], help="in whole trials")
    parser.add_argument("--json", type=Path, help="also write every hypervolume to this file")
    arguments = parser.parse_args()
    since = time.monotonic()
    recording = read_recording()
    task = task_of(recording, arguments.budgets[0])
    errors = held_out_errors(recording, task.space, task.around)
    surrogate = Surrogate(recording, task.space, task.around)
    volumes = compare(recording, surrogate, arguments.budgets, arguments.seeds)
    table = summary(volumes)
    leads, line = verdict(table)
    for text in _lines(errors, table):
        print(text)
    if arguments.json:
        content = {
            "errors": errors.to_dict("records"),
            "volumes": volumes.to_dict("records"),
            "summary": table.to_dict("records"),
            "leads": leads,
        }
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"\n{len(volumes)} searches on {len(recording.recipes)} recorded trials, {time.monotonic() - since:.0f} s")
    print(line)
    return 0 if leads else 1


if __name__ == "__main__":
    sys.exit(main())
