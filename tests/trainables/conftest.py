"""Tiny real things, built once a session: emoji data in three languages, a tokenizer, a fitted teacher, its cache."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from trainables.config import (
    CacheConfig,
    FitConfig,
    Paths,
    StudentConfig,
    StudentImageTower,
    StudentTextTower,
    TeacherConfig,
    TeacherImageTower,
    TeacherModel,
    TeacherTower,
    TokenizerConfig,
    TrainingConfig,
    TrialPlan,
)
from trainables.data import embedded
from trainables.data.prepared import CaptionedImages, VisualQuestions
from trainables.device import set_up_process
from trainables.evaluation.subset import subset
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import load_model
from trainables.models.spec import UNPROJECTED_IMAGES, Family
from trainables.models.tokenizer import Tokenizer, fit_bpe
from trainables.recipe import Recipe
from trainables.student import student_spec
from trainables.teacher import TeacherSource, fit_teacher
from trainables.teacher_cache import TeacherCache, build_cache

LANGUAGES = ("en", "ja", "ar")
IMAGE_SIZE = 24
CONTEXT_LENGTH = 12
TRAINING_IMAGES = 48

set_up_process(1)  # as trials do: what one test computes must not depend on whether another has run one
# A first example may import or compile what others find ready, and the machine may be busy.
settings.register_profile("trainables", deadline=None)
settings.load_profile("trainables")


@pytest.fixture(scope="session", autouse=True)
def cache_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDISTILL_CACHE", str(root))
        yield root


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own on ``folder``, so small that it fills; skips the test where none can be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True) if shutil.which("mount") else None
    if done is None or done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip() if done else 'there is no mount'}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_disks(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes file systems of a given size; they are gone with the test."""
    with ExitStack() as stack:
        yield lambda size: stack.enter_context(small_disk(tmp_path / f"disk-of-{size}", size))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer(fit_bpe(embedded.training_texts(LANGUAGES), vocab_size=600), CONTEXT_LENGTH)


@pytest.fixture(scope="session")
def validation_captions(tokenizer: Tokenizer) -> CaptionedImages:
    """The whole validation gallery of the embedded data."""
    return CaptionedImages.load(embedded.prepare_captions("validation", LANGUAGES, IMAGE_SIZE, tokenizer))


@pytest.fixture(scope="session")
def validation_questions(tokenizer: Tokenizer) -> VisualQuestions:
    """All the validation questions of the embedded data."""
    return VisualQuestions.load(embedded.prepare_questions("validation", LANGUAGES, IMAGE_SIZE, tokenizer))


@pytest.fixture(scope="session")
def train_folder(cache_root: Path, validation_captions: CaptionedImages) -> Path:
    """One picture each of 48 emoji; the first four lack a Japanese name and the next two an Arabic one."""
    chosen = np.linspace(0, len(validation_captions.text_item) - 1, TRAINING_IMAGES).astype(int)
    views = len(embedded.GALLERY_VIEWS)
    present = np.ones((len(LANGUAGES), TRAINING_IMAGES), np.bool_)
    present[1, :4] = present[2, 4:6] = False
    texts = [[row[i] for i in chosen] for row in validation_captions.texts]
    folder = cache_root / "tiny" / "train"
    CaptionedImages(
        languages=list(LANGUAGES),
        images=validation_captions.images[chosen * views],
        image_item=validation_captions.image_item[chosen * views],
        tokens=np.where(present[:, :, None], validation_captions.tokens[:, chosen], 0).astype(np.int32),
        present=present,
        text_item=validation_captions.text_item[chosen],
        texts=[
            [text if here else "" for text, here in zip(*row, strict=True)] for row in zip(texts, present, strict=True)
        ],
    ).save(folder)
    return folder


@pytest.fixture(scope="session")
def train_data(train_folder: Path) -> CaptionedImages:
    return CaptionedImages.load(train_folder)


@pytest.fixture(scope="session")
def few_captions(validation_captions: CaptionedImages, validation_questions: VisualQuestions) -> CaptionedImages:
    """Twenty emoji in three views."""
    share = 20 / len(validation_captions.text_item)
    return subset({"": validation_captions}, {"": validation_questions}, share, seed=1)[0][""]


@pytest.fixture(scope="session")
def few_questions(validation_captions: CaptionedImages, validation_questions: VisualQuestions) -> VisualQuestions:
    """Thirty questions."""
    share = 30 / len(validation_questions.answer)
    return subset({"": validation_captions}, {"": validation_questions}, share, seed=1)[1][""]


@pytest.fixture(scope="session")
def family(request: pytest.FixtureRequest) -> Family:
    """Of teacher and student: CLIP, unless a test asks for others by `every_family`."""
    return getattr(request, "param", "clip")


@pytest.fixture(scope="session")
def teacher_source(family: Family, train_folder: Path, tokenizer: Tokenizer) -> TeacherSource:
    model = TeacherModel(
        embed_dim=64 if family in UNPROJECTED_IMAGES else 32,
        image=TeacherImageTower(layers=3, width=64, head_width=32, patch_size=12, image_size=IMAGE_SIZE),
        text=TeacherTower(layers=3, width=64, head_width=32),
    )
    config = TeacherConfig(
        family=family,
        model=model,
        tokenizer=TokenizerConfig(vocab_size=600, context_length=CONTEXT_LENGTH),
        fit=FitConfig(steps=8, batch_size=24, softmax_share=0.75 if family == "siglip2" else None),
    )
    return TeacherSource(config, train_folder, tokenizer, seed=3, precision="fp32")


@pytest.fixture(scope="session")
def teacher_folder(teacher_source: TeacherSource) -> Path:
    return fit_teacher(teacher_source, lambda done, total: None)


@pytest.fixture(scope="session")
def teacher(teacher_folder: Path) -> DualEncoder:
    return load_model(teacher_folder).eval()


@pytest.fixture(scope="session")
def cache_folder(teacher_folder: Path, train_folder: Path) -> Path:
    """Two views of every training image, and every layer."""
    layers = {"image": [0, 1, 2], "text": [0, 1, 2]}
    return build_cache(
        teacher_folder, train_folder, CacheConfig(views=2), layers, seed=5, precision="fp32", progress=lambda *_: None
    )


@pytest.fixture(scope="session")
def cache(cache_folder: Path) -> TeacherCache:
    return TeacherCache.load(cache_folder)


@pytest.fixture(scope="session")
def data_paths(
    train_folder: Path,
    teacher_folder: Path,
    cache_folder: Path,
    cache_root: Path,
    few_captions: CaptionedImages,
    few_questions: VisualQuestions,
) -> Paths:
    few_captions.save(cache_root / "tiny" / "retrieval")
    few_questions.save(cache_root / "tiny" / "vqa")
    return Paths(
        train=str(train_folder),
        retrieval={"": str(cache_root / "tiny" / "retrieval")},
        vqa={"": str(cache_root / "tiny" / "vqa")},
        teacher=str(teacher_folder),
        cache=str(cache_folder),
    )


@pytest.fixture
def plan(data_paths: Paths, teacher: DualEncoder, few_questions: VisualQuestions, tmp_path: Path) -> TrialPlan:
    """Six steps of DR with a student of two layers a tower; tests change what they are about."""
    return TrialPlan(
        number=0,
        seed=11,
        recipe=Recipe(strategy="dr", layer_weight=0.5),
        student=student_spec(
            StudentConfig(image=StudentImageTower(layers=2, width=64), text=StudentTextTower(layers=2, width=64)),
            teacher.spec,
        ),
        training=TrainingConfig(steps=6, batch_size=16, precision="fp32"),
        language_weights={"en": 0.6, "ja": 0.9, "ar": 1.5},
        control_language="en",
        teacher_vqa_accuracy={"": 0.6},
        chance={"": few_questions.chance},
        rungs=(),
        rung_share=0.5,
        threads=1,
        paths=data_paths,
        folder=str(tmp_path),
        workers=0,
        cpus_per_worker=1,
        gpus_per_worker=0,
        retries=1,
        memory_gb=None,
    )
