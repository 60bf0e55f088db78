"""What a study has come to as metrics of Ray, which Prometheus collects and `cluster/grafana.json` draws."""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge

from study.config import StudyConfig
from study.ledger import TrialRecord
from study.progress import SearchState

_STATES = ("running", "complete", "stopped", "infeasible", "failed")


class RayMetrics:
    """Gauges and a counter, each tagged with the name of the study; to Prometheus they are ``ray_polydistill_…``.

    Ray sends them to the metrics agent of the driver's node, if it runs one: with `--address` it does.
    """

    def __init__(self, config: StudyConfig) -> None:
        self._study = {"study": config.name}
        self._batch_size = config.training.batch_size  # over all workers of a trial
        self._trials = _gauge("trials", "Trials of the search by state", "state")
        self._best = _gauge("best", "The best value of an objective among feasible complete trials", "objective")
        self._front = _gauge("front_members", "Recipes on the feasible front")
        self._hypervolume = _gauge("hypervolume", "Hypervolume of the feasible front, from the study's reference point")
        self._samples = Counter("polydistill_samples", "Pictures that trials were trained on", ("study",))

    def search(self, state: SearchState) -> None:
        """The search has moved on."""
        for name, count in {**dict.fromkeys(_STATES, 0), **state.ended, "running": state.running}.items():
            self._trials.set(count, {**self._study, "state": name})
        for objective, value in state.best.items():
            self._best.set(value, {**self._study, "objective": objective})
        self._front.set(state.front, self._study)
        self._hypervolume.set(state.hypervolume, self._study)

    def reported(self, record: TrialRecord) -> None:
        """A training has reported, which its ledger has."""
        steps = [0, *(report["step"] for report in record.reports())]
        if steps[-1] > steps[-2]:
            self._samples.inc((steps[-1] - steps[-2]) * self._batch_size, self._study)


def _gauge(name: str, description: str, *tags: str) -> Gauge:
    return Gauge(f"polydistill_{name}", description, ("study", *tags))
