"""All trainings report, evaluate and are killed alike."""

import pytest

from lssvwm_models.utils.run_folder import RunFolder
from lssvwm_models.utils.training_loop import Schedule, TrainingLoop


class Counting(TrainingLoop):
    """Each step adds its number to a sum."""

    def __init__(self, folder, steps=10, log_every=4, eval_every=3, checkpoint_every=4):
        super().__init__(RunFolder(folder, {}), Schedule("count", steps, log_every, eval_every, checkpoint_every))
        self.sum = 0
        self.resume()

    def train_step(self):
        self.step += 1
        self.sum += self.step
        self.seconds += 1.5
        return {"number": self.step}

    def state(self):
        return {"sum": self.sum}

    def load_state(self, state):
        self.sum = state["sum"]

    def status(self, metrics):
        return str(metrics["number"])

    def totals(self):
        return {"sum": self.sum}


def lines(loop):
    return [{k: v for k, v in line.items() if k != "time"} for line in loop.folder.metrics()]


def test_means_are_logged_with_totals_and_everything_is_done_after_the_last_step(tmp_path):
    loop = Counting(tmp_path)
    evaluated = []
    loop.loop(lambda: evaluated.append(loop.step) or {"judged": loop.step})
    assert [line for line in lines(loop) if "number" in line] == [
        {"step": 4, "number": 2.5, "sum": 10},
        {"step": 8, "number": 6.5, "sum": 36},
        {"step": 10, "number": 9.5, "sum": 55},
    ]
    assert evaluated == [3, 6, 9, 10] == [line["judged"] for line in lines(loop) if "judged" in line]
    assert loop.folder.load_checkpoint() == {"step": 10, "seconds": 15.0, "sum": 55}


def test_a_killed_loop_goes_on_from_its_checkpoint_and_logs_nothing_twice(tmp_path):
    def killed():
        if loop.step == 6:
            raise KeyboardInterrupt
        return {"judged": loop.step}

    loop = Counting(tmp_path / "killed")
    with pytest.raises(KeyboardInterrupt):
        loop.loop(killed)
    resumed = Counting(tmp_path / "killed")
    assert (resumed.step, resumed.sum, resumed.seconds) == (4, 10, 6.0)
    resumed.loop(lambda: {"judged": resumed.step})
    whole = Counting(tmp_path / "whole")
    whole.loop(lambda: {"judged": whole.step})
    assert lines(resumed) == lines(whole)


def test_what_was_logged_after_the_checkpoint_is_forgotten(tmp_path):
    loop = Counting(tmp_path)
    loop.folder.log(3, {"before": 1.0})
    loop.step = 4
    loop.checkpoint()
    loop.folder.log(4, {"at": 1.0})
    loop.folder.log(5, {"after": 1.0})
    assert [line["step"] for line in lines(Counting(tmp_path))] == [3, 4]


def test_a_finished_loop_has_nothing_left_to_do(tmp_path):
    Counting(tmp_path).loop()
    again = Counting(tmp_path)
    before = lines(again)
    again.loop()
    assert again.step == 10 and lines(again) == before


def test_without_an_evaluation_none_is_logged(tmp_path):
    loop = Counting(tmp_path)
    loop.loop()
    assert [line["step"] for line in lines(loop)] == [4, 8, 10]


def test_progress_is_told_where_there_is_no_terminal(tmp_path, capsys):
    Counting(tmp_path).loop()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("count 4 of 10  2.5  ") and lines[-1] == "count 10 of 10  9.5  0:00:00 left"


def test_a_checkpoint_of_another_training_is_refused_by_name(tmp_path):
    RunFolder(tmp_path, {}).save_checkpoint({"step": 1, "seconds": 1.0, "weights": 3})
    with pytest.raises(ValueError, match=r"checkpoint.pt is not of this training, .*'sum'.*delete it to begin anew"):
        Counting(tmp_path)
