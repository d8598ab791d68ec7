"""What is read of tensors is what was written, whatever bit is flipped in between."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lssvwm_models.utils.tensor_files import load_tensors, load_tree, save_tensors, save_tree, tensor_bytes

TENSORS = {
    "b": torch.tensor([[1.5, -2.0], [0.0, 3.0]]),
    "a": torch.tensor([1, -2, 3]),
    "mask": torch.tensor([True, False]),
    "half": torch.tensor([1.0, 2.0], dtype=torch.bfloat16),
    "empty": torch.zeros(0, 3),
    "one": torch.tensor(7.0),
}
METADATA = {"format": "x", "note": "é", "keys": "[1, 2]"}
TREE = {
    "step": 3,
    "seconds": 0.1,
    "done": True,
    "losses": [1.0, (2, None)],
    "model": OrderedDict(TENSORS),
    "o": {0: "s"},
}


def same(a: Any, b: Any) -> bool:
    """Whether two trees are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and all(same(a[k], b.get(k)) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def flipped(data: bytes, count: int) -> list[bytes]:
    """Copies with one bit flipped each, at random."""
    copies = []
    for bit in np.random.default_rng(0).choice(8 * len(data), count, replace=False).tolist():
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        copies.append(bytes(damaged))
    return copies


def test_tensors_and_metadata_are_the_same_again(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", TENSORS, METADATA)
    tensors, metadata = load_tensors(tmp_path / "x")
    assert same(TENSORS, tensors) and same(tensors, TENSORS) and metadata == METADATA
    save_tensors(tmp_path / "y", {})
    assert load_tensors(tmp_path / "y") == ({}, {})


def test_trees_are_the_same_again(tmp_path: Path) -> None:
    save_tree(tmp_path / "x", TREE)
    tree = load_tree(tmp_path / "x")
    assert same(TREE, tree) and tree.keys() == TREE.keys()


def test_views_are_written_as_what_they_show(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    views = {"t": whole.T, "part": whole[:, 1], "wide": torch.ones(1).expand(3), "single": whole[:1, 1]}
    save_tensors(tmp_path / "x", views)
    save_tree(tmp_path / "y", views)
    assert same(views, load_tensors(tmp_path / "x")[0]) and same(views, load_tree(tmp_path / "y"))


def test_what_was_read_stays_when_the_file_is_written_over(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", TENSORS)
    tensors, _ = load_tensors(tmp_path / "x")
    (tmp_path / "x").write_bytes(bytes((tmp_path / "x").stat().st_size))
    assert same(TENSORS, tensors)


def test_every_flipped_bit_of_tensors_is_refused_or_of_no_account(tmp_path: Path) -> None:
    save_tensors(path := tmp_path / "x", TENSORS, METADATA)
    refused = 0
    for data in flipped(path.read_bytes(), 400):
        path.write_bytes(data)
        try:
            tensors, metadata = load_tensors(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert same(TENSORS, tensors) and same(METADATA, metadata)
    assert refused > 300


def test_every_flipped_bit_of_a_tree_is_refused_or_of_no_account(tmp_path: Path) -> None:
    save_tree(path := tmp_path / "x", TREE)
    for data in flipped(path.read_bytes(), 400):
        path.write_bytes(data)
        try:
            tree = load_tree(path)
        except ValueError as error:
            assert str(path) in str(error)
        else:
            assert same(TREE, tree)


@pytest.mark.parametrize(
    "change",
    [
        {"step": 4},
        {"step": 3.0},
        {"done": 1},
        {"losses": [1.0, [2, None]]},
        {"losses": [(2, None), 1.0]},
        {"model": TENSORS | {"a": torch.tensor([1, -2, 4])}},
        {"model": TENSORS | {"a": torch.tensor([[1, -2, 3]])}},
        {"model": TENSORS | {"a": torch.tensor([1, -2, 3], dtype=torch.int32)}},
        {"model": TENSORS | {"b": TENSORS["b"].view(torch.int32)}},
        {"model": {name: tensor for name, tensor in TENSORS.items() if name != "empty"}},
        {"o": {"0": "s"}},
        {"more": None},
    ],
    ids=str,
)
def test_whatever_differs_from_what_was_written_is_noticed(change: dict[str, Any], tmp_path: Path) -> None:
    save_tree(path := tmp_path / "x", TREE)
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(ValueError, match="x is damaged .its content has SHA-256"):
        load_tree(path)


def test_files_of_older_releases_have_no_sum_and_are_read(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x", METADATA)
    tensors, metadata = load_tensors(tmp_path / "x")
    assert same(TENSORS, tensors) and metadata == METADATA
    torch.save(TREE, tmp_path / "y")
    assert same(TREE, load_tree(tmp_path / "y"))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_numbers_that_are_not_finite_are_refused_with_a_sum_or_without(number, dtype, tmp_path: Path) -> None:
    bad = {"good": torch.ones(1), "bad": torch.tensor([1.0, number], dtype=dtype)}
    save_tensors(tmp_path / "x", bad)
    save_tree(tmp_path / "z", {"model": [bad]})
    for load, name, where in ((load_tensors, "x", "bad"), (load_tree, "z", "model.0.bad")):
        with pytest.raises(ValueError, match=f"{name} has numbers in .*{where} that are not finite"):
            load(tmp_path / name)
    save_file(bad, tmp_path / "x")
    torch.save({"model": [bad]}, tmp_path / "z")
    for load, name in ((load_tensors, "x"), (load_tree, "z")):
        with pytest.raises(ValueError, match="not finite"):
            load(tmp_path / name)


def test_booleans_are_zero_or_one(tmp_path: Path) -> None:
    save_file({"mask": torch.tensor([True, False])}, path := tmp_path / "x")
    data = bytearray(path.read_bytes())
    data[-1] = 2
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"x has numbers in .*mask"):
        load_tensors(path)


def test_the_same_content_makes_the_same_bytes() -> None:
    mine = tensor_bytes({"a": torch.arange(3.0)}, {name: name for name in "abcdefgh"})
    for _ in range(5):  # the library would take another order every time
        assert tensor_bytes({"a": torch.arange(3.0)}, {name: name for name in "hgdbcafe"}) == mine
    size = int.from_bytes(mine[:8], "little")
    assert list(json.loads(mine[8 : 8 + size])["__metadata__"]) == list("abcdefgh")
    for length in range(8):
        assert int.from_bytes(tensor_bytes({}, {"a": "b" * length})[:8], "little") % 8 == 0


def test_truncated_and_other_files_are_refused_by_name(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x", TENSORS)
    save_tree(tmp_path / "y", TREE)
    for name, load in (("x", load_tensors), ("y", load_tree)):
        whole = (tmp_path / name).read_bytes()
        for length in (0, 1, 100, len(whole) - 1):
            (tmp_path / name).write_bytes(whole[:length])
            with pytest.raises(ValueError, match=f"/{name} is "):
                load(tmp_path / name)
        (tmp_path / name).unlink()
        with pytest.raises(FileNotFoundError):
            load(tmp_path / name)
    torch.save([1, 2], tmp_path / "y")
    with pytest.raises(ValueError, match="y is damaged .it holds list, not a dict"):
        load_tree(tmp_path / "y")
