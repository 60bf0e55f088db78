"""Trials as TensorBoard runs: `tensorboard --logdir runs/NAME/tensorboard`.

Of the package `tensorboard` only its records and messages are used: unlike the writers of torch and tensorboardX, they
leave torch alone, which the driver of a study does not load.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from study.ledger import TrialRecord
from study.tracking import flat_recipe, language_scores

# One file a trial, whichever run of the study wrote it; TensorBoard asks for `tfevents` in its name.
_FILE = "events.out.tfevents.polydistill"
_FRAME = 16  # bytes of a record beside its content: length and two checksums


class TensorBoardTracker:
    """Writes scalars by step, the recipe as text and as hyperparameters, and the end of each trial.

    Nothing of a trial is kept in memory: its file says what it holds already, and is cut to its last whole record.
    """

    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def report(self, record: TrialRecord, step: int, values: Mapping[str, float], at: float) -> None:
        self._write(record, [_recipe(record, at), _numbers(step, values, at)])

    def finish(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        at = datetime.fromisoformat(result["finished"]).timestamp()
        self._write(record, [_recipe(record, at), _end(result, at)])

    def _write(self, record: TrialRecord, events: Sequence[Any]) -> None:
        """Append those of the events that the trial's file lacks."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        path = self._folder / f"{record.number:05d}" / _FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        known, length = _read(path)
        missing = [event for event in events if _key(event) not in known]
        if not length:
            missing.insert(0, Event(file_version="brain.Event:2", wall_time=events[0].wall_time))
        buffer = BytesIO()
        writer = RecordWriter(buffer)
        for event in missing:
            writer.write(event.SerializeToString())
        with open(path, "ab") as file:
            file.truncate(length)  # a crash may have left half a record, behind which nothing is read
            file.write(buffer.getvalue())


def _read(path: Path) -> tuple[set[tuple[int, str]], int]:
    """The keys of the events in a file, and how many bytes of it are whole records."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    keys, length = set(), 0
    if path.exists() and os.path.getsize(path):
        for content in RawEventFileLoader(str(path)).Load():
            keys.add(_key(Event.FromString(content)))
            length += _FRAME + len(content)
    return keys, length


def _key(event: Any) -> tuple[int, str]:
    """What tells the events of one trial apart: the step, and the first of the values."""
    return event.step, event.summary.value[0].tag if event.summary.value else ""


def _numbers(step: int, values: Mapping[str, float], at: float) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event

    event = Event(step=step, wall_time=at)
    for name, value in values.items():
        event.summary.value.add(tag=name if "/" in name else f"metrics/{name}", simple_value=value)
    return event


def _recipe(record: TrialRecord, at: float) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.plugins.text.summary_v2 import text_pb

    recipe = flat_recipe(record.recipe)
    rows = "\n".join(f"| {name} | {value} |" for name, value in recipe.items())
    event = Event(step=0, wall_time=at)
    event.summary.MergeFrom(hparams_pb(recipe, trial_id=f"{record.number:05d}", start_time_secs=at))
    event.summary.MergeFrom(text_pb("recipe", f"| key | value |\n|---|---|\n{rows}"))
    return event


def _end(result: Mapping[str, Any], at: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
    from tensorboard.plugins.text.summary_v2 import text_pb

    status = api_pb2.STATUS_FAILURE if result["state"] == "failed" else api_pb2.STATUS_SUCCESS
    ended = plugin_data_pb2.HParamsPluginData(
        session_end_info=plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=at)
    )
    reason = f": {result['reason']}" if result["reason"] else ""
    event = _numbers(result["steps"], {}, at)
    event.summary.MergeFrom(
        Summary(
            value=[
                Summary.Value(
                    tag=metadata.SESSION_END_INFO_TAG,
                    metadata=metadata.create_summary_metadata(ended),
                    tensor=metadata.NULL_TENSOR,
                )
            ]
        )
    )
    event.summary.MergeFrom(text_pb("state", f"{result['state']}{reason}"))
    event.summary.MergeFrom(_numbers(result["steps"], language_scores(result), at).summary)
    return event
