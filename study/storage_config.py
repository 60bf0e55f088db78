"""The section of a study's configuration that says where it lies, and the places that follow from it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import field_validator

from study.errors import UserError
from trainables.artifacts import cache_root, content_key
from trainables.data.settings import keeps_no_secret
from trainables.models.spec import Typed, shaped_like
from trainables.remote_folder import is_url

if TYPE_CHECKING:
    from study.config import StudyConfig

_OPTUNA = r"sqlite|env:[A-Za-z_][A-Za-z0-9_]*"


class StorageConfig(Typed):
    """Where the study's folder and its Optuna storage lie."""

    path: str = "runs"
    """The folder of studies, or a URL of an fsspec store, such as `s3://bucket/studies`."""
    optuna: Annotated[str, shaped_like(_OPTUNA)] = "sqlite"
    """`sqlite` for a file in the study's folder, or `env:NAME` for a URL in the environment, which is never written down."""

    @field_validator("path")
    @classmethod
    def _is_a_place(cls, path: str) -> str:
        if not path:
            raise ValueError("should not be empty: the folder that the command runs in is written as .")
        if not is_url(path):
            return path
        keeps_no_secret(path)
        parts = urlsplit(path)
        if parts.scheme in ("http", "https") or not parts.netloc:
            raise ValueError(f"{path!r} is no store that can be written: write it as s3://bucket/studies")
        return path.rstrip("/")

    @field_validator("optuna")
    @classmethod
    def _names_a_storage(cls, optuna: str) -> str:
        if not re.fullmatch(_OPTUNA, optuna):
            raise ValueError(
                "should be sqlite, or env:NAME for a URL in the environment variable NAME: here it would be written down"
            )
        return optuna


def study_folder(config: StudyConfig) -> Path:
    """Where the study of this configuration lies; of one at a URL, where the driver's copy of it does."""
    path = config.storage.path
    place = cache_root() / "studies" / content_key({"url": path}) if is_url(path) else Path(path).expanduser()
    return (place / config.name).absolute()


def study_url(config: StudyConfig) -> str | None:
    """The URL of the study of this configuration, None if it lies in a folder."""
    return f"{config.storage.path}/{config.name}" if is_url(config.storage.path) else None


def sqlite_url(file: Path) -> str:
    """The URL of a database in a file, whatever its path holds: ``?``, ``#`` and ``%`` mean something in a URL."""
    from sqlalchemy import URL  # here alone: a mistake in the configuration is told before anything slow is imported

    return URL.create("sqlite", database=str(file)).render_as_string()


def storage_url(config: StorageConfig, folder: Path) -> str:
    """The Optuna storage of a study in ``folder``.

    Raises:
        UserError: if the environment variable that holds the URL is not set.
    """
    if config.optuna == "sqlite":
        return sqlite_url(folder / "study.db")
    variable = config.optuna.removeprefix("env:")
    if not os.environ.get(variable):
        raise UserError(f"storage.optuna: the environment variable {variable} is not set; it must hold a database URL")
    return os.environ[variable]
