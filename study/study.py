"""A study in Python: what the commands do, in a few lines of a notebook or a program.

    from study import Study

    study = Study.open("runs/emoji-clip")                   finished or running; a folder or a URL
    study = Study.run("emoji_clip", ["search.trials=40"])   or run one, which then is open
    study.front()                                           a row a member of the front
    study.recipe(13)
    model, tokenizer = study.student(13)

Whatever is wrong with the input is a `UserError` of one line.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from analysis.commands import CommandError, open_study
from analysis.trial import find_trial
from study.config import DEFAULT_PRESET, StudyConfig, dump_config, load_config
from study.errors import UserError
from study.mistakes import first_mistake
from study.storage_config import study_folder, study_url
from trainables.artifacts import write_text
from trainables.recipe import Recipe
from trainables.remote_folder import RemoteError
from trainables.study_files import StudyFilesError, load_student, study_here
from trainables.study_files import find_trial as find_complete_trial

if TYPE_CHECKING:
    import pandas as pd

    from analysis.load import StudyData
    from trainables.models.dual_encoder import DualEncoder
    from trainables.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class Study:
    """A study as it was when it was opened; of one that is running, open it again to see more.

    ``data`` is what every function of `analysis` takes: `analysis.figures.front.pareto(study.data)`.
    """

    place: str  # its folder, or its URL
    data: StudyData = field(repr=False)

    @classmethod
    def open(cls, place: str | Path) -> Study:
        """The study in a folder or at a URL, finished or running.

        Raises:
            UserError: if there is none, or it cannot be read.
        """
        try:
            return cls(str(place), open_study(str(place)))
        except CommandError as error:
            raise UserError(str(error)) from None

    @classmethod
    def run(
        cls,
        config: str | Path | StudyConfig = DEFAULT_PRESET,
        overrides: Sequence[str] = (),
        *,
        name: str | None = None,
        address: str | None = None,
        fresh: bool = False,
    ) -> Study:
        """Run a study, or go on with it, as ``python -m study.run`` does, in a process of its own, to its end.

        Args:
            config: a preset, a YAML file or a configuration.
            overrides: of its keys, each as ``KEY=VALUE``.
            name: the study's, which is also its folder's.
            address: of the Ray cluster to run on, for example ``auto``.
            fresh: set an earlier study of this name aside and start anew.

        What happens is printed on standard error. Interrupt it, and the same call goes on later.

        Raises:
            UserError: if the input is wrong.
            RuntimeError: if no trial succeeded, or the study broke off.
        """
        with tempfile.TemporaryDirectory(prefix="study-") as temporary:
            source = str(config)
            if isinstance(config, StudyConfig):
                source = str(Path(temporary, f"{config.name}.yaml"))
                write_text(Path(source), dump_config(config))
            resolved = load_config(source, overrides, name)
            options = [word for override in overrides for word in ("--set", override)]
            options += [
                word for key, value in (("--name", name), ("--address", address)) if value for word in (key, value)
            ]
            code, last = _run([source, *options, *(["--fresh"] if fresh else [])])
        folder = study_folder(resolved)
        if code == 2:
            raise UserError(last.removeprefix("study.run: "))
        if code:
            raise RuntimeError(f"no trial succeeded, or the study broke off: {folder / 'study.log'} says more")
        return cls.open(study_url(resolved) or folder)

    @property
    def name(self) -> str:
        return self.data.name

    def front(self) -> pd.DataFrame:
        """A row a member of the front, best in the first objective first, its scores in the units of `trials`; see
        `analysis.fronts.members`."""
        from analysis.fronts import members

        return members(self.data, as_stored=True)

    def trials(self) -> pd.DataFrame:
        """A row a trial, by number; see `analysis.load.StudyData`."""
        return self.data.trials

    def languages(self) -> pd.DataFrame:
        """A row a trial (or ``teacher``), split, set and language; see `analysis.load.StudyData`."""
        return self.data.by_language

    def recipe(self, trial: int | str) -> Recipe:
        """What a trial was trained with.

        Raises:
            UserError: if there is no such trial, or it cannot be read.
        """
        try:
            name = find_trial(self.data, str(trial))
        except CommandError as error:
            raise UserError(str(error)) from None
        trials = self.data.trials.set_index("trial")
        try:
            return Recipe.model_validate_json(str(trials.loc[name, "recipe"]))
        except ValidationError as error:
            raise UserError(f"trial {name} of {self.place}: {first_mistake(Recipe, error)[1]}") from None

    def student(self, trial: int | str) -> tuple[DualEncoder, Tokenizer]:
        """The student of a complete trial, ready to encode, and its tokenizer. Imports torch.

        Raises:
            UserError: if there is no such trial, it has no student, or that cannot be read.
        """
        try:
            with study_here(self.place, str(trial)) as folder:
                return load_student(find_complete_trial(folder, str(trial)))
        except (StudyFilesError, RemoteError) as error:
            raise UserError(str(error)) from None


def _run(arguments: Sequence[str]) -> tuple[int, str]:
    """Run ``study.run``, showing what it says on standard error. Returns its exit code and the last line of that.

    Ray changes the process that it runs in, and may end it: a notebook's is not for that.
    """
    paths = [str(Path(__file__).resolve().parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    with subprocess.Popen(
        [sys.executable, "-m", "study.run", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.DEVNULL,  # the front, which is at hand as a frame
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C reaches it once, from here
    ) as process:
        assert process.stderr is not None
        interrupted, last = False, ""
        while True:
            try:
                for line in process.stderr:
                    last = line.rstrip() or last
                    print(line, end="", file=sys.stderr)
                break
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
                interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    return process.returncode, last
