"""What a smaller student starts from: consistent parts of its teacher, held against models whose rest is nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2 import functional as vision

from tests.trainables.models.tiny import CONTEXT, VOCABULARY, pictures, texts, tiny_spec
from trainables.axes import axes_of
from trainables.config import StudentConfig, StudentImageTower, StudentTextTower
from trainables.inheritance import Parts, TowerSizes
from trainables.models.dual_encoder import DualEncoder
from trainables.models.factory import build_model
from trainables.recipe import Recipe
from trainables.student import make_student, student_spec

HEAD = 16
SMALL, LARGE = 2 * HEAD, 4 * HEAD  # widths

CLIP = {"patch_size": 12, "image_size": 24}


def native(part: str, width: int) -> nn.Module:
    spec = tiny_spec("clip")
    image = spec.image.model_copy(update={"width": width, "head_width": HEAD})
    text = spec.text.model_copy(update={"width": width, "head_width": HEAD})
    model = build_model(spec.model_copy(update={"image": image, "text": text}), seed=3)
    return nn.ModuleDict({part: getattr(model.clip, part)})


def siglip(part: str, width: int) -> nn.Module:
    from transformers import SiglipConfig, SiglipModel

    sizes = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": width // HEAD,
    }
    text = {"vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT, "projection_size": 24, "pad_token_id": 0}
    config = SiglipConfig(vision_config={**sizes, **CLIP}, text_config={**sizes, **text})
    return nn.ModuleDict({part: getattr(SiglipModel(config), part)})


def naflex(width: int) -> nn.Module:
    from transformers import Siglip2VisionConfig, Siglip2VisionModel

    sizes = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": width // HEAD,
    }
    model = Siglip2VisionModel(Siglip2VisionConfig(**sizes, patch_size=12, num_patches=4))
    return nn.ModuleDict({"vision_model": model})


def xlm_roberta(width: int) -> nn.Module:
    from open_clip.hf_model import HFTextEncoder
    from transformers import XLMRobertaConfig

    config = XLMRobertaConfig(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=2,
        num_attention_heads=width // HEAD, max_position_embeddings=CONTEXT + 2,
    )  # fmt: skip
    return nn.ModuleDict({"text": HFTextEncoder("", 24, config=config, proj_type="linear", pretrained=False)})


def m2m100(width: int) -> nn.Module:
    from open_clip.hf_model import HFTextEncoder
    from transformers import M2M100Config

    config = M2M100Config(
        vocab_size=VOCABULARY, d_model=width, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width, encoder_layers=2,
        decoder_layers=1, encoder_attention_heads=width // HEAD, decoder_attention_heads=width // HEAD,
    )  # fmt: skip
    tower = HFTextEncoder("", 24, config=config, proj_type="linear", pooler_type="cls_pooler", pretrained=False)
    tower.transformer = tower.transformer.encoder
    return nn.ModuleDict({"text": tower})


def timm_vit(width: int) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    trunk = VisionTransformer(
        img_size=24, patch_size=12, embed_dim=width, depth=2, num_heads=width // HEAD, num_classes=24,
        class_token=False, global_pool="map",
    )  # fmt: skip
    return nn.ModuleDict({"visual": nn.ModuleDict({"trunk": trunk})})


TOWERS: dict[str, tuple[Callable[[int], nn.Module], Callable[[Any], Tensor]]] = {
    "open_clip image": (lambda width: native("visual", width), lambda model: model["visual"](PIXELS)),
    "open_clip text": (lambda width: native("text", width), lambda model: model["text"](TOKENS)),
    "siglip image": (
        lambda width: siglip("vision_model", width),
        lambda model: model["vision_model"](PIXELS).pooler_output,
    ),
    "siglip text": (lambda width: siglip("text_model", width), lambda model: model["text_model"](TOKENS).pooler_output),
    "naflex image": (
        naflex,
        lambda model: (
            model["vision_model"](
                PIXELS.unfold(2, 12, 12).unfold(3, 12, 12).permute(0, 2, 3, 4, 5, 1).reshape(4, 4, -1),
                torch.ones(4, 4),
                torch.tensor([[2, 2]] * 4),
            ).pooler_output
        ),
    ),
    "timm image": (timm_vit, lambda model: model["visual"]["trunk"](PIXELS)),
    "xlm-roberta text": (xlm_roberta, lambda model: model["text"](TOKENS)),
}
PIXELS = pictures(4).permute(0, 3, 1, 2).float() / 255
TOKENS = texts(4)
KINDS = {"width": "width", "norm": "width", "heads": "heads", "kv": "heads", "qkv": "heads", "mlp": "mlp"}


def prepared_small(model: nn.Module) -> nn.Module:
    """With weights such that no channel is written with a mean, and variances are far above what norms add to them."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            axes, _ = axes_of(name, tensor.ndim)
            if "norm" in axes and "LayerNorm" not in name and "ln_pre" not in name:  # those two write the stream
                tensor.add_(0.3 * torch.randn(tensor.shape, generator=generator))
            elif "norm" not in axes:
                tensor.add_(0.02 * torch.randn(tensor.shape, generator=generator))
                if not {"heads", "qkv", "kv", "mlp"} & set(axes):
                    tensor.mul_(100)
            for place, axis in enumerate(axes):
                if axis == "width":
                    tensor.sub_(tensor.mean(dim=place, keepdim=True))
    return model


class Enlarged:
    """The same function in a wider model: the small one's parts at random places, and zeros everywhere else."""

    def __init__(self, small: nn.Module, large: nn.Module) -> None:
        self._generator = torch.Generator().manual_seed(6)
        self._places: dict[tuple[str, str], Tensor] = {}
        self.model = large
        with torch.no_grad():
            for name, tensor in small.state_dict().items():
                target, (axes, block) = large.state_dict()[name], axes_of(name, tensor.ndim)
                grown = tensor * (SMALL / LARGE) ** 0.5 if "norm" in axes and name.endswith("weight") else tensor
                for place, axis in enumerate(axes):
                    if grown.shape[place] != target.shape[place]:
                        rows = self.rows(axis, block, grown.shape[place])
                        shape = [*grown.shape[:place], target.shape[place], *grown.shape[place + 1 :]]
                        grown = torch.zeros(shape).index_copy(place, rows, grown)
                target.copy_(grown)

    def rows(self, axis: str, block: str, size: int) -> Tensor:
        kind = KINDS[axis]
        unit = HEAD if kind == "heads" else 1
        times = {"kv": 2, "qkv": 3}.get(axis, 1)
        count = size // times // unit
        key = (kind, "" if kind == "width" else block)
        if key not in self._places:
            self._places[key] = torch.randperm(2 * count, generator=self._generator)[:count].sort().values
        starts = torch.cat([2 * count * unit * time + self._places[key] * unit for time in range(times)])
        return torch.cat([start + torch.arange(unit) for start in starts])

    @property
    def channels(self) -> Tensor:
        return self._places["width", ""]


@pytest.mark.parametrize("tower", TOWERS)
def test_a_student_of_a_teacher_whose_rest_is_zero_computes_what_its_teacher_does(tower: str) -> None:
    build, run = TOWERS[tower]
    small = prepared_small(build(SMALL)).eval()
    enlarged = Enlarged(small, build(LARGE))
    teacher, student = enlarged.model.eval(), build(SMALL).eval()
    with torch.no_grad():
        parts = Parts("important", TowerSizes(HEAD), teacher.state_dict())
        for name, tensor in student.state_dict().items():
            tensor.copy_(parts.take(name, tensor.shape))
            torch.testing.assert_close(tensor, small.state_dict()[name], msg=name)
        expected, found = run(teacher), run(student)
    if expected.shape != found.shape:  # what SigLIP makes of an image is as wide as its tower
        assert expected.abs().sum() == pytest.approx(float(expected[:, enlarged.channels].abs().sum()))
        expected = expected[:, enlarged.channels]
    assert found.std(dim=0).min() > 1e-3
    expected, found = functional.normalize(expected, dim=-1), functional.normalize(found, dim=-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("build", [m2m100, *(build for build, _ in TOWERS.values())])
def test_every_tensor_of_a_narrower_tower_has_a_start(build: Callable[[int], nn.Module]) -> None:
    parts = Parts("leading", TowerSizes(HEAD), build(LARGE).state_dict())
    for name, tensor in build(SMALL).state_dict().items():
        found = parts.take(name, tensor.shape)
        assert found is not None, name
        assert found.shape == tensor.shape, name


@pytest.fixture(scope="module")
def clip() -> DualEncoder:
    spec = tiny_spec("clip")
    return build_model(spec.model_copy(update={"text": spec.text.model_copy(update={"head_width": HEAD})}), seed=1)


def smaller(teacher: DualEncoder, **sizes: dict[str, Any]) -> DualEncoder:
    image = StudentImageTower(**({"layers": 1.0, "width": 1.0} | sizes.get("image", {})))
    text = StudentTextTower(**({"layers": 1.0, "width": 1.0} | sizes.get("text", {})))
    spec = student_spec(StudentConfig(image=image, text=text), teacher.spec)
    return make_student(spec, teacher, Recipe(strategy="fd"), seed=2, inherit=sizes.get("inherit", "important"))


def test_heads_and_neurons_of_the_largest_magnitude_are_inherited(clip: DualEncoder) -> None:
    student = smaller(clip, text={"width": 0.5})
    for place in range(2):
        state = {name: tensor.double() for name, tensor in clip.layers("text")[place].state_dict().items()}
        magnitudes = []
        for head in range(4):
            rows = [slice(start + HEAD * head, start + HEAD * (head + 1)) for start in (0, 64, 128)]
            parts = [state[f"attn.in_proj_{kind}"][row] for kind in ("weight", "bias") for row in rows]
            parts.append(state["attn.out_proj.weight"][:, rows[0]])
            magnitudes.append(sum(float((part**2).sum()) for part in parts))
        heads = sorted(sorted(range(4), key=magnitudes.__getitem__)[2:])
        neurons = (state["mlp.c_fc.weight"] ** 2).sum(1) + state["mlp.c_fc.bias"] ** 2
        neurons = sorted((neurons + (state["mlp.c_proj.weight"] ** 2).sum(0)).argsort()[128:].tolist())
        own = student.layers("text")[place].state_dict()
        values = torch.cat([torch.arange(128 + HEAD * head, 128 + HEAD * (head + 1)) for head in heads])
        columns = own["attn.in_proj_weight"][64:]
        source = state["attn.in_proj_weight"].float()[values]
        # Which channels they read is another question: every column is one of the teacher's.
        assert all(any(torch.equal(column, other) for other in source.T) for column in columns.T)
        assert torch.equal(own["mlp.c_fc.bias"], state["mlp.c_fc.bias"].float()[neurons])


def test_leading_parts_are_the_first_ones(clip: DualEncoder) -> None:
    student, source = smaller(clip, text={"width": 32}, inherit="leading").state_dict(), clip.state_dict()
    name = "clip.text.transformer.resblocks.1.attn.in_proj_weight"
    rows = torch.cat([torch.arange(start, start + 32) for start in (0, 64, 128)])
    assert torch.equal(student[name], source[name][rows, :32])
    name = "clip.text.transformer.resblocks.0.mlp.c_proj.weight"
    assert torch.equal(student[name], source[name][:32, :128])
    assert torch.equal(student["clip.text.token_embedding.weight"], source["clip.text.token_embedding.weight"][:, :32])
    image = "clip.visual.transformer.resblocks.2.attn.in_proj_weight"
    assert torch.equal(student[image], source[image])


def test_a_student_that_sees_less_has_its_teachers_places_resampled(clip: DualEncoder) -> None:
    student = smaller(clip, image={"image_size": 36 - 12, "patch_size": 6})  # four patches a side instead of two
    table, source = (model.state_dict()["clip.visual.positional_embedding"] for model in (student, clip))
    assert torch.equal(table[0], source[0])  # the class token's
    grid = functional.interpolate(
        source[1:].T.view(1, 64, 2, 2), (4, 4), mode="bicubic", antialias=True, align_corners=False
    )
    torch.testing.assert_close(table[1:], grid[0].flatten(1).T)
    with torch.no_grad():
        clip_of_one = build_model(clip.spec, seed=1)
        clip_of_one.state_dict()["clip.visual.positional_embedding"].fill_(0.7)
    even = smaller(clip_of_one, image={"image_size": 12}).state_dict()["clip.visual.positional_embedding"]
    torch.testing.assert_close(even, torch.full((2, 64), 0.7))


def test_a_kernel_of_larger_patches_makes_of_them_what_the_teachers_made(clip: DualEncoder) -> None:
    patches = torch.rand(5, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    large = functional.interpolate(patches, (24, 24), mode="bicubic", antialias=True)
    student = smaller(clip, image={"patch_size": 24})
    before, after = (model.state_dict()["clip.visual.conv1.weight"] for model in (clip, student))
    expected = torch.einsum("bcij,hcij->bh", patches, before)
    torch.testing.assert_close(torch.einsum("bcij,hcij->bh", large, after), expected, atol=1e-4, rtol=1e-4)


def test_a_flattened_kernel_is_resampled_as_the_same_kernel_is() -> None:
    kernel = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    tensors = {
        "visual.conv1.weight": kernel,
        "vision_model.embeddings.patch_embedding.weight": kernel.permute(0, 2, 3, 1).flatten(1),
    }
    parts = Parts("leading", TowerSizes(HEAD, grids=(2, 2)), tensors)
    whole = parts.take("visual.conv1.weight", (8, 3, 6, 6))
    flat = parts.take("vision_model.embeddings.patch_embedding.weight", (8, 108))
    assert whole is not None
    assert flat is not None
    torch.testing.assert_close(flat.view(8, 6, 6, 3), whole.permute(0, 2, 3, 1))


def test_prepared_pictures_are_resized_to_what_the_student_sees(clip: DualEncoder) -> None:
    student = smaller(clip, image={"image_size": 12})
    images = pictures(3)
    found = (student.preprocess(images) - student._offset) / student._factor
    expected = vision.resize(images.permute(0, 3, 1, 2).float() / 255, [12, 12], antialias=True)
    torch.testing.assert_close(found, expected)
    assert student.encode_image(student.preprocess(images)).embedding.shape == (3, 64)


def test_a_shorter_context_keeps_the_last_token_of_a_text(clip: DualEncoder) -> None:
    student = smaller(clip, text={"context_length": 5})
    name = "clip.text.positional_embedding"
    assert torch.equal(student.state_dict()[name], clip.state_dict()[name][:5])
    tokens = torch.tensor([[2, 7, 8, 9, 10, 3, 0, 0], [2, 7, 8, 9, 3, 0, 0, 0], [2, 3, 0, 0, 0, 0, 0, 0]])
    expected = [[2, 7, 8, 9, 3], [2, 7, 8, 9, 3], [2, 3, 0, 0, 0]]
    assert student.read(tokens).tolist() == expected
    assert torch.equal(clip.read(tokens), tokens)
    padded = build_model(tiny_spec("siglip2"), seed=1)  # its last place stands for the text
    name = "siglip.text_model.embeddings.position_embedding.weight"
    table, source = smaller(padded, text={"context_length": 5}).state_dict()[name], padded.state_dict()[name]
    assert torch.equal(table, source[[0, 1, 2, 3, 11]])


def test_what_nothing_is_known_of_cannot_be_cut() -> None:
    parts = Parts(
        "leading", TowerSizes(HEAD), {"visual.stem.weight": torch.zeros(8, 4), "visual.proj": torch.zeros(8, 4)}
    )
    with pytest.raises(ValueError, match=r"visual\.stem\.weight: .*nothing says what its axes mean"):
        parts.take("visual.stem.weight", (4, 4))
    with pytest.raises(ValueError, match=r"visual\.proj: of 4 along an axis that cannot be cut \(fixed\)"):
        parts.take("visual.proj", (8, 2))
