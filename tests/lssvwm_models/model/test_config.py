from dataclasses import FrozenInstanceError

import pytest

from lssvwm_models.memory.geometry import EgoView
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.config import PRESETS, NetworkConfig, WorldModelConfig, preset
from lssvwm_models.model.world_model import WorldModel

ACTION = ActionSpec("discrete", 7)
VIEW = EgoView(cell=8, row=6, col=3, motions=((0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 0, 3)))


@pytest.mark.parametrize(
    ("name", "parameters", "state_bytes"),
    [
        ("debug", 242_058, 18_976),
        ("micro", 1_227_118, 78_368),
        ("tiny", 2_873_502, 336_416),
        ("small", 6_280_890, 729_632),
    ],
)
def test_presets_have_the_sizes_that_trained_weights_were_saved_with(name, parameters, state_bytes):
    model = WorldModel(preset(name, ACTION, view=VIEW))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert model.initial_state(1).nbytes == state_bytes


def test_defaults_are_those_of_the_paper_sized_frames():
    config = WorldModelConfig(ACTION)
    assert (config.frame_size, config.channels, config.patch, config.grid) == (64, 3, 8, 8)
    assert (config.latent_dim, config.feature_dim, config.block_frames) == (32, 128, 32)
    assert config.network == NetworkConfig() == PRESETS["tiny"]
    assert config.network.memory == "scan" and config.network.window == 0 and not config.network.overlap


def test_a_preset_takes_changes():
    assert preset("micro", ACTION, block_frames=4) == WorldModelConfig(ACTION, network=PRESETS["micro"], block_frames=4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="no preset is named 'huge'; choose from debug, micro, tiny, small"):
        preset("huge", ACTION)
    with pytest.raises(ValueError, match="frame_size is 60, not divisible by patch 8"):
        WorldModelConfig(ACTION, frame_size=60)


def test_configs_are_values():
    for config in (VIEW, ACTION, PRESETS["micro"], preset("micro", ACTION, view=VIEW)):
        hash(config)
        with pytest.raises(FrozenInstanceError):
            setattr(config, next(iter(vars(config))), None)
