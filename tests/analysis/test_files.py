from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.files import save_table


def test_a_table_is_written_in_three_formats_that_agree(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"trial": ["a_1", "b & c"], "map": [0.123456, float("nan")], "seeds": pd.array([2, None], "Int64")}
    )
    save_table(frame, tmp_path / "front")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["front.csv", "front.parquet", "front.tex"]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "front.parquet"), frame)
    assert pd.read_csv(tmp_path / "front.csv")["map"].tolist()[0] == 0.123456
    latex = (tmp_path / "front.tex").read_text(encoding="utf-8")
    assert r"a\_1 & 0.123 & 2 \\" in latex
    assert r"b \& c &  &" in latex
    assert r"\toprule" in latex


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    save_table(pd.DataFrame({"trial": pd.Series(dtype="str"), "map": pd.Series(dtype=float)}), tmp_path / "none")
    assert (tmp_path / "none.csv").read_text(encoding="utf-8") == "trial,map\n"
    assert len(pd.read_parquet(tmp_path / "none.parquet")) == 0
