"""Published checkpoints: where their files lie, and which library they are of.

A source is written as
- a folder in the hub's format: `config.json` of transformers' SigLIP2, or `open_clip_config.json`;
- the id of a model on the Hugging Face hub, `google/siglip2-base-patch16-224`, or with open_clip's `hf-hub:` before it;
- a name and a tag of open_clip's own list, `xlm-roberta-base-ViT-B-32:laion5b_s13b_b90k`.

Files of the hub are taken from its cache on this machine, or downloaded into it, at one commit.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainables.models.spec import Family

TRANSFORMERS_CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"
# transformers' model types of SigLIP2: of a fixed resolution, and NaFlex.
SIGLIP2_TYPES = ("siglip", "siglip2")
_LONGEST_REASON = 200  # characters
# What the hub has as configurations of the presets' teachers: their sizes are known without reaching it.
_ARCHITECTURES = Path(__file__).parent / "architectures"
_CONFIGS = {
    TRANSFORMERS_CONFIG,
    OPEN_CLIP_CONFIG,
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
}
_HUB_PREFIX = "hf-hub:"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_OPEN_CLIP_NAME = re.compile(r"([\w.-]+):([\w.-]+)")


class CheckpointError(ValueError):
    """A source that is no checkpoint which can be used here; the message is one line for the user."""


@dataclass(frozen=True)
class Repository:
    """A folder of files, on this machine or on the hub."""

    name: str  # a path, or a hub id
    revision: str | None  # of the hub: a branch, tag or commit
    is_local: bool

    def fetch(self, patterns: Sequence[str]) -> Path:
        """The folder that holds the files which match, as far as there are any.

        Raises:
            CheckpointError: if the hub, its cache or the revision has no such repository.
        """
        if self.is_local:
            return Path(self.name)
        if (known := _ARCHITECTURES / self.name).is_dir() and set(patterns) <= _CONFIGS:
            return known
        from huggingface_hub import snapshot_download

        try:
            return Path(snapshot_download(self.name, revision=self.revision, allow_patterns=list(patterns)))
        except Exception as error:  # the hub's client raises what its transport does
            at = f" at revision {self.revision}" if self.revision else ""
            raise CheckpointError(
                f"{self.name}{at} is neither a folder nor can it be had from the Hugging Face hub ({in_one_line(error)})"
            ) from None

    def first_of(self, names: Sequence[str]) -> Path | None:
        """The first of these files that there is."""
        for name in names:
            if (path := self.fetch([name]) / name).is_file():
                return path
        return None

    def identity(self, files: Path) -> dict[str, str]:
        """What the content of the fetched files is known by: the commit, or their own digests."""
        if not self.is_local:
            return {self.name: files.name}  # a snapshot's folder is named by its commit
        return {path.name: digest(path) for path in sorted(files.iterdir()) if path.is_file()}


@dataclass(frozen=True)
class Source:
    """A checkpoint as a configuration names it: a repository, or a name and a tag of open_clip."""

    family: Family
    repository: Repository | None
    open_clip_name: str = ""
    open_clip_tag: str = ""
    revision: str | None = None


def find_source(pretrained: str, revision: str | None) -> Source:
    """What a configuration names.

    Raises:
        CheckpointError: if it is none of the three.
    """
    path = Path(pretrained).expanduser()
    if path.exists() or pretrained.startswith((".", "/", "~")):
        if revision is not None:
            raise CheckpointError(f"{pretrained} is a folder, which has no revisions: leave teacher.revision out")
        if not path.is_dir():
            raise CheckpointError(f"{pretrained} is {'a file' if path.exists() else 'not there'}: it must be a folder")
        repository = Repository(str(path.absolute()), None, is_local=True)
        return Source(_family(repository), repository)
    hub_id = pretrained.removeprefix(_HUB_PREFIX)
    if _HUB_ID.fullmatch(hub_id):
        repository = Repository(hub_id, revision, is_local=False)
        return Source(_family(repository), repository, revision=revision)
    if match := _OPEN_CLIP_NAME.fullmatch(pretrained):
        return Source("clip", None, match[1], match[2], revision)
    raise CheckpointError(
        f"{pretrained!r} should be a folder, a hub id such as google/siglip2-base-patch16-224, or an open_clip name and "
        "tag such as xlm-roberta-base-ViT-B-32:laion5b_s13b_b90k"
    )


def read_json(path: Path) -> dict[str, Any]:
    """The object in a published file.

    Raises:
        CheckpointError: if there is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise CheckpointError(f"{path} cannot be read: it is no JSON") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return content


def in_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST_REASON]


def _family(repository: Repository) -> Family:
    folder = repository.fetch([TRANSFORMERS_CONFIG, OPEN_CLIP_CONFIG])
    if (folder / OPEN_CLIP_CONFIG).is_file():
        return "clip"
    if not (folder / TRANSFORMERS_CONFIG).is_file():
        raise CheckpointError(
            f"{repository.name} is not a model: it has neither {TRANSFORMERS_CONFIG} nor {OPEN_CLIP_CONFIG}"
        )
    kind = read_json(folder / TRANSFORMERS_CONFIG).get("model_type")
    if kind not in SIGLIP2_TYPES:
        raise CheckpointError(
            f"{repository.name} is of transformers' type {kind!r}: teachers are {' or '.join(SIGLIP2_TYPES)} there, and "
            f"open_clip's models, which have an {OPEN_CLIP_CONFIG}"
        )
    return "siglip2"


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
