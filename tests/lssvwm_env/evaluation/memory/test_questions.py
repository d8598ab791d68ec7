"""Answers are what a slow look-up says; a planted linear code is read in full, and noise is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lssvwm_env.evaluation.memory.questions import Answers, answers, question_frames, score_probes
from lssvwm_env.evaluation.memory.recordings import Recording, SuiteSettings, World, record_suite
from lssvwm_env.real import world_cells
from lssvwm_models.memory.geometry import surrounding_places

KINDS = {5: 0, 6: 1, 7: 2}  # MiniGrid's key, ball and box


@pytest.fixture(scope="module")
def wander() -> Recording:
    world = World("rooms", "MiniGrid-ObjectRooms-v0", {"size": 9, "num_objects": 6}, ("wander",))
    settings = SuiteSettings(worlds=(world,), sequences=6, context=90, horizon=6, continuation=(), questions=0)
    return record_suite(settings).episodes["rooms", "wander"]


def test_answers_are_what_was_last_seen(wander: Recording) -> None:
    at = question_frames(96)
    assert at.tolist() == [15, 31, 47, 63, 79, 95]
    found = answers(wander, at, 16)
    for b in range(2):
        world: dict[tuple[int, int], tuple[int, int]] = {}
        for t in range(96):
            view = world_cells(wander.pose[b, t])
            tiles = wander.tiles[b, t]
            sight = {tuple(view[r, c].tolist()): (r, c) for r in range(7) for c in range(7) if tiles[r, c, 0]}
            if t in at:
                q = at.tolist().index(t)
                centres = surrounding_places(torch.from_numpy(wander.pose[b, t]).long(), 16).numpy()
                for e, (x, y) in enumerate(centres):
                    cells = [(int(x + dx), int(y + dy)) for dx in (-0.5, 0.5) for dy in (-0.5, 0.5)]
                    asked = all(cell in world and cell not in sight for cell in cells)
                    assert found.valid[b, q, e] == asked
                    if asked:
                        things = [world[cell] for cell in cells if world[cell][0] in KINDS]
                        assert found.objects[b, q, e] == len(things)
                        single = (KINDS[things[0][0]], things[0][1]) if len(things) == 1 else (-1, -1)
                        assert (found.kind[b, q, e], found.colour[b, q, e]) == single
            for cell, (r, c) in sight.items():
                world[cell] = (1, 0) if (r, c) == (6, 3) else (int(tiles[r, c, 0]), int(tiles[r, c, 1]))
    assert found.valid.mean() > 0.05 and (found.objects[found.valid] > 0).mean() > 0.1


def made_up(rng: np.random.Generator, episodes: int) -> Answers:
    objects = (rng.random((episodes, 4, 16)) < 0.3).astype(np.int64)
    kind, colour = (np.where(objects == 1, rng.integers(0, many, objects.shape), -1) for many in (3, 6))
    return Answers(rng.random(objects.shape) < 0.8, objects, kind, colour)


def test_a_planted_code_is_read_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    train = made_up(rng, 40)
    test = made_up(rng, 20)
    torch.manual_seed(0)
    mixing = torch.randn(1 + 4 + 7, 24)

    def planted(facts: Answers) -> torch.Tensor:
        kind, colour = (torch.from_numpy(x + 1) for x in (facts.kind, facts.colour))
        plain = [torch.from_numpy(facts.objects)[..., None], F.one_hot(kind, 4), F.one_hot(colour, 7)]
        return torch.cat(plain, -1).float() @ mixing

    read = score_probes(planted(train), train, planted(test), test)
    noise = score_probes(torch.randn(40, 4, 16, 24), train, torch.randn(20, 4, 16, 24), test)
    for name, classes in (("object", 2), ("kind", 3), ("colour", 6)):
        assert read[name]["accuracy"]["value"] == read[name]["balanced"]["value"] == 1
        assert noise[name]["accuracy"]["value"] < noise[name]["chance"]["value"] + 0.08
        assert noise[name]["balanced"]["value"] == pytest.approx(1 / classes, abs=0.12)
        assert noise[name]["balanced_chance"] == 1 / classes
    assert read["object"]["accuracy"]["n"] == test.valid.sum()
    assert read["kind"]["accuracy"]["n"] == (test.valid & (test.kind >= 0)).sum()


def test_a_question_without_answers_is_left_out() -> None:
    rng = np.random.default_rng(0)
    facts = made_up(rng, 2)
    empty = Answers(facts.valid, facts.objects * 0, facts.kind * 0 - 1, facts.colour * 0 - 1)
    x = torch.randn(2, 4, 16, 5)
    assert score_probes(x, empty, x, empty) == {"object": None, "kind": None, "colour": None}
