"""The stages of a study in order: data, teacher, cache, search, confirmation, test, report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from analysis.pareto import reference_point
from study.budget import Budget
from study.checks import surroundings
from study.config import StudyConfig
from study.confirmation import Confirmations, due
from study.environment import dashboard_url, describe_environment, ray_cluster
from study.errors import UserError
from study.foresight import Foresight
from study.last_words import last_words
from study.ledger import Ledger, TrialRecord, read_field
from study.left_groups import left_groups_removed
from study.placement import Node, Room, present_nodes
from study.plan import Plan
from study.progress import Progress
from study.ray_metrics import RayMetrics
from study.results import print_time, withdraw_report, write_report
from study.samplers import open_storage
from study.search_stage import Search
from study.selection import front
from study.shared_folders import SharedNodes
from study.stages import Prepared, StageRunner, mapped_teacher_layers
from study.tracking import Trackers
from study.trial_plan import Inputs
from study.trial_runner import TrialRunner, remove_left_overs
from study.trials import Trials
from trainables.artifact_mirror import at_hand, read_file
from trainables.artifacts import MANIFEST, write_json
from trainables.config import PROFILE, TeacherConfig
from trainables.data.cluster import has_several_nodes
from trainables.data.report import REPORT
from trainables.data.sets import key_of
from trainables.evaluation.summary import accuracies_of, with_lift
from trainables.models.checkpoint import CheckpointError
from trainables.models.spec import ModelSpec

if TYPE_CHECKING:
    from trainables.data.leakage import Overlap


def run_stages(plan: Plan, ledger: Ledger, terminal: IO[str]) -> None:
    """Run or go on with the study whose folder ``ledger`` has open; progress goes to ``terminal``.

    Raises:
        UserError: if the storage or the cluster does not fit the configuration, or the teacher knows nothing.
        KeyboardInterrupt: if the user stopped it; what is finished is kept.
    """
    config = plan.config
    study = open_storage(config, plan.storage_url, ledger.study_name)
    trials = Trials(study, ledger, config.search, config.seed, plan.space, surroundings(config))
    trials.reconcile()
    progress = Progress(terminal)
    progress.note(f"Study {config.name} in {ledger.place}")
    for point in trials.start_from(plan.starting_points):
        for message in point.messages:
            progress.note(message)

    def lost(reason: str) -> None:
        say_no_more()
        progress.close()
        progress.note(f"study.run: {reason}; {ledger.what_is_kept()}")

    withdraw_report(ledger.folder)
    write_json(ledger.folder / "environment.json", describe_environment())
    ledger.keep_all()
    unheard = f"study.run: ended from outside, or by Ray; what had finished is kept in {ledger.place}"
    with last_words(f"{unheard}. The same command goes on from there.", terminal) as say_no_more, progress.shown():
        with ExitStack() as stack:
            trackers = Trackers.open(config, ledger.folder)
            stack.callback(trackers.close)
            trackers.catch_up(trials.finished, trials.unfinished)
            with progress.stage("start Ray"):
                stack.enter_context(ray_cluster(plan.address, config.resources, lost))
                if config.resources.workers_per_trial or plan.address is not None:
                    stack.enter_context(left_groups_removed())
                nodes = present_nodes
                if plan.address is not None:
                    nodes = SharedNodes(ledger.remote.remote if ledger.remote else ledger.folder).present
                    nodes()
            if url := dashboard_url():
                progress.note(f"Ray dashboard: {url}")
            progress.note(f"Optuna dashboard: python -m study.dashboard {ledger.folder}")
            spent = _Stages(plan, trials, trackers, progress, nodes).run()
        remove_left_overs(ledger)  # Ray is down: what outlived a killed run has written its last
        with progress.stage("report"):
            write_report(ledger.folder)
            ledger.keep_all()
    print_time(progress.seconds, spent, progress.console)


class _Stages:
    """All stages that compute."""

    def __init__(
        self, plan: Plan, trials: Trials, trackers: Trackers, progress: Progress, nodes: Callable[[], Sequence[Node]]
    ) -> None:
        self._config = plan.config
        self._space = plan.space
        self._trials = trials
        self._ledger = trials.ledger
        self._trackers = trackers
        self._progress = progress
        self._profile = plan.profile
        self._room = Room(plan.config.resources, plan.address is not None, progress.note, nodes)
        self._described: dict[str, Any] = {}  # the teacher

    def run(self) -> dict[str, float]:
        """Returns the seconds of this run's trainings, by what they were spent on."""
        inputs = self._prepare()
        metrics = RayMetrics(self._config)
        runner = TrialRunner(self._config, self._ledger, inputs, self._room.trials, metrics, self._profile)
        self._search(runner, inputs, metrics)
        self._confirm(runner)
        if self._profile:
            self._say_where_the_profile_is(runner.profiled)
        self._test(inputs)
        return runner.spent

    def _prepare(self) -> Inputs:
        config, progress = self._config, self._progress
        with ExitStack() as stack:
            # Where pictures are prepared on all nodes, the tasks that do it need the cores.
            on_all_nodes = has_several_nodes()
            stages = stack.enter_context(
                StageRunner(config, (lambda: (1.0, 0.0)) if on_all_nodes else self._room.for_stage)
            )
            try:
                with progress.stage("prepare data") as advance:
                    prepared = stages.run("prepare", progress=advance)
                    overlaps = stages.run("overlaps", prepared, progress=advance)
                self._keep_data_reports(prepared, [overlap for overlap in overlaps if overlap.is_leak])
                for remark in _large_batches(config, prepared.pictures):
                    progress.note(remark)
                if on_all_nodes:
                    stack.close()
                    stages = stack.enter_context(StageRunner(config, self._room.for_stage))
                with progress.stage("load teacher" if config.teacher.pretrained else "fit teacher") as advance:
                    teacher = at_hand(stages.run("teacher", prepared, progress=advance))
            except CheckpointError as error:
                raise UserError(f"teacher.pretrained: {error}") from None
            with progress.stage("score teacher") as advance:
                scores, chance, student = stages.run("score_teacher", teacher, prepared, progress=advance)
                accuracies = accuracies_of(scores["summary"], chance)
                _refuse_a_teacher_that_guesses(config.teacher, accuracies, chance)
                landmarks = stages.run("landmarks", teacher, prepared, student, progress=advance)
                untrained = landmarks["random_student"]
                untrained["summary"] = with_lift(untrained["summary"], accuracies, chance)
                self._room.expect(lambda: stages.run("memory", teacher, student, progress=advance))
            progress.note(f"Students: {_sizes(student)}")
            self._described = {
                "family": config.teacher.family,
                "parameters": scores["parameters"],
                "chance": chance,  # by the names of the sets
                "folder": str(teacher),
                **_origin(config.teacher, teacher),
                **landmarks,
            }
            refuse_another_teacher(self._ledger.folder, self._described)
            if not (self._ledger.folder / "teacher.json").exists():
                self._write_teacher({"validation": scores})
            if has_several_nodes():  # which all make a part of the cache
                stack.close()
                stages = stack.enter_context(StageRunner(config, lambda: (1.0, 0.0)))
            with progress.stage("cache teacher") as advance:
                layers = mapped_teacher_layers(config, self._space)
                cache = stages.run("cache", teacher, prepared, layers, progress=advance)
        parameters = landmarks["encoding"]["student"]["parameters"]
        return Inputs(prepared, teacher, student, parameters, cache, scores, chance)

    def _keep_data_reports(self, prepared: Prepared, leaks: Sequence[Overlap]) -> None:
        """Beside the study, where its user looks: what is in data of the user's own, what is wrong with it, and what
        sources share that should be apart."""
        path, reports = self._ledger.folder / REPORT, {}
        for key, folder in prepared.by_key.items():
            if (found := read_file(folder, REPORT)) is not None:
                reports[key] = json.loads(found)
        if reports or leaks:
            write_json(path, {**reports, "leakage": [asdict(leak) for leak in leaks]})
            self._ledger.keep(path)
        for key, report in reports.items():
            if report["bad_rows"]:
                self._progress.note(f"data.{key}: {report['bad_rows']} of {report['rows']} rows are bad: {path}")
        for leak in leaks:
            self._progress.note(f"{leak}: {path}")

    def _search(self, runner: TrialRunner, inputs: Inputs, metrics: RayMetrics) -> None:
        config = self._config
        reference = reference_point(inputs.teacher_scores["summary"], config.search.directions)
        budget = Budget(config.search, self._ledger, reference)
        foresight = Foresight(
            config.search.limits, inputs.student, inputs.student_parameters, inputs.teacher, config.training.steps
        )
        search = Search(config, self._trials, budget, foresight, self._progress, self._trackers, metrics)
        if not search.is_over:
            with self._progress.stage("search"):
                runner.run(search, search.scheduler)

    def _confirm(self, runner: TrialRunner) -> None:
        waiting = due(self._ledger, self._trials.finished, self._config)
        if waiting:
            with self._progress.stage("confirm the front") as advance:
                runner.run(Confirmations(self._ledger, waiting, advance), None)

    def _say_where_the_profile_is(self, training: TrialRecord | None) -> None:
        if training is None:
            self._progress.note("No profile: nothing was left to train")
        else:
            place = f"{self._ledger.place_of(training)}/{PROFILE}"
            self._progress.note(f"Profile: {place}; open it in https://ui.perfetto.dev or chrome://tracing")

    def _test(self, inputs: Inputs) -> None:
        """Test is looked at once: what has its scores keeps them."""
        members = front(self._trials.finished, self._config.search)
        members = [record for record in members if not (record.folder / "test.json").exists()]
        with (
            self._progress.stage("test the front") as advance,
            StageRunner(self._config, self._room.for_stage) as stages,
        ):
            folders = [f"{self._ledger.place_of(record)}/checkpoint" for record in members]
            of_teacher, found = stages.run("test", inputs.teacher, folders, inputs.prepared, progress=advance)
        for record, scores in zip(members, found, strict=True):
            self._write_test(record, scores)
        self._write_teacher({"validation": inputs.teacher_scores, "test": of_teacher})

    def _write_test(self, record: TrialRecord, scores: Mapping[str, Any]) -> None:
        if "unreadable" in scores:
            self._progress.note(
                f"Trial {record.folder.name} has no test scores: {self._ledger.place_of(record)}/checkpoint cannot be read "
                f"({scores['unreadable']})"
            )
        else:
            write_json(record.folder / "test.json", {"metrics": scores["summary"], "scores": scores})
            self._ledger.keep(record.folder / "test.json")

    def _write_teacher(self, scores: Mapping[str, Any]) -> None:
        write_json(self._ledger.folder / "teacher.json", {**self._described, "scores": scores})
        self._ledger.keep(self._ledger.folder / "teacher.json")


def _refuse_a_teacher_that_guesses(
    config: TeacherConfig, accuracies: Mapping[str, float], chance: Mapping[str, float]
) -> None:
    """Raises:
    UserError: if the teacher does not beat chance on one of the sets.
    """
    for name, accuracy in accuracies.items():
        if accuracy <= chance[name]:
            where = f" on data.{key_of('vqa', name)}" if name else ""
            found = f"the teacher's VQA accuracy{where}, {accuracy:.3f}, does not beat chance, {chance[name]:.3f}"
            if config.fit is None:
                raise UserError(f"teacher.pretrained: {found}: take another")
            raise UserError(f"teacher.fit.steps: after {config.fit.steps} steps {found}: fit it longer")


def _large_batches(config: StudyConfig, pictures: int) -> Iterator[str]:
    """A line for each batch size that is more than all ``pictures`` for training."""
    sizes = {"training": config.training.batch_size}
    sizes |= {"teacher.fit": config.teacher.fit.batch_size} if config.teacher.fit else {}
    for section, size in sizes.items():
        if size > pictures:
            yield f"{section}.batch_size: {size} is more than the {pictures} pictures for training: a batch is all of them"


def refuse_another_teacher(folder: Path, described: Mapping[str, Any]) -> None:
    """Hold a pretrained teacher against the one that the study in ``folder`` began with, if it has begun.

    Raises:
        UserError: if a branch of the hub has moved, a folder's files have changed, or teacher.json cannot be read.
    """
    path = folder / "teacher.json"
    if "content" not in described or not path.exists():
        return
    began = read_field(path, "content", of=dict)
    if began != described["content"]:
        changed = min(
            key for key in {**began, **described["content"]} if began.get(key) != described["content"].get(key)
        )
        raise UserError(
            f"teacher.pretrained: {described['pretrained']} is not what it was when the study began: {changed} was "
            f"{began.get(changed)} and is {described['content'].get(changed)}; pin a hub id by teacher.revision, or give the "
            "new study another --name"
        )


def _origin(config: TeacherConfig, folder: Path) -> dict[str, Any]:
    """Where a pretrained teacher is from, down to the commits of the hub, or the digests of a folder's files."""
    if config.pretrained is None:
        return {}
    fields = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["fields"]
    return {"pretrained": config.pretrained, "content": fields["pretrained"]}


def _sizes(student: ModelSpec) -> str:
    """What the configuration's numbers and shares came to."""
    image, text = student.image, student.text
    return (
        f"{_layers(image.layers, 'image')}, {image.width} wide, for {image.image_size} pixels; "
        f"{_layers(text.layers, 'text')}, {text.width} wide, for {text.vocab_size} tokens"
    )


def _layers(count: int, tower: str) -> str:
    return f"{count} {tower} layer{'s' if count > 1 else ''}"
