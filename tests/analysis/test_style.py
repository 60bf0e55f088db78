from __future__ import annotations

import warnings
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from analysis.style import ONE, STRATEGIES, caption, headline, in_order, look, save, series, styled

# The languages of the embedded study, by their own names.
LANGUAGES = [
    "English",
    "español",
    "日本語",
    "한국어",
    "português",
    "italiano",
    "français",
    "Deutsch",
    "فارسی",
    "Indonesia",
    "简体中文",
    "русский",
    "Türkçe",
    "العربية",
]


def test_all_scripts_of_the_embedded_study_have_glyphs(tmp_path: Path) -> None:
    with styled():
        figure = Figure(figsize=ONE, layout="constrained")
        figure.subplots().set_xlabel(" ".join(LANGUAGES))
        headline(figure, " ".join(LANGUAGES))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that no font has
        save(figure, tmp_path / "scripts")
    assert "日本語" in (tmp_path / "scripts.svg").read_text(encoding="utf-8")


def test_save_writes_both_formats_and_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    with styled():
        figure = Figure(figsize=ONE, layout="constrained")
        figure.subplots().plot([0, 1], [0, 1])
    save(figure, tmp_path / "front.v1")
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["front.v1.png", "front.v1.svg"]
    image = imread(tmp_path / "front.v1.png")
    assert image.shape[1] == round(200 * ONE[0])
    assert image.std() > 0.01


def test_strategies_differ_in_colour_and_in_shape_to_every_eye() -> None:
    looks = [*STRATEGIES.values(), look("unknown")]
    assert len({each.marker for each in looks}) == len(looks)
    # Machado, Oliveira & Fernandes 2009, severity 1: how deuteranopes and protanopes see linear RGB.
    views = {
        "usual": np.eye(3),
        "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    }
    colours = np.array([to_rgb(each.colour) for each in looks]) ** 2.2
    for name, view in views.items():
        seen = np.clip(colours @ np.asarray(view).T, 0.0, 1.0) ** (1 / 2.2)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + 9.0 * np.eye(len(looks))
        assert apart.min() > 0.1, name


def test_strategies_come_in_one_order_and_series_in_their_own() -> None:
    assert in_order(["mix", "zeta", "dr", "fd", "alpha", "fd"]) == ["fd", "dr", "mix", "alpha", "zeta"]
    looks = series(["b", "a"])
    assert [*looks] == ["b", "a"]
    assert (looks["b"].label, looks["a"].label) == ("b", "a")
    assert looks["a"][1:] != looks["b"][1:]


@pytest.mark.parametrize("write", [headline, caption])
def test_long_sentences_stay_within_the_figure(write: object) -> None:
    with styled():
        figure = Figure(figsize=ONE, layout="constrained")
        figure.subplots()
        write(figure, "Feature distillation retrieves best over all of the languages that were asked, " * 3)  # type: ignore[operator]
        figure.draw_without_rendering()
        (text,) = [item for item in figure.texts if item.get_text()]
        assert text.get_window_extent().x1 <= figure.bbox.x1
