"""Pretrained dual encoders, whatever library they come from: their specs, their tokenizers, their weights.

    python -m trainables.models.pretrained SOURCE [--revision REVISION] [--image-size SIZE]

prints what a source is: the spec that its published configuration makes, or why it can be no teacher. A study's driver
asks it in this way, since it imports neither torch nor the libraries.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Protocol

from trainables.artifacts import artifact
from trainables.models.checkpoint import CheckpointError, find_source, in_one_line
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import build_model
from trainables.models.spec import ModelSpec
from trainables.models.tokenizer import Tokenizer

_TOKENIZER_VERSION = 1  # raise it when the same files give another tokenizer


class Checkpoint(Protocol):
    """A published checkpoint of either library."""

    def spec(self, image_size: int | None) -> ModelSpec: ...

    def save_tokenizer(self, folder: Path) -> None: ...

    def load_weights(self, model: DualEncoder) -> None: ...

    def identity(self) -> dict[str, str]:
        """What its content is known by: commits of the hub, or digests of files."""
        ...


def open_checkpoint(pretrained: str, revision: str | None) -> Checkpoint:
    """The checkpoint that a source names, its configuration at hand.

    Raises:
        CheckpointError: if there is none, or it can be no teacher.
    """
    from trainables.models.pretrained_openclip import OpenClipCheckpoint
    from trainables.models.pretrained_siglip2 import Siglip2Checkpoint

    source = find_source(pretrained, revision)
    if source.family == "siglip2":
        assert source.repository is not None
        return Siglip2Checkpoint(source.repository)
    return OpenClipCheckpoint(source)


def pretrained_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The checkpoint's tokenizer, in the cache."""
    fields = {"pretrained": checkpoint.identity(), "stage": _TOKENIZER_VERSION}
    return Tokenizer(artifact("tokenizer", fields, checkpoint.save_tokenizer))


def load_pretrained(checkpoint: Checkpoint, image_size: int | None) -> DualEncoder:
    """The model with its published weights.

    Raises:
        CheckpointError: if the weights are missing or do not fit.
    """
    spec = checkpoint.spec(image_size)
    if spec.family == "siglip2":  # its configuration may name another padding than its tokenizer uses
        text = spec.text.model_copy(update={"pad_id": pretrained_tokenizer(checkpoint).pad_id})
        spec = spec.model_copy(update={"text": text})
    model = build_model(spec, seed=0)
    checkpoint.load_weights(model)
    return model


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code: 2 if the source can be no teacher."""
    parser = argparse.ArgumentParser(
        prog="python -m trainables.models.pretrained",
        description="What a source of a pretrained teacher is, as JSON: its sizes, or why it can be no teacher.",
        epilog="for example: python -m trainables.models.pretrained google/siglip2-base-patch16-224. "
        "Exit codes: 0 done; 2 it can be no teacher.",
    )
    parser.add_argument(
        "source", help="as teacher.pretrained: a hub id, a folder in the hub's format, NAME:TAG of open_clip"
    )
    parser.add_argument("--revision", help="of a hub id; default: its main branch")
    parser.add_argument("--image-size", type=int, help="of a model that takes several; default: as it was trained")
    options = parser.parse_args(arguments)
    try:
        with redirect_stdout(sys.stderr):  # of what the libraries have to say
            spec = open_checkpoint(options.source, options.revision).spec(options.image_size)
    except CheckpointError as error:
        print(json.dumps({"mistake": str(error)}))
        return 2
    except (ValueError, TypeError, KeyError) as error:  # a configuration that the libraries or the spec do not take
        print(json.dumps({"mistake": f"{options.source} is not described as such models are: {in_one_line(error)}"}))
        return 2
    print(spec.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
