import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from lssvwm_models.memory.frame_context import FrameContext
from lssvwm_models.memory.scans import BlockScan
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import NetworkConfig, preset
from lssvwm_models.model.network import Network
from lssvwm_models.model.world_model import WorldModel
from lssvwm_models.training.pretrained import load_mamba2, load_weights

D, INNER, HEADDIM, STATE = 16, 32, 8, 16
HEADS = INNER // HEADDIM


def network():
    """Two scans whose tubes are 2 x 2 tokens: keys of length 16."""
    torch.manual_seed(0)
    config = NetworkConfig(D, 1, (2, 2), (), 1, STATE // 4, INNER, HEADDIM, 8)
    return Network(config, grid=4, latent_dim=3, action=ActionSpec("discrete", 2))


def model():
    return WorldModel(preset("debug", ActionSpec("discrete", 2)))


def mamba2(layers=3, state=STATE, seed=1):
    """A random Mamba-2 in the published layout, with what else is in such a file."""
    g = torch.Generator().manual_seed(seed)
    sizes = {
        "in_proj.weight": (2 * INNER + 2 * state + HEADS, D),
        "conv1d.weight": (INNER + 2 * state, 1, 4),
        "conv1d.bias": (INNER + 2 * state,),
        "dt_bias": (HEADS,),
        "A_log": (HEADS,),
        "D": (HEADS,),
        "norm.weight": (INNER,),
        "out_proj.weight": (D, INNER),
    }
    mixers = {
        f"backbone.layers.{i}.mixer.{name}": torch.randn(size, generator=g)
        for i in range(layers)
        for name, size in sizes.items()
    }
    other = {
        "backbone.embedding.weight": torch.randn(10, D, generator=g),
        "backbone.layers.0.norm.weight": torch.ones(D),
    }
    return mixers | other


def test_scans_begin_as_the_layers_of_the_checkpoint_and_say_what_was_left_out():
    model, checkpoint = network(), mamba2()
    embed = model.embed.weight.clone()
    report = load_mamba2(model, checkpoint)
    assert report.layers == {0: 0, 1: 1}
    for i, block in enumerate(model.blocks):
        for name in ("in_proj.weight", "dt_bias", "A_log", "D", "norm.weight", "out_proj.weight"):
            assert torch.equal(block.scan.get_parameter(name), checkpoint[f"backbone.layers.{i}.mixer.{name}"]), name
    assert torch.equal(model.embed.weight, embed)
    assert "backbone.layers.0.mixer.conv1d.bias" in report.ignored
    assert "backbone.layers.2.mixer.D" in report.ignored and "backbone.embedding.weight" in report.ignored
    assert "block 1 from layer 1" in str(report)
    assert "Ignored: 14 tensors, 6 of them of its convolutions (conv1d), which these scans do not have" in str(report)


def test_the_layout_means_the_same_here():
    """A frame of one token, from an empty state: Mamba-2 without its convolution and C B, as reads are of the past."""
    g = torch.Generator().manual_seed(0)
    weights = {k.rsplit("mixer.")[-1]: v for k, v in mamba2(layers=1).items() if "mixer" in k}
    scan = BlockScan(D, INNER, HEADDIM, grid=1, block=1, d_state=STATE)
    scan.load_state_dict({k: v for k, v in weights.items() if "conv1d" not in k}, strict=False)
    u = torch.randn(D, generator=g)
    z, x, _, _, _ = (weights["in_proj.weight"] @ u).split([INNER, INNER, STATE, STATE, HEADS])
    y = x * weights["D"].repeat_interleave(HEADDIM) * F.silu(z)
    expected = weights["out_proj.weight"] @ (y * (y.square().mean() + 1e-5).rsqrt() * weights["norm.weight"])
    places, first = torch.zeros(1, 1, 1, 2), torch.tensor([[True]])
    frames = FrameContext.of(places, 1, None, first, torch.zeros(1, dtype=torch.long), writes=True)
    actual, *_ = scan(u.view(1, 1, 1, 1, D), frames, torch.zeros(1, 1, HEADS, HEADDIM, STATE))
    torch.testing.assert_close(actual.flatten(), expected)


def test_files_are_read_and_pickles_are_not(tmp_path):
    checkpoint = mamba2()
    save_file(checkpoint, tmp_path / "mamba2.safetensors")
    model = network()
    load_mamba2(model, tmp_path / "mamba2.safetensors")
    assert torch.equal(model.blocks[1].scan.D, checkpoint["backbone.layers.1.mixer.D"])
    torch.save(checkpoint, tmp_path / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match=r"pytorch_model.bin is not a safetensors file .* convert it where you trust it"
    ):
        load_mamba2(model, tmp_path / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError):
        load_mamba2(model, tmp_path / "nothing.safetensors")


def test_what_does_not_fit_is_named_and_nothing_is_changed():
    model = network()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"layers.1.mixer.in_proj.weight: \(76, 16\); expected \(100, 16\) for the scan of block 1"
    ):
        load_mamba2(model, mamba2(state=4))
    with pytest.raises(ValueError, match=r"layers.1.mixer.A_log: missing; expected \(4,\) for the scan of block 1"):
        load_mamba2(model, mamba2(layers=1))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_network_without_scans_is_told_so():
    model = network()
    for block in model.blocks:
        block.scan = torch.nn.Identity()
    with pytest.raises(ValueError, match="does not fit the scans of the network:\n  there are none"):
        load_mamba2(model, mamba2())


def test_a_training_can_begin_with_the_weights_of_a_simulator(tmp_path):
    trained, fresh = model(), model()
    for parameter in trained.parameters():
        torch.nn.init.normal_(parameter)
    save_file({k: v.contiguous() for k, v in trained.state_dict().items() if ".look" not in k}, tmp_path / "w")
    load_weights(fresh, tmp_path / "w")
    other = {k for k, v in fresh.state_dict().items() if not torch.equal(v, trained.state_dict()[k])}
    assert other and all(".look" in k or k.startswith("odometry.") for k in other)


def test_weights_of_another_model_are_refused_whole(tmp_path):
    fresh = model()
    before = {k: v.clone() for k, v in fresh.state_dict().items()}
    save_file({"network.position": torch.zeros(3, 3), "network.soul": torch.zeros(1)}, tmp_path / "w")
    with pytest.raises(ValueError, match=r"network.soul \(1,\), which this model does not have"):
        load_weights(fresh, tmp_path / "w")
    assert all(torch.equal(v, before[k]) for k, v in fresh.state_dict().items())
