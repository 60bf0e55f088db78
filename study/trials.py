"""The trials of one study in Optuna's storage and in the ledger, kept in step with each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from analysis.metric_names import of_set
from analysis.pareto import violation
from search_spaces.space import SearchSpace, Surroundings
from study.errors import UserError
from study.ledger import Ledger, State, TrialRecord, language_rows
from study.samplers import FITS, patiently
from study.search_config import SearchConfig
from study.warm_start import StartingPoint
from trainables.recipe import Recipe

# By language, so that a live Optuna Dashboard can plot them.
_SHOWN_BY_LANGUAGE = ("map", "vqa_accuracy")


class Trials:
    """Every trial that was proposed. The ledger is written first, then Optuna is told: what a crash leaves between
    the two is told when the study goes on."""

    def __init__(
        self,
        study: optuna.Study,
        ledger: Ledger,
        config: SearchConfig,
        seed: int,
        space: SearchSpace,
        around: Surroundings,
    ) -> None:
        self.study = study
        self.ledger = ledger
        self._config = config
        self._seed = seed
        self._space = space
        self._around = around
        self._optuna_ids: dict[int, int] = {}  # by number
        self.unfinished: list[TrialRecord] = []  # of earlier runs, by number
        self.finished: dict[TrialRecord, dict[str, Any]] = {}  # with their results, as in result.json

    def reconcile(self) -> None:
        """Bring both records into line after whatever ended the last run.

        A trial that the ledger has finished but Optuna has not is told now. One that Optuna began but the ledger
        never saw gets the recipe that it was begun with: its choices are Optuna's already.

        Raises:
            UserError: if one of the two lacks trials that the other has finished.
        """
        records = {record.number: record for record in self.ledger.records()}
        known = patiently(lambda: self.study.get_trials(deepcopy=False))
        self._optuna_ids = {frozen.number: frozen._trial_id for frozen in known}
        for number in records:
            if number not in self._optuna_ids:
                raise UserError(
                    f"the Optuna storage lacks trial {number}, which {self.ledger.trials_folder} holds; bring the "
                    "storage back, or start anew with --fresh or another --name"
                )
        for frozen in known:
            record = records.get(frozen.number)
            if frozen.state == TrialState.RUNNING and record is None:
                records[frozen.number] = patiently(lambda begun=frozen: self._begin(begun._trial_id, begun.number))  # type: ignore[misc]
            elif frozen.state.is_finished() and record is None:
                raise UserError(
                    f"{self.ledger.trials_folder} lacks trial {frozen.number}, which the Optuna storage holds; bring "
                    "its folder back, or start anew with --fresh or another --name"
                )
        results = {record: record.result for _, record in sorted(records.items())}
        self.unfinished = [record for record, result in results.items() if result is None]
        ended = [(record, result) for record, result in results.items() if result is not None]
        for record, result in sorted(ended, key=lambda pair: str(pair[1]["finished"])):
            self.finished[record] = result
            if not known[record.number].state.is_finished():
                self._tell(record, result)

    def start_from(self, points: Sequence[StartingPoint]) -> list[StartingPoint]:
        """Make these the first trials of a new study; the sampler chooses what a point leaves open.

        A study that ended while they were put down goes on where it was. Returns those that were put down now.
        """
        known = patiently(lambda: self.study.get_trials(deepcopy=False))
        missing = list(points[len(known) :]) if all("source" in frozen.user_attrs for frozen in known) else []
        for number, point in enumerate(missing, len(known)):
            patiently(lambda p=point, n=number: self._put_down(p, n))  # type: ignore[misc]
        return missing

    def _put_down(self, point: StartingPoint, number: int) -> None:
        """Make a point the trial of this number; a call whose answer was lost on its way may be made again."""
        if len(self.study.get_trials(deepcopy=False)) == number:
            self.study.enqueue_trial(point.params, user_attrs={"source": point.source})

    def ask(self) -> TrialRecord:
        """A new trial, proposed by the sampler and written down before anything runs."""
        is_again = False

        def ask_once() -> optuna.Trial | FrozenTrial:
            nonlocal is_again
            trial = self._unheard() if is_again else None
            is_again = True
            return trial or self.study.ask()

        trial = patiently(ask_once)
        self._optuna_ids[trial.number] = trial._trial_id
        return patiently(lambda: self._begin(trial._trial_id, trial.number))

    def _unheard(self) -> FrozenTrial | None:
        """A trial that the storage began for a call whose answer was lost on its way."""
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return next((frozen for frozen in running if frozen.number not in self._optuna_ids), None)

    def finish(self, record: TrialRecord, state: State, reason: str | None, last: Mapping[str, Any]) -> None:
        """Write down how a trial ended, then tell Optuna; ``last`` is its last report, empty if there is none."""
        metrics = last.get("metrics", {})
        if state == "complete" and not all(math.isfinite(metrics.get(name, math.nan)) for name in self._metrics):
            missing = [name for name in self._metrics if not math.isfinite(metrics.get(name, math.nan))]
            state, reason = "failed", f"no finite {', '.join(missing)}"
        self.finished[record] = self.ledger.finish(record, state, reason, last)
        self._tell(record, self.finished[record])

    @property
    def _metrics(self) -> list[str]:
        return [*self._config.objectives, *self._config.constraints]

    def _begin(self, optuna_id: int, number: int) -> TrialRecord:
        """The recipe of a trial that Optuna has begun; what it has suggested before, it suggests again."""
        trial = optuna.Trial(self.study, optuna_id)
        recipe = Recipe.model_validate(self._space.suggest(trial, self._around))
        return self.ledger.begin(number, recipe, (self._seed * 1_000_003 + number) % 2**31)

    def _tell(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        patiently(lambda: self._tell_once(record, result))

    def _tell_once(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """Tell Optuna; a call that was lost on its way may be made again. See `study.samplers` for what and why."""
        storage, optuna_id = self.study._storage, self._optuna_ids[record.number]
        frozen = storage.get_trial(optuna_id)
        if frozen.state.is_finished():
            return
        metrics: Mapping[str, float] = result["metrics"]
        for name, value in _attributes(record, result):
            if frozen.user_attrs.get(name) != value:
                storage.set_trial_user_attr(optuna_id, name, value)
        constraints: dict[str, float] = {}
        if result["state"] == "complete":
            constraints = {name: violation(metrics, {name: bound}) for name, bound in self._config.bounds.items()}
        elif result["state"] == "infeasible":
            constraints = {FITS: 1.0}
        for name in constraints.keys() - frozen.constraints.keys():
            # By id, since the process that asked for the trial may be gone.
            optuna.Trial(self.study, optuna_id).set_constraint(name, constraints[name])
        if result["state"] == "complete":
            self.study.tell(record.number, [metrics[name] for name in self._config.objectives])
        else:
            crashed = result["state"] == "failed" and result.get("cause") != "diverged"
            self.study.tell(record.number, state=TrialState.FAIL if crashed else TrialState.PRUNED)


def _attributes(record: TrialRecord, result: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a dashboard shows of a trial beside its parameters and objectives."""
    yield "strategy", record.recipe.strategy
    yield "state", result["state"]
    if result["reason"]:
        yield "reason", result["reason"]
    yield from result["metrics"].items()
    for of, language, scores in language_rows(result):
        both = {**scores, "map": (scores["map_i2t"] + scores["map_t2i"]) / 2} if "map_i2t" in scores else scores
        for name in _SHOWN_BY_LANGUAGE:
            if name in both:
                yield f"{of_set(name, of)}/{language}", both[name]
