"""The JSON schema and the reference of configurations, held against what `load_config` takes and refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from study.config import available_presets, dump_config, load_config
from study.config_reference import json_schema, main, reference
from study.errors import UserError

ROOT = Path(__file__).parents[2]
PRESETS = ROOT / "study" / "presets"
SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
HUB = "{pretrained: owner/model}"
OWN = "source: a.csv, layout: wide"
ASKED = "source: q.csv, layout: cvqa"


def with_override(override: str) -> dict[str, Any]:
    """The file of the embedded study with one key set, as `load_config` sees it before it checks anything."""
    content: dict[str, Any] = yaml.safe_load((PRESETS / "emoji_clip.yaml").read_text(encoding="utf-8"))
    key, _, value = override.partition("=")
    *path, last = key.split(".")
    branch = content
    for name in path:
        branch = branch.setdefault(name, {})
    branch[last] = yaml.safe_load(value)
    return content


def refused(content: dict[str, Any]) -> set[str]:
    """The sections and keys, dotted, that the schema says are wrong."""
    return {".".join(map(str, error.absolute_path)) for error in VALIDATOR.iter_errors(content)}


def test_it_is_a_schema_of_the_draft_that_it_names() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("preset", available_presets())
def test_it_takes_every_preset_and_what_a_study_writes_of_it(preset: str) -> None:
    assert refused(yaml.safe_load((PRESETS / f"{preset}.yaml").read_text(encoding="utf-8"))) == set()
    if preset.startswith("emoji"):  # the others' teachers are on the hub
        assert refused(yaml.safe_load(dump_config(load_config(preset)))) == set()


@pytest.mark.parametrize(
    "override",
    [
        "student.image.layers=0.5",
        "student.text={layers: 1, width: 1.0, context_length: 16}",
        "search.objectives={retrieval_map: maximise, vqa_std: minimise, vqa_accuracy: maximise}",
        "search.constraints={}",
        "search.scheduler={kind: none}",
        "search.limits={memory_gb: 8, minutes: 1.5}",
        "storage.optuna=env:STUDY_DATABASE",
        "resources={gpus_per_worker: 0.5, concurrent_trials: 3}",
        "tracking.mlflow=env:MY_SERVER",
        "teacher={family: siglip2, fit: {softmax_share: 0.7}}",
        "teacher={model: null, fit: {}}",
        "data={}",
        f"data.train={{drawings: {{source: emoji, weight: 3}}, photos: {{{OWN}, columns: {{en: a, es: b}}, weight: 1}}}}",
        f"data.train={{{OWN}, id: id, columns: 'caption_{{language}}', share: [0, 0.9]}}",
        "data.retrieval={source: 'test/{language}.jsonl', layout: per_language, id: id, names: {zh: cn}}",
        f"data.vqa={{{ASKED}, names: {{es: Spanish, ar: [a, b]}}, translation: {{language: en}}, prompt: null}}",
    ],
)
def test_it_takes_what_a_configuration_may_say_in_several_ways(override: str) -> None:
    assert refused(with_override(override)) == set()


def test_it_takes_students_of_pretrained_teachers_whose_sizes_are_left_out(tmp_path: Path) -> None:
    content = {"teacher": yaml.safe_load(HUB), "student": {"image": {"image_size": 224}, "text": {"layers": 6}}}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert load_config(str(path)).student.text.layers == 6
    assert refused(content) == set()
    assert refused({"student": content["student"]}) == {
        "student.image",
        "student.text",
    }  # of a fitted one they are needed


def test_it_takes_the_data_of_the_documentation() -> None:
    def first_yaml(page: str, heading: str) -> str:
        section = (ROOT / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
        return section.partition("```yaml\n")[2].partition("```")[0]

    own, several = first_yaml("README.md", "Your own data"), first_yaml("docs/data.md", "Several sources")
    assert "layout: cvqa" in own
    assert refused(yaml.safe_load(own)) == set()
    # The second one repeats sources of the first.
    both = yaml.safe_load(f"{own}several:\n{textwrap.indent(several, '  ')}")
    assert set(both["several"]["data"]["vqa"]) == {"cvqa", "general"}
    assert refused(both["several"]) == set()


# An override, and the section or key that the schema finds fault with.
MISTAKES = [
    ("serch={trials: 3}", ""),
    ("search.trails=3", "search"),
    ("teacher.model.image.layer=3", "teacher.model"),
    ("search.constraints.vqa_std={mox: 3}", "search.constraints.vqa_std"),
    ("search.trials=many", "search.trials"),
    ("search.trials=true", "search.trials"),
    ("search.trials=0", "search.trials"),
    ("search.trials=", "search.trials"),
    ("training=fast", "training"),
    ("training.warmup=1.0", "training.warmup"),
    ("training.steps=1.5", "training.steps"),
    ("data.languages=en", "data.languages"),
    ("data.languages=[en, English]", "data.languages.1"),
    ("tracking.tensorboard=maybe", "tracking.tensorboard"),
    ("resources.concurrent_trials=some", "resources.concurrent_trials"),
    ("search.sampler=nsga", "search.sampler"),
    ("search.scheduler.kind=asha", "search.scheduler.kind"),
    ("search.scheduler.rungs=[0]", "search.scheduler.rungs.0"),
    ("search.scheduler.reduction=1", "search.scheduler.reduction"),
    ("search.objectives={retrieval_mapp: maximise, vqa_std: minimise}", "search.objectives"),
    ("search.objectives={retrieval_map: maximise}", "search.objectives"),
    ("search.objectives.vqa_variance=minimize", "search.objectives.vqa_variance"),
    ("search.constraints={vqa_lift: {min: 0.5}}", "search.constraints"),
    ("data.train.splt=test", "data.train"),
    ("data.train=emoji", "data.train"),
    ("data.train={source: emojo}", "data.train"),
    ("data.train={layout: wide}", "data.train"),
    (f"data.train={{{OWN}, share: [0.5, 1.5]}}", "data.train"),
    (f"data.train={{{OWN}, imge: x}}", "data.train"),
    (f"data.train={{my photos: {{{OWN}}}}}", "data.train"),
    (f"data.vqa={{{OWN}}}", "data.vqa"),
    (f"data.vqa={{{ASKED}, prompt: '{{question}}'}}", "data.vqa"),
    ("student.text.layers=0", "student.text.layers"),
    ("student.text.layers=1.5", "student.text.layers"),
    ("student.text.width=half", "student.text.width"),
    ("student.text={layers: 1}", "student.text"),
    ("student.vocabulary=trim", "student.vocabulary"),
    ("teacher.family=siglip", "teacher.family"),
    ("teacher.fit.softmax_share=1.0", "teacher.fit"),
    ("name=a/b", "name"),
    ("seed=-1", "seed"),
    ("storage.optuna=postgresql://me:secret@host/db", "storage.optuna"),
]


@pytest.mark.parametrize(("override", "place"), MISTAKES, ids=[override for override, _ in MISTAKES])
def test_it_refuses_mistakes_where_they_are(override: str, place: str) -> None:
    with pytest.raises(UserError):
        load_config("emoji_clip", [override])
    assert refused(with_override(override)) == {place}


def test_every_key_says_what_it_means() -> None:
    def silent(place: str, section: dict[str, Any]) -> Iterator[str]:
        for key, value in section.get("properties", {}).items():
            is_section = "$ref" in value and SCHEMA["$defs"][value["$ref"].rpartition("/")[2]].get("description")
            if not value.get("description") and not is_section:
                yield f"{place}.{key}"

    sections = {"": SCHEMA, **SCHEMA["$defs"]}
    unknown = [key for place, section in sections.items() for key in silent(place, section)]
    assert unknown == []
    assert SCHEMA["$defs"]["SchedulerConfig"]["properties"]["brackets"]["default"] == 1
    assert SCHEMA["$defs"]["DataConfig"]["properties"]["train"]["default"]["source"] == "emoji"  # as it is written


def test_the_page_is_what_the_code_says_now() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == reference(), "python -m study.config reference writes it anew"


def test_the_command_tells_without_loading_anything_slow() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "study.config", "schema"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == SCHEMA
    imported = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert imported & {"pydantic", "ray", "torch", "transformers"} == {"pydantic"}


def test_the_page_goes_where_it_is_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", "--to", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == reference()
    capsys.readouterr()
    assert main(["schema", "--to", str(tmp_path / "gone" / "schema.json")]) == 2
    said = capsys.readouterr().err
    assert said == f"study.config: {tmp_path / 'gone' / 'schema.json'}: No such file or directory\n"
