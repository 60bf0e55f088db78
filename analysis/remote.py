"""A study at a URL: a copy of it here, for the commands that read a study's folder and write beside it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from analysis.commands import CommandError

# What no command of the analysis reads: students, states, what Ray writes, and the lock.
_LEFT_OUT = ("/checkpoint/", "/ray-", "/tensorboard/", "/study.lock")
# What only the study writes: what a copy has of it and the URL has not is of an earlier study. Reports are of commands.
_STUDYS_OWN = ("trials/**/*", "results/*", "*.json", "*.yaml")
_EXTRAS = {"s3": "'polydistill[s3]'", "gs": "gcsfs"}


def is_url(run: str) -> bool:
    return "://" in run


def copied_here(url: str) -> Path:
    """The folder of a copy in the cache folder, brought up to date; what commands wrote into it stays.

    Raises:
        CommandError: if the URL cannot be read.
    """
    url = url.rstrip("/")
    folder = _place_of(url)
    try:
        _copy(url, folder)
    except ImportError:
        scheme = url.partition("://")[0]
        raise CommandError(f"{url}: needs a package: pip install {_EXTRAS.get(scheme, scheme)}") from None
    except Exception as error:  # what clients of storage raise has no base in common
        raise CommandError(
            f"{url} cannot be read: {' '.join(f'{type(error).__name__}: {error}'.split())[:300]}"
        ) from None
    return folder


def _copy(url: str, folder: Path) -> None:
    import fsspec

    files, path = fsspec.core.url_to_fs(url)
    files.invalidate_cache()
    names = [name.removeprefix(f"{path}/") for name in files.find(path)]
    # A store may hold names that as paths would lead out of the folder.
    names = [name for name in names if not {"", ".."} & set(name.split("/"))]
    names = [name for name in names if not any(part in f"/{name}" for part in _LEFT_OUT)]
    folder.mkdir(parents=True, exist_ok=True)
    for old in (path for pattern in _STUDYS_OWN for path in folder.glob(pattern)):
        if old.is_file() and str(old.relative_to(folder)) not in names:
            old.unlink()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".copy-") as place:
        files.get([f"{path}/{name}" for name in names], [str(Path(place, name)) for name in names])
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(place, name), folder / name)


def _place_of(url: str) -> Path:
    configured = os.environ.get("POLYDISTILL_CACHE")
    if configured:
        cache = Path(configured).expanduser()
    else:
        from platformdirs import user_cache_path

        cache = user_cache_path("polydistill")
    parent, _, name = url.rpartition("/")
    return cache / "read" / hashlib.sha256(parent.encode()).hexdigest()[:16] / name
