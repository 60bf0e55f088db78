"""Studies, checkpoints and caches of others are data: no file in them can have code run, whoever reads it."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from analysis.load import load_study
from tests.study.tiny import UNCONFIRMED
from trainables.data.prepared import CaptionedImages, VisualQuestions
from trainables.export import main as export
from trainables.models.factory import load_model
from trainables.models.tokenizer import Tokenizer
from trainables.teacher_cache import TeacherCache

if TYPE_CHECKING:
    from tests.study.tiny import Outcome, Study


class Malice:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = str(mark)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self._mark,)


def malicious(mark: Path, like: Path) -> Iterator[bytes]:
    """Contents that run code when they are unpickled, in the forms in which a file of this name may hold a pickle."""
    yield pickle.dumps(Malice(mark))
    if like.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, np.array([Malice(mark)], dtype=object), allow_pickle=True)
        yield buffer.getvalue()
    if like.suffix in (".pt", ".safetensors"):
        buffer = io.BytesIO()
        torch.save({"w": Malice(mark)}, buffer)
        yield buffer.getvalue()
    if like.name == "state.pt":  # what its reader checks first is right
        yield b"polydistill state 1\n" + hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue()


def check_all(files: list[Path], read: Callable[[], Any], refuses: type[Exception], mark: Path) -> None:
    """``read``, which may refuse, with each of the files in turn replaced by each malicious content."""
    assert files
    for path in files:
        content = path.read_bytes()
        for replaced in malicious(mark, path):
            path.write_bytes(replaced)
            with suppress(refuses):
                read()
            assert not mark.exists(), path
        path.write_bytes(content)
    read()


def test_each_of_these_contents_has_code_run_where_pickles_are_loaded(tmp_path: Path) -> None:
    for name in ("plain", "array.npy", "model.safetensors", "state.pt"):
        for number, content in enumerate(malicious(mark := tmp_path / name, Path(name))):
            file = io.BytesIO(content[content.find(b"PK") :] if number and not name.endswith("npy") else content)
            if number == 0:
                pickle.load(file)
            elif name.endswith("npy"):
                np.load(file, allow_pickle=True)
            else:
                torch.load(file, weights_only=False)
            mark.rmdir()


def test_no_file_of_a_study_has_code_run_by_analysis_or_export(copied: Study, tmp_path: Path) -> None:
    mark, folder = tmp_path / "ran", copied.folder
    numbers = [number for number, result in copied.results().items() if result["state"] == "complete"]
    trial = folder / "trials" / f"{numbers[0]:05d}"
    read_by_analysis = [path for path in folder.rglob("*") if path.is_file() and "checkpoint" not in path.parts]
    of_others = [path for path in read_by_analysis if path.parent.parent == folder / "trials" and path.parent != trial]
    check_all(sorted({*read_by_analysis} - {*of_others}), lambda: load_study(folder), ValueError, mark)

    def export_it() -> None:
        assert export([str(folder), str(numbers[0]), "--to", str(tmp_path / "exported")]) in (0, 2)

    read_by_export = [folder / "config.yaml", folder / "teacher.json", trial / "recipe.json", trial / "result.json"]
    check_all(
        [*read_by_export, *(path for path in (trial / "checkpoint").iterdir())], export_it, NotImplementedError, mark
    )


def test_no_file_of_the_cache_has_code_run(
    finished: tuple[Study, Outcome], run_environment: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(run_environment["POLYDISTILL_CACHE"], cache := tmp_path / "cache")
    readers: dict[str, Callable[[Path], Any]] = {
        "teacher": lambda folder: (load_model(folder), Tokenizer(folder)),
        "teacher-cache": TeacherCache.load,
    }
    read = 0
    for kind in sorted(path for path in cache.iterdir() if path.is_dir()):
        for folder in sorted(path for path in kind.iterdir() if (path / "manifest.json").exists()):
            names = {path.stem for path in folder.iterdir()}
            reader = readers.get(kind.name)
            if reader is None and {"image_item", "tokens"} <= names:
                reader = CaptionedImages.load
            elif reader is None and "answer" in names:
                reader = VisualQuestions.load
            if reader is not None:
                files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
                check_all(files, lambda load=reader, of=folder: load(of), Exception, tmp_path / "ran")
                read += 1
    assert read >= 4


@pytest.mark.long
def test_a_study_that_is_gone_on_with_runs_nothing_that_was_planted_in_it(study: Study, tmp_path: Path) -> None:
    settings = ["search.trials=2", "training.steps=120", "search.scheduler.reduction=1.01", UNCONFIRMED]
    run = study.start(*settings)
    states = [study.folder / "trials" / f"{number:05d}" / "checkpoint" / "state.pt" for number in range(2)]
    run.until(lambda: all(path.exists() for path in states))
    run.process.send_signal(signal.SIGTERM)
    assert run.wait(60).code == 130
    mark = tmp_path / "ran"
    plain, *_, right = malicious(mark, states[0])
    states[0].write_bytes(plain)
    states[1].write_bytes(right)
    for name in ("ray-left/tune/tuner.pkl", "ray-left/tune/trainable.pkl", "ray-left/tune/experiment_state-1.json"):
        (study.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (study.folder / name).write_bytes(plain)
    again = study.start(*settings)
    assert again.wait().code == 0, again.said()
    assert not mark.exists()
    assert [path.with_name("state.pt.unreadable").exists() for path in states] == [True, True]
    assert not (study.folder / "ray-left").exists()
    assert len(study.results()) == 2
