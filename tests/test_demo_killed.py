"""The demo itself, killed at 20 random steps (minutes: `python -m pytest -m slow`)."""

import random
import signal
from pathlib import Path

import pytest
from children import assert_same, weights
from conftest import repeatable, result
from test_resume import children

DEMO = ["experiment=demo", "logger=none", "trainer.device=cpu", "trainer.checkpoint_every_steps=3"]
STEPS, KILLS = 90, 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The demo never killed, on one rank and on two."""
    folder = tmp_path_factory.mktemp("whole")
    for ranks in (1, 2):
        assert children([*DEMO, "data.workers=0"], folder / str(ranks), ranks) == [0] * ranks
    return {ranks: folder / str(ranks) for ranks in (1, 2)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("workers", "ranks"), [(0, 1), (1, 1), (3, 1), (0, 2)])
def test_demo_killed_at_twenty_random_steps(workers, ranks, whole, tmp_path):
    overrides, directory = [*DEMO, f"data.workers={workers}"], tmp_path / "killed"
    rng = random.Random(workers + 10 * ranks)
    for step in sorted(rng.sample(range(1, STEPS + 1), KILLS)):
        codes = children(overrides, directory, ranks, die_at=step, when=rng.choice(["before", "after"]))
        assert codes[-1] == -signal.SIGKILL
    assert children(overrides, directory, ranks) == [0] * ranks
    assert result(directory)["step"] == STEPS
    assert_same(weights(directory), weights(whole[ranks]))
    assert repeatable(directory) == repeatable(whole[ranks])
