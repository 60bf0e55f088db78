"""Dual encoders from typed specs and from saved folders."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from trainables.data.prepared import Array
from trainables.models.dual_encoder import VOCABULARY_FILE, WEIGHTS_FILE, DualEncoder
from trainables.models.spec import SPEC_FILE, Family, ModelSpec


def build_model(spec: ModelSpec, seed: int) -> DualEncoder:
    """A model with random weights that depend on ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _of_family(spec.family)(spec)


def _of_family(family: Family) -> type[DualEncoder]:
    """Imported when there is a model to build: seconds that a process has no need of which only reads what is in the cache."""
    if family == "clip":
        from trainables.models.openclip import OpenClipEncoder

        return OpenClipEncoder
    from trainables.models.siglip2 import Siglip2Encoder

    return Siglip2Encoder


def parameter_count(spec: ModelSpec) -> int:
    """How many parameters a model of this spec has; neither memory nor time for its weights is needed."""
    return _parameter_count(spec.model_dump_json())


@lru_cache
def _parameter_count(spec: str) -> int:
    with torch.device("meta"):
        return build_model(ModelSpec.model_validate_json(spec), seed=0).parameter_count()


def read_spec(folder: Path) -> ModelSpec:
    """The spec of a saved model, without its weights."""
    return ModelSpec.model_validate_json((folder / SPEC_FILE).read_text(encoding="utf-8"))


def read_vocabulary(folder: Path | None) -> Array | None:
    """A student's own id of each of its teacher's tokens, int32, -1 for one that it lacks; None if they are the same."""
    file = folder and folder / VOCABULARY_FILE
    return np.load(file, allow_pickle=False) if file and file.exists() else None


def load_model(folder: Path) -> DualEncoder:
    """A model that `DualEncoder.save` wrote.

    Raises:
        FileNotFoundError: if the spec or the weights are missing.
        RuntimeError: if the weights do not fit the spec.
    """
    model = build_model(read_spec(folder), seed=0)
    model.load_state_dict(load_file(folder / WEIGHTS_FILE))
    if (vocabulary := read_vocabulary(folder)) is not None:
        model.use_vocabulary(torch.from_numpy(vocabulary))
    return model
