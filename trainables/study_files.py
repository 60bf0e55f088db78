"""A complete trial in its study's folder: what is known of it, read from the study's own files."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from trainables.recipe import Recipe
from trainables.remote_folder import RemoteFolder, is_url

if TYPE_CHECKING:
    from trainables.models.dual_encoder import DualEncoder
    from trainables.models.tokenizer import Tokenizer

_PATIENCE = 10.0  # seconds that a store at a URL has to answer


class StudyFilesError(Exception):
    """What is missing or wrong in a study's folder, in one line."""


class _Record(BaseModel):
    """One file; keys that nobody here needs are passed over."""

    model_config = ConfigDict(frozen=True)


_R = TypeVar("_R", bound=_Record)


Sources = dict[str, dict[str, Any]]


def _named(written: Any) -> Any:
    """A single source stands under the empty name."""
    if isinstance(written, dict) and not all(isinstance(value, dict) for value in written.values()):
        return {"": written}
    return written


class Data(_Record):
    """The sources of each purpose by their names."""

    languages: list[str]
    train: Annotated[Sources, BeforeValidator(_named)]
    retrieval: Annotated[Sources, BeforeValidator(_named)]
    vqa: Annotated[Sources, BeforeValidator(_named)]


class Teacher(_Record):
    family: str
    pretrained: str | None = None


class Training(_Record):
    batch_size: int


class Config(_Record):
    name: str
    data: Data
    teacher: Teacher
    training: Training


class Scores(_Record):
    languages: dict[str, dict[str, float | None]]
    sets: dict[str, dict[str, dict[str, float | None]]] = {}  # by set and language, where sets have names


class Splits(_Record):
    validation: Scores | None = None
    test: Scores | None = None


class TeacherFile(_Record):
    parameters: int
    scores: Splits


class TrialFile(_Record):
    recipe: Recipe
    seed: int


class TestFile(_Record):
    scores: Scores


class Result(_Record):
    state: Literal["complete", "stopped", "infeasible", "failed"]
    reason: str | None = None
    steps: int
    scores: Splits


@dataclass(frozen=True)
class CompleteTrial:
    """A trial that has a student, and its study."""

    folder: Path
    config: Config
    begun: TrialFile
    result: Result
    teacher: TeacherFile
    test: Scores | None

    @property
    def number(self) -> int:
        return int(self.folder.name)


def find_trial(run: Path, trial: str) -> CompleteTrial:
    """The complete trial of this number in a study's folder.

    Raises:
        StudyFilesError: if there is no such study or trial, it is not complete, or a file cannot be read.
    """
    if not (run / "config.yaml").is_file():
        raise StudyFilesError(f"no study in {run}: {_nearest_study(run)}a study's folder holds config.yaml")
    begun = {int(path.parent.name): path.parent for path in sorted((run / "trials").glob("[0-9]*/recipe.json"))}
    ended = {number: folder / "result.json" for number, folder in begun.items() if (folder / "result.json").exists()}
    number = int(trial) if trial.isdecimal() else -1
    results = {}
    for other, path in ended.items():
        try:
            results[other] = _read(Result, path)
        except StudyFilesError:
            if other == number:
                raise
    complete = [other for other, result in results.items() if result.state == "complete"]
    there_are = f"complete are {', '.join(map(str, complete))}" if complete else "none is complete"
    if number not in begun:
        nearest = min(complete, key=lambda one: abs(one - number)) if complete and number >= 0 else None
        hint = "" if nearest is None else f"did you mean {nearest}? "
        raise StudyFilesError(f"no trial {trial} in {run}: {hint}{there_are}")
    if number not in results:
        raise StudyFilesError(f"trial {number} of {run} has not ended: {there_are}")
    result, folder = results[number], begun[number]
    if result.state != "complete":
        reason = f" ({' '.join(result.reason.split())})" if result.reason else ""
        raise StudyFilesError(f"trial {number} of {run} is {result.state}{reason} and has no student: {there_are}")
    test = folder / "test.json"
    return CompleteTrial(
        folder=folder,
        config=_config(run / "config.yaml"),
        begun=_read(TrialFile, folder / "recipe.json"),
        result=result,
        teacher=_read(TeacherFile, run / "teacher.json"),
        test=_read(TestFile, test).scores if test.exists() else None,
    )


@contextmanager
def study_here(run: str, trial: str) -> Iterator[Path]:
    """The study's folder; of one at a URL a copy, for the ``with`` block, of what the trial needs.

    Raises:
        RemoteError: if the URL cannot be used.
    """
    if not is_url(run):
        yield Path(run).expanduser()
        return
    remote = RemoteFolder(run.rstrip("/"), patience=_PATIENCE)
    whole = f"trials/{int(trial):05d}/" if trial.isdecimal() else "trials/"
    records = ("config.yaml", "teacher.json", "/recipe.json", "/result.json")
    with tempfile.TemporaryDirectory(prefix="study-") as place:
        folder = Path(place, remote.url.rpartition("/")[2])
        remote.pull(folder, [name for name in remote.names() if name.startswith(whole) or name.endswith(records)])
        yield folder


def load_student(trial: CompleteTrial) -> tuple[DualEncoder, Tokenizer]:
    """Its student, ready to encode, and the student's tokenizer.

    Raises:
        StudyFilesError: if it is not whole.
    """
    from safetensors import SafetensorError

    from trainables.models.factory import load_model
    from trainables.models.tokenizer import Tokenizer

    checkpoint = trial.folder / "checkpoint"
    try:
        model = load_model(checkpoint).eval()
        return model, Tokenizer(checkpoint)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise StudyFilesError(f"the student in {checkpoint} cannot be read ({reason}): take another trial") from None


def _nearest_study(run: Path) -> str:
    studies = {str(path.parent) for place in (run.parent, Path("runs")) for path in place.glob("*/config.yaml")}
    named = [study for study in studies if Path(study).name == run.name]
    near = named or difflib.get_close_matches(str(run), sorted(studies), 1)
    return f"did you mean {near[0]}? " if near else ""


def _config(path: Path) -> Config:
    try:
        return Config.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise _malformed(path, error) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise StudyFilesError(f"{path}: {' '.join(str(error).split())}") from None


def _read(kind: type[_R], path: Path) -> _R:
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise _malformed(path, error) from None
    except OSError as error:
        raise StudyFilesError(f"{path}: {error.strerror}") from None


def _malformed(path: Path, error: ValidationError) -> StudyFilesError:
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return StudyFilesError(f"{path}: it has no {field}")
    return StudyFilesError(f"{path}: {f'{field}: ' if field else ''}{first['msg'].replace('Input should', 'should')}")
