"""The database that Optuna keeps a study in: opened, or one line says why not. Its URL, which may hold a password, is in
no message of ours: not even in parts, as the messages of drivers have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from study.errors import UserError

# Of libpq, in seconds but for the last, in milliseconds: left to itself it waits for ever for a server that has vanished.
_PATIENCE = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
# What a database says, in its words and in ours, the most telling first.
_SAID = {
    "password authentication failed": "it refuses the user or the password",
    "no password supplied": "it asks for a password, and the URL has none",
    "no pg_hba.conf entry": "it does not let this user in from here",
    'relation "': "it holds no study",
    "no such table": "it holds no study",
    "does not exist": "it has no such database or user",
    "permission denied": "its user may not make tables there",
    "connection refused": "nothing answers there; is the server up?",
    "no such file or directory": "nothing answers there; is the server up?",
    "timeout expired": "nothing answers there; is the server up?",
    "unreachable": "nothing answers there; is the server up?",
    "resolve host": "there is no such host",
    "translate host name": "there is no such host",
    "too many": "it has no connection left",
}


def open_database(setting: str, url: str, **options: Any) -> optuna.storages.RDBStorage:
    """Optuna's storage at ``url``; ``setting`` is what `storage.optuna` says, ``options`` are those of `RDBStorage`.

    Raises:
        UserError: if it cannot be opened.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise UserError(
            f"storage.optuna: {setting} holds no database URL, such as postgresql://USER:PASSWORD@HOST:5432/DATABASE "
            "(in a password, @ is written %40, / %2F and : %3A)"
        ) from None
    escaped = url.replace("{", "{{").replace("}", "}}")  # Optuna takes the URL for a template
    with readable_errors(setting):
        try:
            return optuna.storages.RDBStorage(escaped, _engine_options(parsed), **options)
        except ImportError:
            driver = parsed.get_driver_name()
            package = "'polydistill[postgresql]'" if driver == "psycopg" else driver
            raise UserError(
                f"storage.optuna: {setting}: the database's driver is not installed: pip install {package}"
            ) from None


def _engine_options(url: URL) -> dict[str, Any]:
    """SQLAlchemy's, for a server that restarts or vanishes; the URL's own come first."""
    if url.get_backend_name() != "postgresql":
        return {}
    own = {name: value for name, value in _PATIENCE.items() if name not in url.query}
    return {"pool_pre_ping": True, "connect_args": own if url.get_driver_name() == "psycopg" else {}}


@contextmanager
def readable_errors(setting: str) -> Iterator[None]:
    """Turns whatever a database raises into one line.

    Raises:
        UserError: with the reason, as far as it is known to hold no part of the URL.
    """
    try:
        yield
    except NoSuchModuleError:
        raise UserError(
            f"storage.optuna: {setting}: SQLAlchemy knows no database of this URL's kind; PostgreSQL's begin with "
            "postgresql://"
        ) from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise UserError(f"storage.optuna: {setting} cannot be opened: {_reason(error)}") from None
    except RuntimeError as error:
        if "table schema" not in str(error):
            raise
        raise UserError(
            f"storage.optuna: {setting} has the tables of another version of Optuna: optuna storage upgrade brings them up "
            "to date"
        ) from None


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    said = " ".join(str(error).lower().split())
    return next((ours for words, ours in _SAID.items() if words in said), type(error).__name__)
