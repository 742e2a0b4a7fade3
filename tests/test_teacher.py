import pickle
import socket
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from tiny_teachers import TINY_VIT, tiny_vit, write_weights
from tinydefects import privacy
from tinydefects.detector.networks import BLOCK_PAIR, build_builtin_vit, load_timm
from tinydefects.detector.settings import is_plain_name
from tinydefects.detector.teacher import best_device, default_blocks, load_teacher, read_architecture
from tinydefects.errors import TeacherError


class Code:
    """Leaves a file where it is unpickled."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self):
        return Path.touch, (self.flag,)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tiny_vit(), tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def teacher(weights):
    return load_teacher(TINY_VIT, weights=weights, device="cpu")


@pytest.fixture(autouse=True)
def nothing_is_forbidden(monkeypatch):
    """Whatever a test forbids is allowed again after it."""
    for name in (privacy.OFFLINE, *privacy.OFFLINE_OF_THE_HUB):
        monkeypatch.setenv(name, "")


@pytest.fixture
def offline(monkeypatch):
    """No address is answered, no proxy, nothing in the hub's cache; yet nobody forbade to ask."""

    def no_address(*_):
        raise socket.gaierror("Name or service not known")

    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", no_address)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)


def refusal(name: str, **arguments) -> str:
    with pytest.raises(TeacherError) as caught:
        load_teacher(name, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("blocks", [(4,), (2, 4), (0, 2, 3), (1, 2, 3, 5)])
def test_features_are_the_patch_tokens_of_each_block_after_the_final_norm_in_one_pass_up_to_the_last(weights, blocks):
    teacher = load_teacher(TINY_VIT, weights=weights, blocks=blocks, device="cpu")
    batch = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    seen = []
    for block in teacher.model.blocks:
        block.register_forward_hook(lambda module, _, out: seen.append(out))
    features = teacher.features(batch)
    assert len(seen) == blocks[-1] + 1
    for tokens, block in zip(features, blocks, strict=True):
        by_hand = teacher.model.norm(seen[block])[:, 1:]  # the first token is the class token
        assert tokens.shape == (2, 2, 3, 64)
        torch.testing.assert_close(tokens, by_hand.reshape(2, 2, 3, 64))


def test_rows_of_features_are_rows_of_the_image(teacher):
    image = torch.zeros(1, 3, 48, 32)
    changed = image.clone()
    changed[:, :, 32:, :16] = 3.0  # patch (2, 0)
    difference = (teacher.features(changed)[0] - teacher.features(image)[0]).norm(dim=-1)[0]
    assert divmod(int(difference.argmax()), 2) == (2, 0)


def test_a_size_that_is_no_multiple_of_the_patch_is_refused(teacher):
    with pytest.raises(TeacherError, match="multiples of 16 px, this input is 32 x 40"):
        teacher.features(torch.zeros(1, 3, 32, 40))


def test_the_teacher_brings_its_own_normalisation(teacher):
    assert (teacher.mean, teacher.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize(("depth", "blocks"), [(12, (7, 11)), (24, (15, 23)), (6, (3, 5)), (2, (0, 1))])
def test_default_blocks_lie_at_the_published_places(depth, blocks):
    assert default_blocks(depth) == blocks


@pytest.mark.parametrize("blocks", [(5, 3), (3, 3), (-1, 5), (3, 6), (6,), (0, 2, 2, 4), (1, 4, 3), ()])
def test_blocks_that_do_not_exist_or_are_not_in_order_are_refused(weights, blocks):
    assert "has blocks 0 to 5" in refusal(TINY_VIT, weights=weights, blocks=blocks)


def test_the_same_weights_can_be_read_at_other_blocks(weights, teacher):
    rough = replace(teacher, precision="bfloat16")
    other = rough.with_blocks([1, 2, 4])
    assert (other.blocks, other.precision, other.model) == ((1, 2, 4), "bfloat16", teacher.model)
    assert other.fingerprint == load_teacher(TINY_VIT, weights=weights, blocks=(1, 2, 4)).fingerprint
    assert rough.with_blocks(teacher.blocks) == rough
    with pytest.raises(TeacherError, match=r"^test_vit has blocks 0 to 5: give .* in ascending order, not 4-6$"):
        rough.with_blocks((4, 6))


def test_the_fingerprint_follows_weights_and_blocks_and_nothing_else(weights, teacher, tmp_path):
    again = load_teacher(TINY_VIT, weights=weights)
    model = tiny_vit()
    with torch.no_grad():
        model.norm.bias[3] += 1e-6
    others = [
        load_teacher(TINY_VIT, weights=weights, blocks=(2, 5)),
        load_teacher(TINY_VIT, weights=write_weights(model, tmp_path / "other.safetensors")),
    ]
    assert again.fingerprint == teacher.fingerprint
    assert len({teacher.fingerprint, *(other.fingerprint for other in others)}) == 3


def test_weights_of_16_bits_run_in_32(tmp_path, weights):
    half = {key: value.half() for key, value in tiny_vit().state_dict().items()}
    save_file(half, tmp_path / "half.safetensors")
    teacher = load_teacher(TINY_VIT, weights=tmp_path / "half.safetensors")
    assert {value.dtype for value in teacher.model.state_dict().values()} == {torch.float32}
    assert torch.equal(teacher.model.norm.bias.cpu(), half["norm.bias"].float())


def test_a_pth_file_and_a_classification_head_in_it_are_understood(tmp_path, teacher):
    state = tiny_vit().state_dict() | {"head.weight": torch.zeros(1000, 64), "head.bias": torch.zeros(1000)}
    torch.save({"model": state}, tmp_path / "checkpoint.pth")
    assert load_teacher(TINY_VIT, weights=tmp_path / "checkpoint.pth").fingerprint == teacher.fingerprint


def test_the_teacher_is_frozen(teacher):
    assert not teacher.model.training
    assert not any(weights.requires_grad for weights in teacher.model.parameters())


def test_the_builtin_teacher_takes_any_whole_patches_and_its_own_blocks(tmp_path):
    file = write_weights(build_builtin_vit(), tmp_path / "builtin.safetensors")
    teacher = load_teacher("builtin", weights=file)
    assert (teacher.patch_size, teacher.dim, teacher.blocks) == (8, 192, BLOCK_PAIR)
    earlier, later = teacher.features(torch.randn(1, 3, 40, 72))
    assert earlier.shape == later.shape == (1, 5, 9, 192)


def test_the_first_device_there_is_is_taken_and_recorded(weights):
    assert load_teacher(TINY_VIT, weights=weights).device == best_device()


def test_without_weights_or_network_one_line_names_three_ways_out(offline):
    message = refusal(TINY_VIT)
    assert "no pretrained weights (Name or service not known)" in message
    for way in ("connect once to the hub", "--teacher-weights FILE", "--teacher builtin"):
        assert way in message


def test_weights_in_the_cache_of_the_hub_need_no_network(offline, monkeypatch, capsys, weights, teacher):
    monkeypatch.setenv("TINYDEFECTS_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: str(weights))
    assert load_teacher(TINY_VIT).fingerprint == teacher.fingerprint
    assert capsys.readouterr().err == ""


def test_what_is_fetched_is_said_before_the_network_is_asked(offline, monkeypatch, capsys):
    def asked(host, *_):
        said = capsys.readouterr().err
        assert said.startswith(f"{TINY_VIT}: fetching its weights, about 1 MB, from {host} (timm/test_vit.r160_in1k)")
        assert said.endswith("--offline forbids it\n")
        raise socket.gaierror("asked after it was said")

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    assert "asked after it was said" in refusal(TINY_VIT)


@pytest.mark.parametrize("variable", ["TINYDEFECTS_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_fetched_and_one_line_names_the_ways_out(monkeypatch, tmp_path, capsys, variable):
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: pytest.fail("fetched"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("asked for an address"))
    message = refusal(TINY_VIT)
    for part in ("--offline", "without --offline", "--teacher-weights FILE", "--teacher builtin"):
        assert part in message
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:a/b",
        "hf_hub:a/b",
        "HF-HUB:a/b",
        "local-dir:x",
        "timm/vit_tiny",
        "./vit",
        "C:\\vit",
        "https://host/vit",
        "",
    ],
)
def test_an_address_or_a_path_is_no_teacher(monkeypatch, name):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("asked for an address"))
    assert "a teacher is 'builtin' or a plain model name of timm" in refusal(name)


def test_every_name_that_timm_has_is_a_plain_one():
    timm = load_timm()
    names = {*timm.list_models(), *timm.list_models(pretrained=True)}
    assert len(names) > 1000
    assert [name for name in names if not is_plain_name(name)] == []


@pytest.mark.parametrize("name", ["vit_of_nobody", "resnet18"])
def test_what_is_no_vit_of_timm_is_refused(name):
    assert f"{name}: timm cannot build it as a ViT" in refusal(name)


def test_a_vit_without_a_final_norm_over_its_patches_is_refused():
    assert "test_vit2 is no plain ViT with a final norm" in refusal("test_vit2")


def test_a_missing_weights_file_is_named(tmp_path):
    assert f"{tmp_path / 'none.pth'}: no such weights file" in refusal(TINY_VIT, weights=tmp_path / "none.pth")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_truncated_weights_file_is_named(tmp_path, weights, suffix):
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".pth":
        torch.save(tiny_vit().state_dict(), whole)
    else:
        whole.write_bytes(weights.read_bytes())
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[:-1000])
    assert f"{cut}: not readable as weights" in refusal(TINY_VIT, weights=cut)


def test_a_pickle_with_code_in_it_is_not_run(tmp_path):
    flag = tmp_path / "flag"
    torch.save({"model": Code(flag)}, tmp_path / "code.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Code(flag)))
    (tmp_path / "misnamed.safetensors").write_bytes((tmp_path / "code.pth").read_bytes())
    for name in ("code.pth", "bare.pth", "misnamed.safetensors"):
        assert f"{name}: not readable as weights" in refusal(TINY_VIT, weights=tmp_path / name)
    assert not flag.exists()
    torch.load(tmp_path / "code.pth", weights_only=False)
    assert flag.exists()  # the trap works: it only was not stepped into


@pytest.mark.slow
def test_weights_of_another_architecture_never_load_in_part(weights, tmp_path):
    assert "not the weights of vit_tiny_patch16_224" in refusal("vit_tiny_patch16_224", weights=weights)
    partial = tiny_vit().state_dict()
    del partial["blocks.5.norm1.bias"]
    save_file(partial, tmp_path / "partial.safetensors")
    message = refusal(TINY_VIT, weights=tmp_path / "partial.safetensors")
    assert "blocks.5.norm1.bias is missing instead of (64,) (1 differ)" in message


@pytest.mark.parametrize("name", ["builtin", TINY_VIT])
def test_the_architecture_alone_tells_patch_size_and_channels(name, tmp_path):
    weights = None if name == "builtin" else write_weights(tiny_vit(), tmp_path / "tiny.safetensors")
    teacher = load_teacher(name, weights=weights, device="cpu")
    assert read_architecture(name) == (teacher.patch_size, teacher.dim)


@pytest.mark.slow
def test_the_architecture_needs_no_weights_but_a_named_file_must_be_there(tmp_path, monkeypatch):
    for door in ("huggingface_hub.try_to_load_from_cache", "huggingface_hub.hf_hub_download"):
        monkeypatch.setattr(door, lambda *_, **__: pytest.fail("asked for weights"))
    monkeypatch.setattr(load_timm().models, "load_state_dict", lambda *_, **__: pytest.fail("read weights"))
    assert read_architecture("vit_base_patch14_reg4_dinov2") == (14, 768)
    with pytest.raises(TeacherError, match=r"none\.pth: no such weights file"):
        read_architecture("builtin", weights=tmp_path / "none.pth")
    with pytest.raises(TeacherError, match="no_such_vit: timm cannot build it"):
        read_architecture("no_such_vit")
