"""The package as others install it: a wheel with every file that the code reads, which runs from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("analysis", "search_spaces", "study", "trainables")
BUILD = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a wheel holds, unpacked; it is built in a copy, since that leaves files behind."""
    place = tmp_path_factory.mktemp("package")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, place / "source" / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / "source")
    command = [sys.executable, "-c", BUILD, str(place)]
    subprocess.run(command, cwd=place / "source", capture_output=True, check=True)
    (wheel,) = place.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(place / "installed")
    return place / "installed"


def test_a_wheel_holds_every_file_of_the_packages(installed: Path) -> None:
    def files(root: Path) -> set[str]:
        paths = (path for package in PACKAGES for path in (root / package).rglob("*"))
        return {str(path.relative_to(root)) for path in paths if path.is_file() and "__pycache__" not in path.parts}

    assert files(installed) == files(ROOT)
    assert {f"{package}/py.typed" for package in PACKAGES} <= files(installed)
    assert {path.name for path in installed.iterdir()} - {*PACKAGES} == {"polydistill-0.1.0.dist-info"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["study.describe", "siglip2_paper"], "siglip2-paper: sizes"),  # a preset, a space, published sizes
        (["study.run", "--version"], "polydistill 0.1.0"),
        (["analysis.trial", "nowhere", "1"], "analysis.trial: no study in nowhere: "),
    ],
)
def test_an_installed_package_runs_from_any_folder(
    installed: Path, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", *arguments]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert expected in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    where = [sys.executable, "-c", "import study; print(study.__file__)"]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(installed / "study" / "__init__.py")
