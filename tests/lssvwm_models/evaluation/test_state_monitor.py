import pytest
import torch

from lssvwm_models.evaluation.state_monitor import (
    LIMITS,
    effective_rank,
    health,
    scan_states,
    state_metrics,
    state_png,
    steered,
)
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import preset
from lssvwm_models.model.world_model import WorldModel

G = torch.Generator().manual_seed(0)
STATE = torch.randn(2, 4, 3, 8, 16, generator=G)  # (B, tubes, H, P, N)


def test_effective_rank_is_the_entropy_of_the_singular_values():
    rank_one = torch.randn(8, 1, generator=G) @ torch.randn(1, 16, generator=G)
    torch.testing.assert_close(effective_rank(rank_one).item(), 1.0, rtol=0, atol=1e-4)
    torch.testing.assert_close(effective_rank(torch.eye(5)).item(), 5.0, rtol=0, atol=1e-6)
    share = torch.linalg.svdvals(STATE.double())
    share = share / share.sum(-1, keepdim=True)
    expected = (-(share * share.log()).sum(-1)).exp()
    torch.testing.assert_close(effective_rank(STATE), expected)
    torch.testing.assert_close(effective_rank(STATE.mT), expected)
    assert effective_rank(torch.zeros(4, 4)) == 1


def test_drift_scale_and_dead_channels_are_told():
    end = 3 * STATE
    end[:, :, 0, :4] = 0  # 4 of 24 channels
    found = health(STATE, end)
    assert found["dead"] == pytest.approx(1 / 6)
    assert found["drift"] == pytest.approx(3 * (5 / 6) ** 0.5, rel=0.05)
    assert found["rms"] == pytest.approx(found["drift"], rel=0.05)
    assert found["rank"] < health(STATE, STATE)["rank"] <= 1
    assert health(0 * STATE, 0 * STATE) == {"rms": 0, "drift": 0, "rank": 1 / 8, "dead": 1}


def test_a_model_is_measured_half_way_and_at_the_end_layer_by_layer():
    torch.manual_seed(0)
    model = WorldModel(preset("debug", ActionSpec("discrete", 3))).eval()
    for block in model.network.blocks:
        block.scan.A_log.data.fill_(-20.0)  # nothing is forgotten, so that states grow
    obs, act = torch.rand(1, 1, 3, 64, 64).expand(2, 8, -1, -1, -1), torch.ones(2, 8, dtype=torch.long)
    metrics = state_metrics(model, obs, act)
    assert set(metrics) == {f"state/{i}/{k}" for i in (0, 1) for k in ("rms", "drift", "rank", "dead")}
    assert metrics["state/0/drift"] == pytest.approx(2, rel=0.1)  # eight times the same frame, after four times
    is_first = torch.tensor([[True] + [False] * 7] * 2)
    state, _ = model.observe(model.initial_state(2), obs, act, is_first)
    assert metrics["state/1/rms"] == pytest.approx(state.ssm[1].square().mean().sqrt().item(), rel=1e-4)


def test_layers_without_a_scan_are_passed_over():
    model = WorldModel(preset("debug", ActionSpec("discrete", 3)))
    model.network.blocks[0].scan = torch.nn.Identity()
    ssm = torch.zeros(1, 0, 2), torch.ones(1, 1, 2, 4, 4)
    assert scan_states(model.network, ssm) == {1: ssm[1]}


def test_the_regulariser_is_strengthened_outside_the_band_and_weakened_inside_within_limits():
    inside, drifting, large = (
        {"state/0/rms": rms, "state/0/drift": drift, "state/0/rank": 0.01, "validation/loss": 99.0}
        for rms, drift in ((1.0, 1.1), (1.0, 2.5), (4.0, 1.0))
    )
    assert steered(1.0, drifting) > 1 and steered(1.0, large) > 1 and steered(1.0, {"state/1/rms": 0.1}) > 1
    assert steered(1.0, inside) < 1 and steered(steered(1.0, inside), large) == pytest.approx(1.0)
    assert steered(1.0, {"validation/loss": 99.0}) == 1.0
    strong = weak = 1.0
    for _ in range(100):
        strong, weak = steered(strong, drifting), steered(weak, inside)
    assert (weak, strong) == LIMITS == (1 / 32, 32.0)


def test_the_strength_goes_by_half_and_no_further_than_its_limits():
    inside, outside = {"state/0/rms": 1.0}, {"state/0/rms": 2.1}
    assert steered(2.0, outside) == 3.0 and steered(3.0, inside) == 2.0
    assert steered(30.0, outside) == 32.0 and steered(0.04, inside) == 1 / 32
    assert steered(1.0, outside, rate=4.0) == 4.0 and steered(1.0, inside, rate=4.0) == 0.25


@pytest.mark.parametrize(("value", "raised"), [(0.49, True), (0.5, False), (2.0, False), (2.01, True)])
@pytest.mark.parametrize("name", ["rms", "drift"])
def test_the_band_goes_from_half_to_double(name, value, raised):
    metrics = {"state/0/rms": 1.0, "state/0/drift": 1.0} | {f"state/0/{name}": value}
    assert (steered(1.0, metrics) > 1) == raised


def test_one_layer_outside_the_band_is_enough():
    metrics = {"state/0/rms": 1.0, "state/1/rms": 9.0, "state/2/rms": 1.0}
    assert steered(1.0, metrics) == 1.5


def test_states_can_be_plotted():
    line = {f"state/{i}/{k}": 1.0 for i in (0, 2) for k in ("rms", "drift", "rank", "dead")}
    assert state_png([{"step": 1, "loss": 1.0}, {"step": 2} | line]).startswith(b"\x89PNG")
    assert state_png([]).startswith(b"\x89PNG")
