"""The kernels of mamba-ssm: when they are chosen, and, in Triton's interpreter, what they compute."""

import importlib.util
import logging
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from lssvwm_models.memory import mamba_kernels
from lssvwm_models.memory.ssm import frame_scan, frame_scan_reference
from tests.lssvwm_models import scan_inputs

ROOT = Path(__file__).parents[2]
LEAVES = ("C", "x", "dt", "A", "B", "state")


inputs = partial(scan_inputs.inputs, P=4, N=8)


def results(scan, i):
    """y, the last state, and the gradients, through both, of all that has some."""
    i = i | {name: i[name].clone().requires_grad_() for name in LEAVES}
    y, state = scan(**i)
    loss = (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum() + state.square().sum()
    return {"y": y, "last": state} | dict(zip(LEAVES, torch.autograd.grad(loss, [i[k] for k in LEAVES]), strict=True))


def agree(actual, expected, rtol=1e-5, atol=1e-5):
    for name in expected:
        torch.testing.assert_close(
            actual[name], expected[name], rtol=rtol, atol=atol, msg=lambda m, name=name: f"{name}: {m}"
        )


def token_recurrence(x, dt, A, B, C, chunk_size, initial_states, seq_idx, return_final_states):
    """What `mamba_chunk_scan_combined` computes, token by token."""
    assert chunk_size >= 16 and chunk_size & (chunk_size - 1) == 0
    assert all(v.is_contiguous() for v in (x, dt, B, C, initial_states, seq_idx)) and return_final_states
    state, before, ys = initial_states, torch.zeros_like(seq_idx[:, 0]), []
    for token in range(x.shape[1]):
        state = torch.where((seq_idx[:, token] == before)[:, None, None, None], state, 0.0)
        before = seq_idx[:, token]
        write = torch.einsum("gh,ghp,gn->ghpn", dt[:, token], x[:, token], B[:, token, 0])
        state = (dt[:, token] * A).exp()[..., None, None] * state + write
        ys.append(torch.einsum("gn,ghpn->ghp", C[:, token, 0], state))
    return torch.stack(ys, 1).to(x.dtype), state


@pytest.fixture
def log(caplog):
    """The log of a process that has chosen nothing yet."""
    mamba_kernels._say.cache_clear()
    caplog.set_level(logging.INFO, "lssvwm_models.memory.mamba_kernels")
    yield caplog
    mamba_kernels._say.cache_clear()


@pytest.fixture
def like_cuda(monkeypatch):
    """Where the kernels run if they are installed."""
    monkeypatch.setattr(mamba_kernels, "DEVICE", "cpu")
    monkeypatch.setattr(mamba_kernels, "_tf32", lambda: True)


@pytest.fixture
def kernel(monkeypatch, like_cuda):
    """Installed kernels, but slow ones. Returns the numbers of tubes they were called with."""
    calls = []

    def scan(x, *args, **kwargs):
        calls.append(len(x))
        return token_recurrence(x, *args, **kwargs)

    monkeypatch.setattr(mamba_kernels, "_load", lambda: scan)
    monkeypatch.setattr(mamba_kernels, "version", lambda package: "1.0")
    return calls


@pytest.fixture
def fresh_load():
    mamba_kernels._load.cache_clear()
    yield
    mamba_kernels._load.cache_clear()


def package(folder: Path, kernels: str, init: str = "raise ImportError('no module selective_scan_cuda')") -> None:
    """An installed mamba_ssm."""
    module = folder / "mamba_ssm" / "ops" / "triton" / "ssd_combined.py"
    module.parent.mkdir(parents=True)
    (folder / "mamba_ssm" / "__init__.py").write_text(init)
    module.write_text(kernels)


def test_on_the_cpu_scans_run_in_pytorch_and_the_log_says_so_once(log):
    for _ in range(3):
        frame_scan(**inputs(0))
    assert log.messages == ["Scans run in PyTorch: the kernels want cuda, the tensors are on cpu."]


def test_where_there_are_kernels_they_run_and_the_log_says_so_once(log, kernel):
    for _ in range(3):
        frame_scan(**inputs(0))
    assert kernel == [3, 3, 3]
    assert log.messages == ["Scans run in the kernels of mamba-ssm 1.0, Triton 1.0."]


def test_one_frame_is_no_scan(log, kernel):
    frame_scan(**inputs(0, T=1))
    assert not kernel and log.messages == ["Scans run in PyTorch: one frame needs no scan."]


def test_exact_float32_stays_in_pytorch(log, kernel, monkeypatch):
    i = inputs(0)
    monkeypatch.setattr(mamba_kernels, "_tf32", lambda: False)
    frame_scan(**i)
    assert not kernel and "TF32" in log.messages[0]
    with torch.autocast("cpu", torch.bfloat16):
        assert frame_scan(**i)[0].dtype == torch.bfloat16
    assert kernel == [3]


def test_float64_stays_in_pytorch(log, kernel):
    frame_scan(**{k: v.double() if v.is_floating_point() else v for k, v in inputs(0).items()})
    assert not kernel and "torch.float64" in log.messages[0]


def test_what_pytorch_may_do_with_float32_is_read_from_either_switch():
    code = """
import torch
from lssvwm_models.memory.mamba_kernels import _tf32
assert not _tf32()
torch.set_float32_matmul_precision("high")
assert _tf32()
torch.set_float32_matmul_precision("highest")
torch.backends.cuda.matmul.allow_tf32 = True
assert _tf32()
if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    assert not _tf32()
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("T, R, M", [(5, 4, 2), (2, 1, 1), (9, 3, 4)])
def test_frames_as_tokens_give_the_same_numbers_and_gradients(kernel, T, R, M):
    i = inputs(T, T, R, M)
    agree(results(mamba_kernels.chunk_scan, i), results(frame_scan_reference, i))
    assert kernel == [3]


def test_views_and_other_types_are_made_fit(kernel):
    i = inputs(1, H=4)
    strided = {k: torch.stack([v, v], -1)[..., 0] for k, v in i.items()}
    strided |= {k: i[k].to(memory_format=torch.channels_last) for k in ("C", "B")}
    agree(results(mamba_kernels.chunk_scan, strided), results(frame_scan_reference, i))
    mixed = i | {"x": i["x"].bfloat16().float(), "B": i["B"].bfloat16()}  # float32 beside bfloat16: float32
    exact = mixed | {"B": mixed["B"].float()}
    torch.testing.assert_close(mamba_kernels.chunk_scan(**mixed)[0], frame_scan_reference(**exact)[0])


@pytest.mark.parametrize("limit, parts", [(2 * 2 * 32 * 32, [2, 1]), (3 * 2 * 32 * 32, [3]), (2 * 32 * 32, [1, 1, 1])])
def test_too_many_elements_are_scanned_in_parts(kernel, monkeypatch, limit, parts):
    i = inputs(2)  # a tube is one chunk of 32 tokens, its largest tensor 2 heads of 32 x 32 scores
    monkeypatch.setattr(mamba_kernels, "MAX_ELEMENTS", limit)
    agree(results(frame_scan, i), results(frame_scan_reference, i))
    assert kernel == parts


def test_too_many_blocks_are_scanned_in_parts(kernel, monkeypatch):
    monkeypatch.setattr(mamba_kernels, "CHUNK", 16)
    monkeypatch.setattr(mamba_kernels, "MAX_BLOCKS", 5)  # 30 tokens are two chunks: two tubes at once
    i = inputs(3)
    agree(results(frame_scan, i), results(frame_scan_reference, i))
    assert kernel == [2, 1]


def test_a_tube_too_large_stays_in_pytorch(log, kernel, monkeypatch):
    monkeypatch.setattr(mamba_kernels, "MAX_ELEMENTS", 2 * 32 * 32 - 1)
    frame_scan(**inputs(0))
    assert not kernel and "too large" in log.messages[0]


def test_real_sizes_stay_below_the_limits():
    """64 videos of 256 frames, 8x8 tokens in tubes of one, two streams, 12 heads of 64 x 64 numbers."""
    C = torch.empty(64 * 64, 256, 2, 64, device="meta")
    x = torch.empty(64 * 64, 256, 1, 12, 64, device="meta")
    most = mamba_kernels._most_tubes(C, x)
    assert most * (768 // 128) <= 65_535 and most * 768 * 12 * 128 < 2**31 and most > 1000


def test_without_mamba_the_reason_is_given(fresh_load, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert mamba_kernels.available() == "mamba-ssm is not installed"
    with pytest.raises(RuntimeError, match="not installed"):
        mamba_kernels.chunk_scan(**inputs(0))


@pytest.mark.parametrize("error", ["ImportError", "ModuleNotFoundError", "RuntimeError", "AttributeError", "OSError"])
def test_a_broken_package_breaks_nothing(log, like_cuda, fresh_load, monkeypatch, tmp_path, error):
    monkeypatch.syspath_prepend(tmp_path)
    package(tmp_path, f"raise {error}('broken')")
    i = inputs(0)
    torch.testing.assert_close(frame_scan(**i), frame_scan_reference(**i), rtol=1e-5, atol=1e-5)
    assert log.messages == [f"Scans run in PyTorch: mamba-ssm cannot be imported ({error}: broken)."]
    assert "mamba_ssm" not in sys.modules


def test_the_kernels_are_had_though_the_package_does_not_import(fresh_load, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    package(tmp_path, "mamba_chunk_scan_combined = print")
    assert mamba_kernels._load() is print and mamba_kernels.available() is None
    assert not [m for m in sys.modules if m.startswith("mamba_ssm")]  # for others, it is as it was


def test_a_package_that_is_imported_already_is_left_alone(fresh_load, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    package(tmp_path, "mamba_chunk_scan_combined = print", init="version = 3")
    real = importlib.import_module("mamba_ssm")
    try:
        assert mamba_kernels._load() is print and sys.modules["mamba_ssm"] is real
    finally:
        for module in [m for m in sys.modules if m.startswith("mamba_ssm")]:
            del sys.modules[module]


# The real kernels, in Triton's interpreter. It must be chosen before Triton is imported, hence another process.
INTERPRETER = """
import contextlib, sys, types
import torch
sys.path.insert(0, sys.argv[1])
from test_mamba_kernels import results
from lssvwm_models.memory import mamba_kernels, ssm

# What the kernels ask CUDA for before they are launched.
torch.cuda.device = lambda index: contextlib.nullcontext()
torch.cuda.get_device_properties = lambda device: types.SimpleNamespace(multi_processor_count=4)
mamba_kernels.DEVICE, mamba_kernels.CHUNK = "cpu", 16
torch.set_num_threads(1)
torch.set_float32_matmul_precision("high")

cases = torch.load(sys.argv[2])
for i in cases.values():
    assert mamba_kernels.reason_against(i["C"], i["x"], i["B"]) is None
torch.save({name: results(ssm.frame_scan, i) for name, i in cases.items()}, sys.argv[3])
"""


def cases():
    """A reset nowhere, at once, in the middle, twice in a row: each in a tube. And other sizes; and half precision, in
    float16, as the interpreter multiplies the bits of bfloat16 as if they were integers."""
    i = inputs(0, T=4, R=7, M=4, G=4)  # 44 tokens: three chunks of 16, the last of them not full
    i["is_first"] = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0]], dtype=torch.bool)
    return {
        "float32": i,
        "a token a frame": inputs(1, T=3, R=1, M=1, G=2, H=3, P=16, N=16),
        "float16": {k: v[:2].half() if k in ("C", "x", "B") else v if k == "A" else v[:2] for k, v in i.items()},
    }


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """For each case, what the real kernels compute."""
    if sys.platform != "linux":
        pytest.skip("there is no Triton for this platform")
    if problem := mamba_kernels.available():
        pytest.fail(f"{problem}: run make mamba")
    folder = tmp_path_factory.mktemp("interpreter")
    torch.save(cases(), folder / "cases.pt")
    # Deterministic: one configuration of each kernel, and so no search for the fastest, which needs a GPU.
    switches = {"TRITON_INTERPRET": "1", "MAMBA_DETERMINISTIC": "1"}
    args = [str(Path(__file__).parent), str(folder / "cases.pt"), str(folder / "results.pt")]
    run = subprocess.run(
        [sys.executable, "-c", INTERPRETER, *args], cwd=ROOT, env=os.environ | switches, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return torch.load(folder / "results.pt")


@pytest.mark.parametrize("name", cases())
def test_the_real_kernels_give_the_numbers_and_gradients_of_pytorch(interpreted, name):
    actual = interpreted[name]
    exact = {k: v.float() if v.is_floating_point() else v for k, v in cases()[name].items()}
    half = name == "float16"
    assert actual["y"].dtype == (torch.float16 if half else torch.float32) and actual["last"].dtype == torch.float32
    tolerance = 1e-2 if half else 1e-4
    agree({k: v.float() for k, v in actual.items()}, results(frame_scan, exact), tolerance, tolerance)
