"""An exported student is what its family's own library makes of the folder, in a process that has none of our code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tests.trainables.models.tiny import every_family
from trainables.artifacts import write_json
from trainables.config import TrialPlan
from trainables.export import main
from trainables.models.factory import load_model
from trainables.models.spec import Family
from trainables.models.tokenizer import Tokenizer
from trainables.worker import train

NUMBER = 3
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


def write_study(run: Path, plan: TrialPlan, reported: dict[str, Any], family: Family) -> None:
    """The files of a study around a trained trial, as a study writes them."""
    scores = reported["scores"]
    source = {"source": "emoji", "split": "train"}
    config = {
        "name": "tiny",
        "data": {"languages": ["en", "ja", "ar"], "train": source, "retrieval": source, "vqa": {"source": "emoji_vqa"}},
        "teacher": {"family": family},
        "training": {"batch_size": plan.training.batch_size},
    }
    (run / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    write_json(run / "teacher.json", {"parameters": 2 * reported["parameters"], "scores": {"validation": scores}})
    trial = run / "trials" / f"{NUMBER:05d}"
    recipe = {"number": NUMBER, "seed": plan.seed, "recipe": plan.recipe.model_dump(mode="json")}
    write_json(trial / "recipe.json", recipe)
    write_json(
        trial / "result.json", {"state": "complete", "steps": reported["step"], "scores": {"validation": scores}}
    )


@pytest.fixture
def run(plan: TrialPlan, family: Family, tmp_path: Path) -> Path:
    """A study with one trial, whose student was really trained."""
    folder = tmp_path / "run"
    reports: list[dict[str, Any]] = []
    plan = plan.model_copy(update={"folder": str(folder / "trials" / f"{NUMBER:05d}")})
    Path(plan.folder).mkdir(parents=True)
    train(plan, reports.append)
    write_study(folder, plan, reports[-1], family)
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
