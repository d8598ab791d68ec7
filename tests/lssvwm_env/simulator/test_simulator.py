"""The simulator folder: what comes back is what was saved, and whatever does not fit is refused with a reason."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from lssvwm_env.simulator import simulator as module
from lssvwm_env.simulator.registry import SIMULATORS
from lssvwm_env.simulator.simulator import Simulator, SimulatorError, Starts
from lssvwm_models.model.actions import ActionSpec
from lssvwm_models.model.world_model import WorldModel


@pytest.fixture
def folder(toy_simulator: Simulator, tmp_path: Path) -> Path:
    toy_simulator.save(tmp_path / "toy", "A toy.")
    return tmp_path / "toy"


@pytest.mark.parametrize("name", ["toy_simulator", "toy_box_simulator"])
def test_loads_what_was_saved(name: str, tmp_path: Path, request: pytest.FixtureRequest):
    saved: Simulator = request.getfixturevalue(name)
    saved.save(tmp_path / "sim", "How it was trained.")
    loaded = Simulator.load(tmp_path / "sim")
    assert loaded.config == saved.config
    assert loaded.action_space == saved.action_space
    for key, tensor in saved.model.state_dict().items():
        assert torch.equal(tensor, loaded.model.state_dict()[key]), key
    for key, buffer in saved.model.named_buffers():  # those that are not saved are built again
        assert torch.equal(buffer, dict(loaded.model.named_buffers())[key]), key
    assert np.array_equal(loaded.starts.obs, saved.starts.obs) and np.array_equal(loaded.starts.act, saved.starts.act)
    assert loaded.folder == tmp_path / "sim" and saved.folder is None
    assert (tmp_path / "sim" / "CARD.md").read_text() == "How it was trained."


def test_is_frozen_and_independent_of_the_model_it_was_made_of(toy_simulator: Simulator, toy_world_model: WorldModel):
    model = WorldModel(toy_world_model.config).train()
    simulator = replace(toy_simulator, model=model)
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert not simulator.model.training and not any(p.requires_grad for p in simulator.model.parameters())
    before = simulator.weights_sha256
    with torch.no_grad():
        model.network.position.add_(1)
    assert replace(simulator).weights_sha256 == before


def test_weights_are_named_by_their_file_hash(toy_simulator: Simulator, folder: Path):
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert toy_simulator.weights_sha256 == Simulator.load(folder).weights_sha256 == digest


def test_loading_leaves_the_global_random_stream_alone(folder: Path):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    Simulator.load(folder)
    assert torch.equal(torch.rand(1), expected)


def test_replaces_an_older_simulator_and_leaves_nothing_else(toy_simulator: Simulator, folder: Path):
    toy_simulator.save(folder, "Newer.")
    assert (folder / "CARD.md").read_text() == "Newer."
    assert [path.name for path in folder.parent.iterdir()] == ["toy"]


def test_refuses_to_overwrite_other_folders(toy_simulator: Simulator, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("Chapter 1")
    with pytest.raises(SimulatorError, match="not a simulator folder and will not be overwritten"):
        toy_simulator.save(tmp_path, "")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_save_that_fails_leaves_the_old_simulator(
    toy_simulator: Simulator, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def full_disk(*args: object, **kwargs: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.raises(OSError, match="No space left"):
        toy_simulator.save(folder, "Newer.")
    assert (folder / "CARD.md").read_text() == "A toy."
    assert [path.name for path in folder.parent.iterdir()] == ["toy"]
    Simulator.load(folder)


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text()) | changes
        text = json.dumps({k: v for k, v in content.items() if v is not None})
        (folder / "config.json").write_text(text)

    return edit


def edit_model(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit_config(model=json.loads((folder / "config.json").read_text())["model"] | changes)(folder)


def edit_network(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        network = json.loads((folder / "config.json").read_text())["model"]["network"]
        edit_model(network=network | changes)(folder)

    return edit


def edit_weights(edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = safetensors.torch.load_file(folder / "model.safetensors")
        edit(tensors)
        data = safetensors.torch.save(tensors)
        (folder / "model.safetensors").write_bytes(data)
        edit_config(weights_sha256=hashlib.sha256(data).hexdigest())(folder)

    return apply


def write_starts(**arrays: np.ndarray) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        np.savez_compressed(folder / "starts.npz", **arrays)
        edit_config(starts_sha256=None)(folder)  # as older ones have none

    return write


OBS = np.zeros((2, 3, 64, 64, 3), np.uint8)
ACT = np.zeros((2, 3), np.int64)
BITS = b"\x00" * 64

DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), r"config.json is missing; a simulator has"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"model.safetensors is missing"),
    "no starts": (lambda f: (f / "starts.npz").unlink(), r"starts.npz is missing"),
    "not json": (lambda f: (f / "config.json").write_text("{"), r"config.json is not JSON .*; copy the"),
    "no text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\xfa"), r"config.json is not JSON"),
    "foreign": (edit_config(format="other"), r"its format is 'other', not 'lssvwm-simulator'$"),
    "a list": (lambda f: (f / "config.json").write_text("[]"), r"its format is None, not 'lssvwm-simulator'"),
    "newer": (edit_config(version=2), r"has version 2; this release reads version 1: install .*'lssvwm-env': "),
    "unknown field": (edit_config(temperature=0.7), r"config has the unknown field 'temperature'"),
    "no hash": (edit_config(weights_sha256=None), r"config.weights_sha256 is None; expected a text"),
    "missing field": (edit_config(horizon=None), r"config lacks horizon"),
    "deep unknown field": (edit_network(depth=3), r"config.model.network has the unknown field 'depth'"),
    "wrong type": (edit_config(horizon="long"), r"config.horizon is 'long'; expected an integer"),
    "wrong item": (
        edit_network(block_sizes=[4, "2"]),
        r"config.model.network.block_sizes\[1\] is '2'; expected an",
    ),
    "bad number": (edit_config(horizon=0), r"horizon=0 must be at least 1"),
    "bad network": (edit_network(block_sizes=[4, 3]), r"describes no world model: block_sizes has 3"),
    "no patch": (edit_model(patch=0), r"config.json is damaged, or of another release"),
    "other network": (edit_network(window=5), r"blocks.0.attention.kernels: found .*\(1, 32, .*, expected .*\(6, 32, "),
    "other frames": (
        edit_config(observation_space={"type": "Box", "low": 0, "high": 255, "shape": [56, 56, 3], "dtype": "uint8"}),
        r"observation_space is Box.*56.*, but the model makes Box.*64",
    ),
    "other actions": (edit_config(action_space={"type": "Discrete", "n": 4}), r"Discrete\(4\).*but the model takes"),
    "no space": (edit_config(action_space={"type": "Text"}), r"action_space is .*expected type Discrete with n"),
    "bit rot": (lambda f: (f / "model.safetensors").write_bytes(BITS), r"has SHA-256 .*copy the simulator again"),
    "no safetensors": (
        lambda f: (
            (f / "model.safetensors").write_bytes(BITS),
            edit_config(weights_sha256=hashlib.sha256(BITS).hexdigest())(f),
        ),
        r"model.safetensors is not a safetensors file",
    ),
    "Git LFS": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\n"),
        r"model.safetensors only names a file that Git LFS keeps; fetch it with: git lfs pull",
    ),
    "missing tensor": (
        edit_weights(lambda t: t.pop("network.position")),
        r"network.position: found nothing, expected torch.float32 \(16, 32\)",
    ),
    "unexpected tensor": (
        edit_weights(lambda t: t.update(extra=torch.zeros(2))),
        r"extra: found torch.float32 \(2,\), expected nothing",
    ),
    "wrong shape": (
        edit_weights(lambda t: t.update({"network.position": torch.zeros(4, 32)})),
        r"network.position: found torch.float32 \(4, 32\), expected torch.float32 \(16, 32\)",
    ),
    "starts no archive": (lambda f: (f / "starts.npz").write_bytes(BITS), r"starts.npz has SHA-256 .*, but config"),
    "starts no archive of an older one": (
        lambda f: (edit_config(starts_sha256=None)(f), (f / "starts.npz").write_bytes(BITS)),
        r"starts.npz is damaged, or another one's .*; copy the simulator again",
    ),
    "starts without act": (write_starts(obs=OBS), r"starts.npz is .*it has the arrays \['obs'\]; expected obs and act"),
    "starts of other frames": (
        write_starts(obs=OBS[:, :, :32], act=ACT),
        r"starts.npz is damaged, .*starts.obs is uint8 \(2, 3, 32, 64, 3\); expected uint8 \(S, T, 64, 64, 3\)",
    ),
    "starts of floats": (write_starts(obs=OBS / 255, act=ACT), r"starts.obs is float64"),
    "no starts at all": (write_starts(obs=OBS[:0], act=ACT[:0]), r"none of them 0"),
    "starts too long": (
        write_starts(obs=np.repeat(OBS, 3, 1), act=np.repeat(ACT, 3, 1)),
        r"starts.obs has 9 frames each, but trained_length is 8",
    ),
    "starts of other length": (write_starts(obs=OBS, act=ACT[:, :2]), r"starts.act is int64 \(2, 2\); expected int64"),
    "starts of other actions": (write_starts(obs=OBS, act=ACT + 7), r"act has values 7..7; expected 0..6"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_refuses_damage_with_a_reason(case: str, folder: Path):
    damage, message = DAMAGE[case]
    damage(folder)
    with pytest.raises(SimulatorError, match=message):
        Simulator.load(folder)


def test_starts_of_another_simulator_are_refused(toy_simulator: Simulator, folder: Path):
    swapped = replace(toy_simulator, starts=Starts(toy_simulator.starts.obs[::-1], toy_simulator.starts.act[::-1]))
    swapped.save(folder.parent / "other", "Another.")
    (folder / "starts.npz").write_bytes((folder.parent / "other/starts.npz").read_bytes())
    with pytest.raises(SimulatorError, match=r"toy/starts.npz has SHA-256 .*, but config.json names .*: copy"):
        Simulator.load(folder)


def test_starts_of_another_bundled_simulator_are_refused(tmp_path: Path):
    mixed = shutil.copytree(SIMULATORS["LSSVWM/MiniGrid-DoorKey-6x6-v0"].folder, tmp_path / "mixed")
    shutil.copy(SIMULATORS["LSSVWM/MiniGrid-MemoryS9-v0"].folder / "starts.npz", mixed)
    with pytest.raises(SimulatorError, match=r"mixed/starts.npz has SHA-256"):
        Simulator.load(mixed)
    for simulator in SIMULATORS.values():
        sums, _ = module.read_simulator_config(simulator.folder / "config.json")
        assert sums.starts == hashlib.sha256((simulator.folder / "starts.npz").read_bytes()).hexdigest()


def test_starts_are_not_unpacked_where_there_are_too_many(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST_START_BYTES", 5 * 3 * (64 * 64 * 3 + 8))
    Simulator.load(folder)
    monkeypatch.setattr(module, "MOST_START_BYTES", 5 * 3 * (64 * 64 * 3 + 8) - 1)
    monkeypatch.setattr(module, "npz_array", lambda *_: pytest.fail("it was unpacked"))
    with pytest.raises(SimulatorError, match=r"184,440 bytes in all; expected at most 184,439: take fewer starts"):
        Simulator.load(folder)
    with pytest.raises(ValueError, match="expected at most 184,439"):
        Starts(np.zeros((5, 4, 64, 64, 3), np.uint8), np.zeros((5, 4), np.int64))


def test_the_same_simulator_makes_the_same_files(toy_simulator: Simulator, folder: Path):
    toy_simulator.save(folder.parent / "again", "A toy.")
    for path in folder.iterdir():
        assert (folder.parent / "again" / path.name).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edit_network(map_size=10**30), "map_size=10+ must be at most 128"),
        (edit_network(map_size=1e30), "map_size is 1e.30; expected an integer"),
        (edit_network(map_size=1), "map_size=1 must be at least 2"),
        (edit_network(d_model=-1), "d_model=-1 must be at least 1"),
        (edit_network(d_model=20_000), "describes no world model: it asks for far more numbers"),
        (edit_network(d_inner=60_000, mlp_ratio=64), "describes no world model: it asks for far more numbers"),
        (edit_network(block_sizes=[1] * 65), "must be of 1 to 64 layers"),
        (edit_model(feature_dim=60_000), "describes no world model: it asks for far more numbers"),
        (edit_model(frame_size=4096, patch=4096), "describes no world model: it asks for far more numbers"),
        (edit_model(frame_size=4096, patch=8), "patch=8 must be larger"),
        (edit_model(patch=0), "patch=0 must be at least 1"),
        (edit_model(block_frames=0), "block_frames=0 must be at least 1"),
        (edit_model(action={"kind": "discrete", "size": 10**9}), "describes no world model: it asks for far more"),
        (edit_model(action={"kind": "text", "size": 7}), "kind is 'text'; expected one of discrete, box"),
        (edit_model(view={"cell": 0, "row": 6, "col": 3, "motions": [[0, 0, 0]]}), "cell=0 must be at least 1"),
        (edit_model(view={"cell": 8, "row": 6, "col": 3, "motions": []}), r"motions=\(\) must be 1 to 64"),
        (edit_model(view={"cell": 8, "row": 6, "col": 3, "motions": [[65, 0, 0]]}), "must be at most 64"),
        (edit_config(trained_length=10**13), "trained_length=10+ must be at most"),
        (edit_config(denoising_steps=1025), "denoising_steps=1025 must be at most 1024"),
        (edit_config(horizon=True), "horizon is True; expected an integer"),
        (edit_config(action_space={"type": "Discrete", "n": 10**30}), "action_space is .* no valid space"),
    ],
)
def test_hostile_numbers_are_refused_before_they_take_time_or_memory(
    edit: Callable[[Path], None], message: str, folder: Path
):
    edit(folder)
    began = time.process_time()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SimulatorError, match=message):
        Simulator.load(folder)
    assert time.process_time() - began < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < most + 200_000  # in KB


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": "lssvwm-simulator", "format": "lssvwm-simulator"}', "the key 'format' is there twice"),
        ("[" * 100_000, "nested deeper than 32"),
        ('{"format": NaN}', "NaN is no JSON"),
    ],
)
def test_a_config_that_is_no_strict_json_is_refused(text: str, message: str, folder: Path):
    (folder / "config.json").write_text(text)
    with pytest.raises(SimulatorError, match=f"config.json is not JSON that can be read: .*{message}.*; copy"):
        Simulator.load(folder)


def test_a_config_as_large_as_no_config_is_is_not_read(folder: Path):
    with open(folder / "config.json", "wb") as file:
        file.truncate(10**9)
    with pytest.raises(SimulatorError, match="config.json has 1,000,000,000 bytes; expected at most 16,000,000"):
        Simulator.load(folder)


def test_a_bit_that_flips_in_the_starts_is_noticed_or_harmless(toy_simulator: Simulator, folder: Path):
    path = folder / "starts.npz"
    np.savez_compressed(path, obs=OBS[:1, :1], act=ACT[:1, :1])
    good = path.read_bytes()

    def _read_starts(path: Path) -> Starts:
        return module._read_starts(path, toy_simulator.config, None)

    starts = _read_starts(path)
    for i in range(len(good)):
        path.write_bytes(good[:i] + bytes([good[i] ^ 1 << i % 8]) + good[i + 1 :])
        try:
            read = _read_starts(path)
        except SimulatorError:
            continue
        assert np.array_equal(read.obs, starts.obs) and np.array_equal(read.act, starts.act), i


def test_a_run_folder_is_told_from_the_simulator_in_it(toy_simulator: Simulator, tmp_path: Path):
    toy_simulator.save(tmp_path / "simulator", "A toy.")
    (tmp_path / "config.json").write_text('{"training": {}}')
    with pytest.raises(SimulatorError, match=rf"its format is None, .*; the simulator is in {tmp_path / 'simulator'}"):
        Simulator.load(tmp_path)


def test_lists_only_the_first_of_many_differences(folder: Path):
    edit_weights(lambda t: [t.pop(k) for k in list(t)])(folder)
    with pytest.raises(SimulatorError, match=r"and \d+ more") as error:
        Simulator.load(folder)
    assert len(str(error.value).splitlines()) < 12


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, crater: Path) -> None:
        self.crater = crater

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.crater),)


def test_never_unpickles(folder: Path, tmp_path: Path):
    bomb = np.array([Bomb(tmp_path / "crater")], object)
    np.savez(folder / "starts.npz", obs=bomb, act=ACT)
    edit_config(starts_sha256=None)(folder)
    with pytest.raises(SimulatorError, match="obs is object, expected numbers"):
        Simulator.load(folder)
    np.save(folder / "starts.npy", bomb)
    (folder / "starts.npy").replace(folder / "starts.npz")
    with pytest.raises(SimulatorError, match=r"starts.npz"):
        Simulator.load(folder)
    torch.save({"network.position": Bomb(tmp_path / "crater")}, folder / "model.safetensors")
    data = (folder / "model.safetensors").read_bytes()
    edit_config(weights_sha256=hashlib.sha256(data).hexdigest())(folder)
    with pytest.raises(SimulatorError, match="not a safetensors file"):
        Simulator.load(folder)
    assert not (tmp_path / "crater").exists()


def test_parts_must_fit_before_anything_is_saved(toy_simulator: Simulator):
    with pytest.raises(SimulatorError, match=r"starts.act is float64"):
        replace(toy_simulator, starts=Starts(toy_simulator.starts.obs, toy_simulator.starts.act / 2))
    config = replace(toy_simulator.config.model, action=ActionSpec("discrete", 3), view=None)
    with pytest.raises(SimulatorError) as error:
        replace(toy_simulator, config=replace(toy_simulator.config, model=config))
    for name in ("action.size is 3, but the model was built with 7", "view is None, but the model was built with {"):
        assert f"config.model.{name}" in str(error.value)
    assert "network" not in str(error.value)


def test_says_which_simulators_there_are():
    with pytest.raises(
        SimulatorError, match="Nowhere-v0 is neither a folder nor a registered simulator; .*ObjectRooms"
    ):
        Simulator.load("LSSVWM/Nowhere-v0")
