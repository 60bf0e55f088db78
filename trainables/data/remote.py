"""What lies at URLs, by fsspec, and data sets of the hub that lie in its cache: reached, or one line says why not.

Credentials and endpoints come from the environment alone, for example ``AWS_ACCESS_KEY_ID`` and ``AWS_ENDPOINT_URL``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from trainables.data.report import DataError

# What is read at a URL that names a folder: one of `save_to_disk`, or of pictures with a table of their captions.
SAVED = ("dataset_dict.json", "state.json")
METADATA = ("metadata.parquet", "metadata.jsonl", "metadata.csv")
_WILDCARDS = "*?["
_CHANGES = ("size", "ETag", "etag", "mtime", "LastModified", "Last-Modified")  # what file systems know of a file
_CONNECT, _READ = 10, 60  # seconds: the clients' own patience is minutes
# What `datasets` says of files that hold nothing: of JSON and of tables, and of Parquet.
_NO_ROWS = ("corresponds to no data", "BatchSize must be greater than 0")
_EXTRAS = {"s3": "polydistill[s3]", "s3a": "polydistill[s3]", "gs": "gcsfs", "gcs": "gcsfs"}


def is_offline() -> bool:
    """Whether the hub must not be asked."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def snapshot(name: str, revision: str) -> str:
    """The folder in the hub's cache of a data set at a revision.

    Raises:
        OSError: if it is not there.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return str(snapshot_download(name, repo_type="dataset", revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise FileNotFoundError(
            f"it is not in the hub's cache at revision {revision}, and HF_HUB_OFFLINE is set: download it where there is "
            f"a network (hf download {name} --repo-type dataset --revision {revision})"
        ) from None


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises:
        ImportError: if its package is not installed.
    """
    import fsspec

    protocol = url.partition("://")[0]
    fsspec.config.conf.setdefault(protocol, _patience(protocol))  # a user's own configuration of fsspec comes first
    files, path = fsspec.core.url_to_fs(url)
    return files, path


def _patience(protocol: str) -> dict[str, Any]:
    """Options of a protocol's file systems, those that `datasets` makes too."""
    if protocol in ("s3", "s3a"):
        retries = {"max_attempts": 2}
        return {"config_kwargs": {"connect_timeout": _CONNECT, "read_timeout": _READ, "retries": retries}}
    if protocol in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_READ)
        return {"client_kwargs": {"timeout": timeout, "trust_env": True}}  # the environment: proxies and ~/.netrc
    return {}


def opened(path: str, mode: str, **options: Any) -> Any:
    """A file here or at a URL, unpacked as its name says, for a ``with`` block."""
    import fsspec

    if "://" in path:
        filesystem(path)  # with our patience
    return fsspec.open(path, mode, compression="infer", **options)


def url_files(url: str) -> list[str]:
    """The URLs of the files that a URL means: itself, those that match its wildcards, or what says what is in a folder.

    Raises:
        FileNotFoundError: if there is none.
        Exception: whatever the file system raises that cannot be reached.
    """
    files, path = filesystem(url)
    if before_wildcards(path) is not None:
        found = sorted(files.glob(path))
        if not found:
            files.ls(before_wildcards(path))  # says why, if that cannot be reached
            raise FileNotFoundError("no file matches")
        return [files.unstrip_protocol(one) for one in found]
    if PurePosixPath(path).suffix:
        files.info(path)
        return [url]
    for name in (*SAVED, *METADATA):
        if files.exists(f"{path}/{name}"):
            return [f"{url.rstrip('/')}/{name}"]
    files.info(path)
    raise FileNotFoundError(
        f"it has neither of {', '.join((*SAVED, *METADATA))}: name data files by a pattern such as "
        f"{url.rstrip('/')}/*.parquet"
    )


def before_wildcards(path: str) -> str | None:
    """The folder of a pattern's files that comes before its wildcards; None if it has none."""
    if not any(mark in path for mark in _WILDCARDS):
        return None
    parent = path.rpartition("/")[0]
    while any(mark in parent for mark in _WILDCARDS):
        parent = parent.rpartition("/")[0]
    return parent


def stamp(url: str) -> str:
    """What changes when the files that a URL means do, as far as their server says."""
    digest = hashlib.sha256()
    for one in url_files(url):
        files, path = filesystem(one)
        info = files.info(path)
        digest.update("\n".join([one, *(str(info.get(key)) for key in _CHANGES)]).encode())
    return digest.hexdigest()[:16]


@contextmanager
def reaching(key: str, source: str) -> Iterator[None]:
    """Turns whatever goes wrong on the way to ``source`` into one line.

    Raises:
        DataError: beginning with ``key``.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # what clients of storage raise has no base in common
        raise DataError(f"{key}: {source} cannot be opened: {reason(source, error)}") from None


def reason(source: str, error: BaseException) -> str:
    """What an error on the way to ``source`` means, in a line."""
    protocol = source.partition("://")[0]
    if isinstance(error, ImportError) and protocol in _EXTRAS:
        return f"{protocol}:// needs a package: pip install '{_EXTRAS[protocol]}'"
    cause, is_refused = error, False
    while True:
        is_refused |= isinstance(cause, PermissionError)
        if cause.__cause__ is None:
            break
        cause = cause.__cause__
    if is_refused:
        return (
            f"access is refused, to the credentials that are in the environment: {' '.join(str(cause).split())[:300]}"
        )
    if isinstance(cause, FileNotFoundError) and " " not in str(cause):
        return "there is no such file"
    if any(said in str(cause) for said in _NO_ROWS):
        return "it has no rows"
    kind = "" if isinstance(cause, OSError | ValueError) and str(cause) else f"{type(cause).__name__}: "
    return " ".join(f"{kind}{cause}".split())[:400]
