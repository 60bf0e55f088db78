"""An exported student is what its family's own library makes of the folder, in a process that has none of our code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.trainables.models.tiny import every_family, tiny_spec
from trainables.artifacts import write_json
from trainables.config import TrialPlan
from trainables.export import main
from trainables.models.factory import build_model, load_model
from trainables.models.spec import Family
from trainables.models.tokenizer import Tokenizer
from trainables.recipe import Recipe
from trainables.worker import train

ROOT = Path(__file__).parents[2]
NUMBER = 3
SCORES = {"languages": {"en": {"map_i2t": 0.5, "map_t2i": 0.25, "vqa_accuracy": 0.75}}, "summary": {}}
TEXTS = [
    "flag: Wales",
    "A BOOK",
    "ｆｌａｇ of Wales",
    "火曜日の犬",
    "قطة",
    "one long name that does not fit " * 3,
    "ⴰⵣⵓⵍ",
    "",
]
# What a user writes: the documented way of each library, and nothing of ours.
LOADERS: dict[Family, str] = {
    "clip": """
import open_clip
model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
image = model.encode_image(torch.stack([preprocess(picture) for picture in pictures]), normalize=True)
text = model.encode_text(tokenizer(texts), normalize=True)
logits = model.logit_scale.exp() * image @ text.T
""",
    "siglip2": """
from transformers import AutoModel, AutoProcessor
model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
outputs = model(**processor(text=texts, images=pictures, return_tensors="pt"))
image, text, logits = outputs.image_embeds, outputs.text_embeds, outputs.logits_per_image
""",
}
PROGRAM = """
import json, sys
import numpy as np, torch
from PIL import Image
folder, inputs, out = sys.argv[1:]
given = json.load(open(inputs))
texts, pictures = given["texts"], [Image.open(path) for path in given["pictures"]]
with torch.no_grad():
{loader}
assert not any(name.partition(".")[0] in ("trainables", "study") for name in sys.modules)
np.savez(out, image=image, text=text, logits=logits)
# What the model card says, word by word.
program = open(folder + "/README.md").read().partition("```python\\n")[2].partition("```")[0]
Image.new("RGBA", (9, 7), "red").save("cat.png")
exec(program.replace("path/to/this/folder", folder))
"""


def as_the_library_sees_it(
    family: Family, folder: Path, pictures: Sequence[Image.Image], place: Path
) -> dict[str, torch.Tensor]:
    """Embeddings of pictures and of `TEXTS`, and their logits, by a fresh process elsewhere."""
    paths = [place / f"{number}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    write_json(place / "inputs.json", {"texts": TEXTS, "pictures": [str(path) for path in paths]})
    loader = "".join(f"    {line}\n" for line in LOADERS[family].strip().splitlines())
    command = [sys.executable, "-c", PROGRAM.format(loader=loader), folder, place / "inputs.json", place / "found.npz"]
    ran = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr
    return {name: torch.from_numpy(array) for name, array in np.load(place / "found.npz").items()}


def write_study(run: Path, recipe: Recipe, family: Family, scores: dict[str, Any], parameters: int, steps: int) -> None:
    """The files of a study around a trained trial, as a study writes them."""
    source = {"source": "emoji", "split": "train"}
    config = {
        "name": "tiny",
        "data": {"languages": ["en", "ja", "ar"], "train": source, "retrieval": source, "vqa": {"source": "emoji_vqa"}},
        "teacher": {"family": family},
        "training": {"batch_size": 16},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    write_json(run / "teacher.json", {"parameters": 2 * parameters, "scores": {"validation": scores}})
    trial = run / "trials" / f"{NUMBER:05d}"
    begun = {"number": NUMBER, "seed": 11, "recipe": recipe.model_dump(mode="json")}
    write_json(trial / "recipe.json", begun)
    write_json(trial / "result.json", {"state": "complete", "steps": steps, "scores": {"validation": scores}})


@pytest.fixture
def run(plan: TrialPlan, family: Family, tmp_path: Path) -> Path:
    """A study with one trial, whose student was really trained."""
    folder = tmp_path / "run"
    reports: list[dict[str, Any]] = []
    plan = plan.model_copy(update={"folder": str(folder / "trials" / f"{NUMBER:05d}")})
    Path(plan.folder).mkdir(parents=True)
    train(plan, reports.append)
    last = reports[-1]
    write_study(folder, plan.recipe, family, last["scores"], last["parameters"], last["step"])
    return folder


@every_family
def test_library_alone_gives_the_students_embeddings(run: Path, family: Family, tmp_path: Path) -> None:
    assert main([str(run), str(NUMBER), "--to", str(tmp_path / "student")]) == 0
    checkpoint = run / "trials" / f"{NUMBER:05d}" / "checkpoint"
    model = load_model(checkpoint).eval()
    size = model.spec.image.image_size
    noise = np.random.default_rng(0).integers(0, 256, (4, size, size, 3), np.uint8)
    found = as_the_library_sees_it(family, tmp_path / "student", [Image.fromarray(one) for one in noise], tmp_path)
    tokens = Tokenizer(checkpoint, model.spec.text.context_length).encode(TEXTS)
    with torch.no_grad():
        image = model.encode_image(model.preprocess(torch.from_numpy(noise))).embedding
        text = model.encode_text(torch.from_numpy(tokens).long()).embedding
        logits = model.logit_scale * image @ text.T + model.logit_bias
    torch.testing.assert_close(found["image"], image, rtol=0, atol=1e-5)
    torch.testing.assert_close(found["text"], text, rtol=0, atol=1e-5)
    torch.testing.assert_close(found["logits"], logits, rtol=1e-4, atol=1e-4)


@pytest.fixture
def made(tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """A study whose one complete trial has a student of random weights; two more were stopped and are running."""
    run = tmp_path / "runs" / "made"
    checkpoint = run / "trials" / f"{NUMBER:05d}" / "checkpoint"
    build_model(tiny_spec("clip"), seed=0).save(checkpoint)
    tokenizer.save(checkpoint)
    write_study(run, Recipe(strategy="dr", layer_weight=0.5), "clip", SCORES, parameters=1000, steps=6)
    for number, result in ((4, {"state": "stopped", "steps": 2, "scores": {}}), (5, None)):
        shutil.copytree(run / "trials" / f"{NUMBER:05d}", run / "trials" / f"{number:05d}")
        (run / "trials" / f"{number:05d}" / "result.json").unlink()
        if result:
            write_json(run / "trials" / f"{number:05d}" / "result.json", result)
    return run


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that the command ends with."""
    assert main([str(argument) for argument in arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("trainables.export: ")
    return line


@pytest.mark.parametrize(
    ("run", "trial", "words"),
    [
        ("runs/mode", "3", ["no study in", "runs/mode", "did you mean", "runs/made?"]),
        ("runs/made", "9", ["no trial 9", "did you mean 3?", "complete are 3"]),
        ("runs/made", "best", ["no trial best", "complete are 3"]),
        ("runs/made", "4", ["trial 4", "is stopped", "complete are 3"]),
        ("runs/made", "5", ["trial 5", "has not ended", "complete are 3"]),
    ],
)
def test_what_is_no_complete_trial_is_refused_with_the_nearest(
    made: Path, capsys: pytest.CaptureFixture[str], run: str, trial: str, words: list[str]
) -> None:
    line = refusal(capsys, made.parents[1] / run, trial)
    assert all(word in line for word in words), line


@pytest.mark.parametrize("damage", ["model.safetensors", "tokenizer.json", "spec.json"])
@pytest.mark.parametrize("is_gone", [True, False])
def test_damaged_student_is_refused_and_nothing_is_written(
    made: Path, capsys: pytest.CaptureFixture[str], damage: str, is_gone: bool
) -> None:
    path = made / "trials" / f"{NUMBER:05d}" / "checkpoint" / damage
    content = path.read_bytes()
    path.unlink()
    if not is_gone:
        path.write_bytes(content[: len(content) // 2])
    line = refusal(capsys, made, NUMBER)
    assert str(path.parent) in line
    assert not is_gone or str(path) in line
    assert list((made / "export").rglob("*.*")) == []


def test_mistake_in_a_studys_file_is_one_line(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "config.yaml").write_text("name: made\n", encoding="utf-8")
    assert "config.yaml: it has no data" in refusal(capsys, made, NUMBER)
    result = made / "trials" / f"{NUMBER:05d}" / "result.json"
    result.write_text("{", encoding="utf-8")
    assert f"{result}: " in refusal(capsys, made, NUMBER)


def test_what_is_wrong_with_another_trial_is_of_no_matter(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "trials" / "00004" / "result.json").write_text("{", encoding="utf-8")
    assert main([str(made), str(NUMBER)]) == 0


def test_folder_of_others_is_refused_and_an_earlier_export_replaced(
    made: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "student"
    target.mkdir()
    (target / ".gitattributes").write_text("*.safetensors filter=lfs\n", encoding="utf-8")
    assert main([str(made), str(NUMBER), "--to", str(target)]) == 0
    written = sorted(path.name for path in target.iterdir())
    assert written == [
        ".gitattributes",
        "README.md",
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "polydistill.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    (target / "README.md").write_text("changed", encoding="utf-8")
    assert main([str(made), str(NUMBER), "--to", str(target)]) == 0
    assert sorted(path.name for path in target.iterdir()) == written
    assert (target / "README.md").read_text(encoding="utf-8").startswith("---\n")
    capsys.readouterr()
    mark = json.loads((target / "polydistill.json").read_text(encoding="utf-8"))
    write_json(target / "polydistill.json", {**mark, "seed": mark["seed"] + 1})
    assert f"{target} is not empty, it holds README.md" in refusal(capsys, made, NUMBER, "--to", target)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    assert "file/below" in refusal(capsys, made, NUMBER, "--to", tmp_path / "file" / "below")


def test_json_says_what_was_written_where(made: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([str(made), str(NUMBER), "--to", str(tmp_path / "student"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"study": "tiny", "trial": NUMBER, "folder": str(tmp_path / "student"), "family": "clip"}


def test_full_disk_is_one_line(
    made: Path, capsys: pytest.CaptureFixture[str], small_disks: Callable[[str], Path]
) -> None:
    disk = small_disks("256k")
    line = refusal(capsys, made, NUMBER, "--to", disk / "student")
    assert f"{disk}/student" in line
    assert "No space left" in line
    assert list((disk / "student").iterdir()) == []


def test_refusals_load_nothing_slow(made: Path) -> None:
    program = """
import sys
from trainables.export import main
code = main(sys.argv[1:])
print(code, sorted({"torch", "transformers", "open_clip"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", program, str(made), "9"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.stdout == "2 []\n", ran.stderr
