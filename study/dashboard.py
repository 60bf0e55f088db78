# PYTHON_ARGCOMPLETE_OK
"""Watch a study in Optuna Dashboard, while it runs or when it has ended.

    python -m study.dashboard                          the embedded study
    python -m study.dashboard runs/emoji-clip          a study by its folder, or its URL
    python -m study.dashboard my_study.yaml --port 9000

It needs an extra: pip install 'polydistill[dashboard]'. There is no password, so it answers this machine alone; from
another one, use a tunnel: ssh -L 8080:127.0.0.1:8080 HOST. It shows and changes nothing. Ctrl-C ends it.
"""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import json
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from analysis.commands import CommandParser, command_parser, run_command, whole_number
from study.arguments import add_config
from study.config import StudyConfig, available_presets, load_config
from study.errors import UserError
from study.ledger import Ledger
from study.mistakes import did_you_mean
from study.storage_config import storage_url, study_folder, study_url
from trainables.artifacts import cache_root, content_key
from trainables.remote_folder import is_url

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from optuna.storages import RDBStorage

_HOST, _PORT = "127.0.0.1", 8080


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code: 0 when Ctrl-C ended it, 2 for a mistake in the input."""
    return run_command(_parser(), _run, arguments, (UserError,))


def _parser() -> CommandParser:
    parser = command_parser("study.dashboard", __doc__)
    add_config(parser, "a study's folder")
    parser.add_argument("--port", type=whole_number, default=_PORT, help=f"default {_PORT}; 0 takes one that is free")
    parser.add_argument("--host", default=_HOST, help=f"an address of this machine's loopback; default {_HOST}")
    return parser


def _run(options: argparse.Namespace) -> int:
    host = _loopback(options.host)
    config, folder = _find(options.config, options.overrides, options.name)
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise UserError("needs an extra that is not installed: pip install 'polydistill[dashboard]'")
    storage, study_id = _open(config, folder)

    from optuna_dashboard import wsgi

    with _listen(host, options.port, read_only(wsgi(storage))) as server:
        address = f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}"
        print(f"Study {config.name}: {address}/dashboard/studies/{study_id}   (Ctrl-C ends)", flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def _loopback(host: str) -> str:
    """The address that ``host`` names.

    Raises:
        UserError: if others than this machine could reach it.
    """
    if host == "localhost":
        return _HOST
    try:
        is_ours = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_ours = False
    if not is_ours:
        raise UserError(
            f"--host {host}: the dashboard has no password, so that it listens on 127.0.0.1, ::1 or localhost only; "
            "from another machine, use a tunnel: ssh -L 8080:127.0.0.1:8080 HOST"
        )
    return host


def _find(source: str, overrides: Sequence[str], name: str | None) -> tuple[StudyConfig, Path]:
    """The study that the command means, and its folder.

    Raises:
        UserError: if there is no such study.
    """
    if is_url(source):
        folder = _fetched(source.rstrip("/"))
        if not (folder / "config.yaml").is_file():
            raise UserError(f"no study in {source}: a study's folder holds config.yaml")
        return load_config(str(folder / "config.yaml"), overrides, name), folder
    if source not in available_presets() and (given := Path(source)).is_dir():
        if not (given / "config.yaml").is_file():
            raise UserError(f"no study in {given}: a study's folder holds config.yaml")
        return load_config(str(given / "config.yaml"), overrides, name), given.absolute()
    if source not in available_presets() and not Path(source).exists():
        raise UserError(
            f"no study '{source}': {did_you_mean(source, available_presets())}name a study's folder, a YAML file or a "
            f"preset ({', '.join(available_presets())})"
        )
    config = load_config(source, overrides, name)
    if (url := study_url(config)) is not None:
        return config, _fetched(url)
    return config, study_folder(config)


def _fetched(url: str) -> Path:
    """A folder with the files of a study at a URL that say what it is and what Optuna calls it.

    Raises:
        UserError: if the URL cannot be used.
    """
    from trainables.remote_folder import RemoteError, RemoteFolder

    remote = RemoteFolder(url, patience=10.0)
    folder = cache_root() / "read" / content_key({"url": url}) / url.rpartition("/")[2]
    try:
        there = set(remote.names())
        for name in ("config.yaml", "study.json"):
            (folder / name).unlink(missing_ok=True)
            remote.pull(folder, {name} & there)
    except RemoteError as error:
        raise UserError(f"storage.path: {error}") from None
    return folder


def _open(config: StudyConfig, folder: Path) -> tuple[RDBStorage, int]:
    """The study's Optuna storage, in which nothing is made that is not there, and the study's id in it.

    Raises:
        UserError: if there is none, or it does not hold the study.
    """
    url = storage_url(config.storage, folder)
    if not (folder / "study.json").is_file():
        raise UserError(f"no study in {folder}: there is no study.json; python -m study.run begins one")

    import optuna

    from study.database import open_database, readable_errors

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    setting = config.storage.optuna
    storage = open_database(setting, url, skip_compatibility_check=True, skip_table_creation=True)
    try:
        with readable_errors(setting):
            return storage, storage.get_study_id_from_name(Ledger(folder).study_name)
    except KeyError:
        raise UserError(f"storage.optuna: {setting} holds no study {config.name}") from None


def read_only(app: WSGIApplication) -> WSGIApplication:
    """``app`` for readers: Optuna Dashboard can also change and delete studies, and asks nobody who they are.

    A request must name a loopback address as its host, or a web page whose name an attacker points at 127.0.0.1 could
    read the study through the user's browser.
    """

    def guarded(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if not _names_loopback(environ.get("HTTP_HOST", "")):
            return _refuse(start_response, "403 Forbidden", "only for requests to this machine by its loopback address")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _refuse(start_response, "405 Method Not Allowed", "this dashboard shows a study and changes nothing")
        return app(environ, start_response)

    return guarded


def _names_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _refuse(start_response: StartResponse, status: str, reason: str) -> list[bytes]:
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps({"reason": reason}).encode()]  # as Optuna Dashboard's own page expects it


class _Server(ThreadingMixIn, WSGIServer):
    """Answers each request in a thread of its own, none of which outlives the command."""

    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    """Does not print a line a request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


def _listen(host: str, port: int, app: Callable[..., Iterable[bytes]]) -> WSGIServer:
    """A server that is bound, and does not answer yet.

    Raises:
        UserError: if the port cannot be had.
    """
    try:
        return make_server(host, port, app, _Server6 if ":" in host else _Server, _Handler)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "there is no such port"
        raise UserError(f"--port {port}: {reason}; name another one, or 0 for one that is free") from None


if __name__ == "__main__":
    sys.exit(main())
