from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from study.config import StudyConfig, available_presets, dump_config, load_config
from study.errors import UserError
from study.storage_config import storage_url
from trainables.config import comes_to

PRESETS = Path(__file__).parents[2] / "study" / "presets"


def keys(tree: Any, model: type[BaseModel]) -> set[str]:
    """The dotted keys of a tree as deep as its sections are models; a mapping of free keys is one value."""
    found = set()
    for name, value in tree.items():
        section = model.model_fields[name].annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            found |= {f"{name}.{key}" for key in keys(value, section)}
        else:
            found.add(name)
    return found


@pytest.mark.parametrize("preset", available_presets())
def test_a_preset_names_every_key_and_says_how_to_run_it(preset: str) -> None:
    text = (PRESETS / f"{preset}.yaml").read_text(encoding="utf-8")
    config = load_config(preset)
    assert keys(yaml.safe_load(text), StudyConfig) == keys(config.model_dump(), StudyConfig)
    header = text[: text.index("\nname:")].splitlines()
    assert all(line.startswith("#") for line in header)
    assert any(line.startswith(f"#   python -m study.run {preset}") for line in header)


def test_the_written_configuration_reads_back_the_same(tmp_path: Path) -> None:
    config = load_config("emoji_clip", ["search.objectives={vqa_std: minimise, retrieval_map: maximise}"])
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(str(path)) == config
    assert list(load_config(str(path)).search.objectives) == ["retrieval_map", "vqa_std"]  # one order for all


def test_overrides_set_keys_and_the_last_one_holds(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("training: {steps: 90}\nsearch: {trials: 7}\n", encoding="utf-8")
    overrides = ["search.trials=8", "search.trials=9", "data.languages=[en, tr]", "resources.gpus_per_worker=0.5"]
    config = load_config(str(path), [*overrides, "search.constraints={}"], name="other")
    assert (config.name, config.training.steps, config.search.trials) == ("other", 90, 9)
    assert config.data.languages == ("en", "tr")
    assert config.resources.gpus_per_worker == 0.5
    assert config.search.constraints == {}


def test_an_empty_file_is_a_study_of_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n", encoding="utf-8")
    assert load_config(str(path)) == StudyConfig(name="empty")  # its own, not the default study again


def test_data_of_ones_own_is_split_by_splits_or_by_shares(tmp_path: Path) -> None:
    source = f"source: {tmp_path}/rows.csv, layout: wide"
    shares = [f"data.{key}={{{source}, share: {share}}}" for key, share in (
        ("train", [0.0, 0.8]), ("retrieval", [0.8, 0.9]), ("test.retrieval", [0.9, 1.0])
    )]  # fmt: skip
    config = load_config("emoji_clip", shares)
    assert config.data.sources["retrieval"].share == (0.8, 0.9)
    splits = [f"data.train={{{source}}}", f"data.retrieval={{{source}, split: dev}}"]
    assert load_config("emoji_clip", splits).data.sources["train"].split == "train"
    assert load_config("emoji_clip", [f"{share[:-1]}, share_seed: 3}}" for share in shares])
    for override in (
        f"data.retrieval={{{source}, share: [0.7, 0.9]}}",
        f"data.test.retrieval={{{source}}}",
        f"data.retrieval={{{source}, share: [0.8, 0.9], share_seed: 3}}",
    ):
        with pytest.raises(UserError, match=r"use the same items, .* share: \[0, 0\.9\] and share: \[0\.9, 1\]"):
            load_config("emoji_clip", [*shares, override])


def test_questions_are_read_with_their_answers_by_a_teacher_that_has_read_questions(tmp_path: Path) -> None:
    asked = "source: a.csv, layout: cvqa"
    given = [f"data.vqa={{{asked}, share: [0, 0.5]}}", f"data.test.vqa={{{asked}, share: [0.5, 1], prompt: null}}"]
    fitted = load_config("emoji_clip", given)
    pretrained = ["teacher={pretrained: owner/model}", "student={}"]
    published = load_config("emoji_clip", [*given, *pretrained])
    for config, prompt in ((fitted, "{answer}"), (published, "{question} {answer}")):
        assert [config.data.sources[key].prompt for key in ("vqa", "test.vqa")] == [prompt, prompt]
        assert f"prompt: '{prompt}'" in dump_config(config)
    own = [f"{given[0][:-1]}, prompt: 'So: {{answer}}'}}"]
    assert load_config("emoji_clip", own).data.sources["vqa"].prompt == "So: {answer}"


def test_a_path_of_data_stays_itself_when_a_study_goes_on_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sources = {
        "train": "{source: rows.csv, layout: wide}",
        "retrieval": "{source: owner/set, revision: 0a1b2c, layout: wide}",
        "test.retrieval": "{source: 's3://bucket/{language}.csv', layout: per_language, id: id}",
    }
    data = load_config("emoji_clip", [f"data.{key}={value}" for key, value in sources.items()]).data.sources
    assert data["train"].source == str(tmp_path / "rows.csv")
    assert (data["retrieval"].source, data["test.retrieval"].source) == ("owner/set", "s3://bucket/{language}.csv")


def test_only_a_schedule_that_decays_after_its_warmup_needs_steps_for_both() -> None:
    load_config("emoji_clip", ["training.warmup=0.5", "training.decay=0.6", "training.schedule=cosine"])


@pytest.mark.parametrize(
    ("size", "whole", "unit", "expected"),
    [(3, 12, 1, 3), (0.5, 12, 1, 6), (0.5, 5, 1, 3), (0.01, 12, 1, 1), (1.0, 12, 1, 12), (1, 12, 1, 1),
     (0.5, 192, 64, 128), (0.5, 768, 64, 384), (0.1, 192, 64, 64), (1.0, 192, 64, 192), (96, 192, 64, 96)],
)  # fmt: skip
def test_a_share_comes_to_whole_layers_and_heads(size: float, whole: int, unit: int, expected: int) -> None:
    assert comes_to(size, whole, unit) == expected


def test_shares_are_read_and_written_as_they_were_given(tmp_path: Path) -> None:
    given = ["student.image={layers: 0.5, width: 1.0}", "student.text={layers: 1, width: 0.34}"]
    config = load_config("emoji_clip", given)
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    again = load_config(str(path))
    assert again == config
    assert [(type(tower.layers), type(tower.width)) for tower in (again.student.image, again.student.text)] == [
        (float, float),
        (int, float),
    ]


def test_a_database_url_comes_from_the_environment_and_is_never_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config("emoji_clip", ["storage.optuna=env:STUDY_DATABASE"])
    monkeypatch.delenv("STUDY_DATABASE", raising=False)
    with pytest.raises(UserError, match=r"storage\.optuna: .*STUDY_DATABASE is not set.*database URL"):
        storage_url(config.storage, tmp_path)
    monkeypatch.setenv("STUDY_DATABASE", "postgresql://me:secret@host/db")
    assert storage_url(config.storage, tmp_path) == "postgresql://me:secret@host/db"
    assert "secret" not in dump_config(config)
    assert storage_url(load_config("emoji_clip").storage, tmp_path) == f"sqlite:///{tmp_path / 'study.db'}"
