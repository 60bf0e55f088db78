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


# An override, the key that the message names, and what else it says: the value, and what would be right.
MISTAKES = [
    ("serch.trials=3", "serch", ["unknown", "did you mean search?"]),
    ("search.trails=3", "search.trails", ["unknown", "did you mean search.trials?"]),
    ("teacher.model.image.layer=3", "teacher.model.image.layer", ["did you mean teacher.model.image.layers?"]),
    ("search.constraints.vqa_std.mox=3", "search.constraints.vqa_std.mox", ["unknown", "max"]),
    ("zzz=3", "zzz", ["unknown", "there are name, seed, storage"]),
    ("search.trials=many", "search.trials", ["integer", "'many'"]),
    ("search.trials=true", "search.trials", ["integer", "True"]),
    ("search.trials=0", "search.trials", ["greater than or equal to 1", "not 0"]),
    ("search.trials=", "search.trials", ["integer", "empty"]),
    ("training=fast", "training", ["section", "'fast'"]),
    ("data.languages=en", "data.languages", ["a list, for example [en, de]", "'en'"]),
    ("tracking.tensorboard=maybe", "tracking.tensorboard", ["true or false", "'maybe'"]),
    ("resources.concurrent_trials=some", "resources.concurrent_trials:", ["auto", "'some'"]),
    ("resources.gpus_per_worker=1.5", "resources: gpus_per_worker:", ["1.5", "whole number"]),
    ("resources={workers_per_trial: 2, gpus_per_worker: 0.5}", "resources: gpus_per_worker:", ["0.5", "NCCL"]),
    ("resources.concurrent_trials=0", "resources.concurrent_trials:", ["greater than or equal to 1", "not 0"]),
    ("training.warmup=.nan", "training.warmup", ["nan"]),
    ("search.sampler=nsga", "search.sampler", ["'tpe'", "did you mean nsga2?", "'nsga'"]),
    ("search.scheduler.kind=asha", "search.scheduler.kind", ["did you mean moasha?", "'none'", "'asha'"]),
    ("search.objectives={retrieval_mapp: maximise, vqa_std: minimise}", "search.objectives.retrieval_mapp", ["did you mean retrieval_map?"]),
    ("search.objectives.vqa_variance=minimize", "search.objectives.vqa_variance", ["did you mean minimise?"]),
    ("search.objectives={retrieval_map: maximise}", "search.objectives", ["at least two", "vqa_variance"]),
    ("search.constraints={vqa_std: {}}", "search.constraints.vqa_std", ["min or a max"]),
    ("search.constraints={vqa_std: {min: 3.0, max: 2.0}}", "search.constraints.vqa_std", ["at least 3 and at most 2"]),
    ("search.scheduler.rungs=[30, 80]", "search.scheduler.rungs", ["80", "training.steps, 80"]),
    ("search.scheduler.rungs=[30, 20]", "search.scheduler.rungs", ["[30, 20]", "increasing"]),
    ("search.scheduler.rungs=[0]", "search.scheduler.rungs.0", ["greater than or equal to 1", "not 0"]),
    ("data.languages=[en, xx]", "data: languages", ["'xx'", "en es ja"]),
    ("data.languages=[en, es, es]", "data.languages", ["'es'", "twice"]),
    ("data.languages=[es, ja]", "data.languages", ["English (en)", "must be listed"]),
    ("data.languages=[en]", "data.languages", ["at least two"]),
    ("data.retrieval.split=test", "data", ["different splits"]),
    ("data.train.split=test", "data", ["train.split", "not test"]),
    ("data.languages=[en, EN]", "data.languages", ["'EN'", "such as de, pt-BR"]),
    ("data.train.splt=test", "data.train.splt", ["unknown", "did you mean data.train.split?"]),
    ("data.train=emoji", "data.train", ["section of keys", "'emoji'"]),
    ("data.train={source: emojo}", "data.train: layout", ["emojo needs one", "did you mean source: emoji?"]),
    ("data.train={source: a.csv, layout: wid}", "data.train: layout", ["did you mean wide?", "'wid'"]),
    ("data.vqa={source: a.csv, layout: wide}", "data.vqa: layout", ["should be cvqa", "'wide'"]),
    ("data.train={layout: wide}", "data.train.source", ["is required"]),
    ("data.train={source: a.csv, layout: wide, imge: x}", "data.train.imge", ["did you mean data.train.image?"]),
    ("data.train={source: a.csv, layout: wide, columns: caption}", "data.train.columns", ["'caption' has no {language}"]),
    ("data.train={source: a.csv, layout: wide, columns: {en: x}}", "train.columns", ["none for language es", "there are en"]),
    ("data.train={source: a.csv, layout: wide, columns: 3}", "data.train.columns", ["string", "section", "not 3"]),
    ("data.train={source: a.csv, layout: wide, share: [0.5, 0.5]}", "data.train.share", ["0.5 to 0.5", "smaller"]),
    ("data.train={source: a.csv, layout: wide, max_bad: 2}", "data.train.max_bad", ["less than or equal to 1", "not 2"]),
    ("data.train={source: 'https://me:secret@host/a.csv', layout: wide}", "data.train", ["https://host has a user or a password", "environment"]),
    ("data.train={source: 's3://me:secret@bucket/a.csv'}", "data.train", ["s3://bucket has a user or a password", "environment"]),
    ("data.train={source: 'https://host/a.csv?token=secret', layout: wide}", "data.train", ["https://host/a.csv has more", "a query"]),
    ("data.train={source: a.csv, layout: wide, share_seed: -1}", "data.train.share_seed", ["greater than or equal to 0", "not -1"]),
    ("data.train={source: ./a.csv/b, revision: main, layout: wide}", "data.train.source", ["'./a.csv/b'", "owner/name"]),
    ("data.train={source: a.csv, layout: per_language}", "data.train.id", ["is required"]),
    ("data.train={source: a.csv, layout: per_language, id: x}", "data.train", ["write {language} in source, config or split"]),
    ("data.vqa={source: a.csv, layout: cvqa, prompt: '{question}'}", "data.vqa.prompt", ["'{question}'", "{answer}"]),
    ("data.vqa={source: a.csv, layout: cvqa, prompt: '{answer.x}'}", "data.vqa.prompt", ["no other braces"]),
    ("data.vqa={source: a.csv, layout: cvqa, translation: {langage: en}}", "data.vqa.translation.langage", ["did you mean data.vqa.translation.language?"]),
    ("data.vqa={source: a.csv, layout: cvqa, translation: {language: xx}}", "vqa.translation.language", ["'xx'", "en es ja"]),
    ("student.text.layers=5", "student.text.layers", ["5", "at most 4"]),
    ("student.text.layers=0", "student.text.layers", ["whole number from 1 on, or a share", "not 0"]),
    ("student.text.layers=1.5", "student.text.layers", ["share of the teacher's, above 0.0 and up to 1.0", "not 1.5"]),
    ("student.text.width=0.0", "student.text.width", ["share", "not 0.0"]),
    ("student.text.width=half", "student.text.width", ["share", "not 'half'"]),
    ("student.text.layers=true", "student.text.layers", ["share", "not True"]),
    ("student.image.width=100", "student.image.width", ["100", "multiple", "64", "0.5"]),
    ("student.image.image_size=40", "student.image.image_size", ["40", "multiple of the patch size 16"]),
    ("student.image.patch_size=9", "student.image.image_size", ["48", "multiple of the patch size 9"]),
    ("student.image.image_size=64", "student.image.image_size", ["64", "48 (teacher.model.image.image_size)"]),
    ("student.text.context_length=33", "student.text.context_length", ["33", "32 (teacher.tokenizer.context_length)"]),
    ("student.text.context_length=3", "student.text.context_length", ["greater than or equal to 4", "not 3"]),
    ("student.vocabulary=trim", "student.vocabulary", ["did you mean trimmed?", "'trim'"]),
    ("student.inherit=first", "student.inherit", ["'leading'", "'first'"]),
    ("teacher.model.text.width=100", "teacher.model.text.width", ["100", "multiple", "64"]),
    ("teacher.model.image.image_size=50", "teacher.model.image.image_size", ["50", "multiple", "16"]),
    ("teacher.family=siglip", "teacher.family", ["did you mean siglip2?", "'siglip'"]),
    ("teacher.family=siglip2", "teacher: fit.softmax_share", ["siglip2 needs a number", "for example 0.7"]),
    ("teacher.fit.softmax_share=0.5", "teacher: fit.softmax_share", ["0.5", "clip", "make it null"]),
    ("teacher.fit.softmax_share=1.0", "teacher.fit.softmax_share", ["less than 1", "not 1.0"]),
    ("name=a/b", "name", ["'a/b'", "letters"]),
    ("name=..", "name", ["'..'", "letters"]),
    ("storage.optuna=postgresql://me:secret@host/db", "storage.optuna", ["env:"]),
]  # fmt: skip


@pytest.mark.parametrize(("override", "key", "hints"), MISTAKES, ids=[mistake[0] for mistake in MISTAKES])
def test_a_mistake_is_one_line_that_names_file_key_value_and_what_would_be_right(
    override: str, key: str, hints: list[str]
) -> None:
    with pytest.raises(UserError) as raised:
        load_config("emoji_clip", [override])
    message = str(raised.value)
    assert "\n" not in message
    # What the override alone made wrong is its own mistake, what it broke between two keys the configuration's.
    assert message.startswith(("--set: ", f"{PRESETS / 'emoji_clip.yaml'}: "))
    assert key in message
    assert "secret" not in message
    assert all(hint in message for hint in hints), message


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


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["student.image.width=128"],
            r"student\.image\.width: 128 is not teacher\.model\.embed_dim, 192: siglip2 does",
        ),
        (
            ["student.image.width=0.5"],
            r"student\.image\.width: 0\.5, that is 128, is not teacher\.model\.embed_dim, 192: siglip2 does",
        ),
        (["teacher.model.embed_dim=256"], r"teacher\.model\.image\.width: 192 is not teacher\.model\.embed_dim, 256"),
    ],
)
def test_a_width_of_images_that_siglip2_cannot_have_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config("emoji_siglip2", overrides)


def test_a_schedule_that_needs_more_than_all_steps_is_refused() -> None:
    with pytest.raises(UserError, match=r"training: warmup 0\.5 and decay 0\.6 are more than all steps"):
        load_config("emoji_clip", ["training.warmup=0.5", "training.decay=0.6"])
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


def test_a_batch_that_workers_cannot_share_is_refused() -> None:
    with pytest.raises(UserError, match=r"training\.batch_size: 64 is not a multiple of .*workers_per_trial, 3"):
        load_config("emoji_clip", ["training.batch_size=64", "resources.workers_per_trial=3"])
    with pytest.raises(UserError, match=r"training\.accumulation: 3 does not divide training\.batch_size, 64"):
        load_config("emoji_clip", ["training.batch_size=64", "training.accumulation=3"])
    with pytest.raises(UserError, match=r"training\.accumulation: 4 times resources.workers_per_trial, 2 does not div"):
        load_config("emoji_clip", ["training.batch_size=4", "training.accumulation=4", "resources.workers_per_trial=2"])


@pytest.mark.parametrize(
    ("override", "hints"),
    [
        ("search.trials", ["KEY=VALUE", "--set search.trials=40"]),
        ("=3", ["KEY=VALUE"]),
        ("search.trials=[", ["'['", "not YAML"]),
        ("search.trials.most=3", ["trials is a value"]),
    ],
)
def test_an_override_that_cannot_be_read_is_one_line_that_repeats_it(override: str, hints: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        load_config("emoji_clip", [override])
    message = str(raised.value)
    assert message.startswith(f"--set {override}: ")
    assert "\n" not in message
    assert all(hint in message for hint in hints), message


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"search: {trials: 3", "YAML"),
        (b"a: 1\n\tb: 2\n", "YAML"),
        (b"seed: 1\nsearch: {trials: 3}\nseed: 2\n", "the key seed is there twice"),
        (b"search: {trials: 3, trials: 4}\n", "the key trials is there twice"),
        (b"? [a, b]\n: 1\n", "YAML"),
        (b"\xff\xfe\x00", "YAML"),
        (b"- name\n- seed\n", "mapping"),
        (b"name\n", "mapping"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_by_its_name(tmp_path: Path, content: bytes, hint: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        load_config(str(path))
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert hint in message


def test_a_preset_that_does_not_exist_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UserError, match=r"'emoji_clop': did you mean emoji_clip\? presets are"):
        load_config("emoji_clop")
    with pytest.raises(UserError, match=r"'runs/': presets are .*path of a YAML file"):
        load_config("runs/")


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
