"""Where checkpoints come from, and what becomes of damaged ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainables.models.checkpoints import TEXTS, Kind, save_checkpoint
from trainables.models.checkpoint import CheckpointError
from trainables.models.factory import parameter_count
from trainables.models.pretrained import load_pretrained, open_checkpoint, pretrained_tokenizer
from trainables.models.spec import ImageTower, ModelSpec, TextTower

COMMIT, OTHER = "a" * 40, "b" * 40
# The hub's client reads its settings when it is imported: a process of its own sees the cache as a user's would.
LOAD = """
import json, sys, torch
from trainables.models.factory import parameter_count
from trainables.models.pretrained import load_pretrained, open_checkpoint, pretrained_tokenizer
for source, revision in json.loads(sys.argv[1]):
    checkpoint = open_checkpoint(source, revision)
    tokens = torch.tensor(pretrained_tokenizer(checkpoint).encode(["two cats"]), dtype=torch.long)
    with torch.no_grad():
        row = load_pretrained(checkpoint, None).eval().encode_text(tokens).embedding[0]
    print(json.dumps({"identity": checkpoint.identity(), "embedding": row.tolist()}))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the hub's client that holds two repositories, one with two commits."""
    root = tmp_path_factory.mktemp("hub")
    kinds: tuple[Kind, ...] = ("siglip2", "xlm-r")
    for kind in kinds:
        folder = root / f"models--org--{kind}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(COMMIT, encoding="utf-8")
        save_checkpoint(kind, folder / "snapshots" / COMMIT)
    newer = root / "models--org--siglip2" / "snapshots"
    shutil.copytree(newer / COMMIT, newer / OTHER)
    return root


def test_hub_ids_are_taken_from_the_hubs_cache_at_one_commit(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("POLYDISTILL_CACHE", str(tmp_path))
    config = hub / "models--org--xlm-r" / "snapshots" / COMMIT / "open_clip_config.json"
    content = json.loads(config.read_text(encoding="utf-8"))
    # On the hub, open_clip takes a tokenizer by the name that the configuration gives.
    content["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "org/xlm-r"
    config.write_text(json.dumps(content), encoding="utf-8")
    sources = [("org/siglip2", None), ("hf-hub:org/siglip2", OTHER), ("hf-hub:org/xlm-r", None)]
    done = subprocess.run([sys.executable, "-c", LOAD, json.dumps(sources)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for (source, revision), line in zip(sources, done.stdout.splitlines(), strict=True):
        found, name, commit = json.loads(line), source.removeprefix("hf-hub:"), revision or COMMIT
        assert found["identity"][name] == commit
        local = open_checkpoint(str(hub / f"models--{name.replace('/', '--')}" / "snapshots" / commit), None)
        tokens = torch.tensor(pretrained_tokenizer(local).encode(["two cats"]), dtype=torch.long)
        with torch.no_grad():
            row = load_pretrained(local, None).eval().encode_text(tokens).embedding[0]
        torch.testing.assert_close(torch.tensor(found["embedding"]), row, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("source", "revision"), [("org/none", ""), ("org/siglip2", "v9")])
def test_what_the_hub_does_not_have_is_refused_in_one_line(
    hub: Path, source: str, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    command = [sys.executable, "-m", "trainables.models.pretrained", source]
    done = subprocess.run(
        [*command, *(["--revision", revision] if revision else [])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    message = json.loads(done.stdout)["mistake"]
    assert message.startswith(f"{source}{' at revision v9' if revision else ''} is neither a folder nor ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("xlm-roberta-base-ViT-B-32:laion5b_s13b", "did you mean xlm-roberta-base-ViT-B-32:laion5b_s13b_b90k?"),
        ("ViT-B-32:openai", "take ViT-B-32-quickgelu:openai"),
        ("RN50-quickgelu:cc12m", "has a convolutional image tower"),
        ("convnext_base:laion400m_s13b_b51k", "is no plain vision transformer"),
        ("ViT-L-14-CLIPA:datacomp1b", "marks texts in a way of its own"),
        ("coca_ViT-B-32:laion2b_s13b_b90k", "only dual encoders can be teachers"),
    ],
)
def test_an_entry_of_open_clips_list_that_cannot_be_a_teacher_is_refused(source: str, reason: str) -> None:
    with pytest.raises(CheckpointError) as raised:
        open_checkpoint(source, None).spec(None)
    assert reason in str(raised.value)


@pytest.mark.parametrize(
    ("source", "sizes"),
    [
        ("ViT-B-32-quickgelu:openai", (12, 768, 64, 3072, 32, 224, 12, 512, 64, 2048, 77, 49408)),
        ("ViT-B-16-SigLIP2:webli", (12, 768, 64, 3072, 16, 224, 12, 768, 64, 3072, 64, 256000)),
    ],
)
def test_sizes_of_open_clips_list_are_known_without_its_weights(source: str, sizes: tuple[int, ...]) -> None:
    spec = open_checkpoint(source, None).spec(None)
    image, text = spec.image, spec.text
    found = (image.layers, image.width, image.head_width, image.mlp_width, image.patch_size, image.image_size)
    assert found == sizes[:6]
    assert (text.layers, text.width, text.head_width, text.mlp_width, text.context_length, text.vocab_size) == sizes[6:]


def test_parameters_of_published_architectures_are_as_many_as_published() -> None:
    assert parameter_count(open_checkpoint("ViT-B-32-quickgelu:openai", None).spec(None)) == 151_277_313
    siglip2 = ModelSpec(  # google/siglip2-base-patch16-224
        family="siglip2",
        embed_dim=768,
        image=ImageTower(layers=12, width=768, patch_size=16, image_size=224),
        text=TextTower(layers=12, width=768, context_length=64, vocab_size=256_000),
    )
    assert parameter_count(siglip2) == 375_187_970


def test_a_resolution_is_chosen_only_where_the_architecture_takes_several(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(str(save_checkpoint("siglip2", tmp_path)), None)
    with pytest.raises(CheckpointError, match=r"takes images of 32: teacher\.image_size is for NaFlex"):
        checkpoint.spec(64)


def test_the_first_siglip_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint("siglip2", tmp_path)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "SiglipTokenizer"}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="is the first SigLIP"):
        open_checkpoint(str(folder), None).spec(None)


@pytest.mark.parametrize("content", [None, "{"])
def test_a_damaged_configuration_is_refused(content: str | None, tmp_path: Path) -> None:
    folder = save_checkpoint("siglip2", tmp_path)
    for name in ("preprocessor_config.json", "processor_config.json"):
        (folder / name).unlink(missing_ok=True)
    if content is not None:
        (folder / "preprocessor_config.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot be read by transformers"):
        open_checkpoint(str(folder), None).spec(None)


def remove_weights(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        path.unlink()


def cut_weights(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-100])


def drop_a_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    (path,) = folder.glob("*.safetensors")
    state = load_file(path)
    del state[max(state)]
    save_file(state, path, metadata={"format": "pt"})


@pytest.mark.parametrize("kind", ["siglip2", "native"])
@pytest.mark.parametrize("damage", [remove_weights, cut_weights, drop_a_tensor])
def test_weights_that_do_not_fit_are_refused(kind: Kind, damage: Callable[[Path], None], tmp_path: Path) -> None:
    folder = save_checkpoint(kind, tmp_path / kind)
    damage(folder)
    with pytest.raises(CheckpointError, match="weights") as raised:
        load_pretrained(open_checkpoint(str(folder), None), None)
    assert "\n" not in str(raised.value)


def test_weights_that_hold_code_are_not_run(tmp_path: Path) -> None:
    folder = save_checkpoint("native", tmp_path / "native")
    remove_weights(folder)
    mark = tmp_path / "was run"

    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (mark,)  # type: ignore[return-value]

    torch.save({"state_dict": {"logit_scale": Code()}}, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be used"):
        load_pretrained(open_checkpoint(str(folder), None), None)
    assert not mark.exists()


def test_a_checkpoint_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint("siglip2", tmp_path / "siglip2")
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(CheckpointError, match=r"it needs a tokenizer\.json"):
        pretrained_tokenizer(open_checkpoint(str(folder), None))


def test_content_decides_what_a_checkpoint_is_known_by(tmp_path: Path) -> None:
    folder = save_checkpoint("siglip2", tmp_path / "one")
    shutil.copytree(folder, tmp_path / "two")
    first, same = (open_checkpoint(str(tmp_path / name), None).identity() for name in ("one", "two"))
    cut_weights(tmp_path / "two")
    assert first == same != open_checkpoint(str(tmp_path / "two"), None).identity()


def test_decoded_texts_are_those_that_were_encoded(tmp_path: Path) -> None:
    kinds: tuple[Kind, ...] = ("siglip2", "native", "xlm-r")
    for kind in kinds:
        tokenizer = pretrained_tokenizer(open_checkpoint(str(save_checkpoint(kind, tmp_path / kind)), None))
        names = [text.lower() for text in TEXTS[:5]]
        assert tokenizer.decode(tokenizer.encode(names)) == names


@pytest.mark.parametrize("kind", ["siglip2", "native", "xlm-r", "nllb"])
def test_texts_of_published_tokenizers_are_measured_before_they_are_cut(kind: Kind, tmp_path: Path) -> None:
    tokenizer = pretrained_tokenizer(open_checkpoint(str(save_checkpoint(kind, tmp_path / kind)), None))
    texts = [*TEXTS, " ".join(TEXTS)]
    lengths, unknown = tokenizer.measure(texts)
    tokens = tokenizer.encode(texts)
    filled = np.where(tokens != tokenizer.pad_id, np.arange(1, tokens.shape[1] + 1), 0).max(axis=1)
    np.testing.assert_array_equal(np.minimum(lengths, tokenizer.context_length), filled)
    assert lengths[-1] > tokenizer.context_length
    assert (unknown <= lengths - tokenizer.marks).all()
    if kind == "native":  # its vocabulary falls back to bytes, and names its end mark as the unknown token
        assert not unknown.any()
