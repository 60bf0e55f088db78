"""Files that are written whole: figures, tables and results."""

from __future__ import annotations

import io
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file ``path`` by ``content``, so that a reader sees the old or the new, never a part."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp hides its file from everybody else
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def without_nan(value: Any) -> Any:
    """``value`` with None for NaN and infinities, which JSON does not have, however deep in mappings and lists."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_table(frame: pd.DataFrame, path: str | Path) -> None:
    """Write ``frame``, without its index, to ``path``.csv, ``path``.parquet and ``path``.tex (booktabs, three digits)."""
    parquet = io.BytesIO()
    frame.to_parquet(parquet, index=False)
    latex = frame.rename(columns=str).to_latex(index=False, escape=True, float_format="%.3g", na_rep="")
    contents = {
        ".csv": frame.to_csv(index=False).encode(),
        ".parquet": parquet.getvalue(),
        ".tex": latex.encode(),
    }
    for suffix, content in contents.items():
        write_atomically(Path(f"{path}{suffix}"), content)
