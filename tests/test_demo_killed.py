"""Kill the demo at 20 random steps (takes minutes: `python -m pytest -m slow`)."""

import random
import signal
from pathlib import Path

import pytest
from support.training import assert_same_state, last_checkpoint, metrics_without_speed, result, run_ranks

DEMO = ["experiment=demo", "logger=none", "trainer.device=cpu", "trainer.checkpoint_every_steps=3"]
STEPS, KILLS = 90, 20


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Uninterrupted runs of the demo, on one rank and on two."""
    folder = tmp_path_factory.mktemp("whole")
    for ranks in (1, 2):
        assert run_ranks([*DEMO, "data.workers=0"], folder / str(ranks), ranks) == [0] * ranks
    return {ranks: folder / str(ranks) for ranks in (1, 2)}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("workers", "ranks"), [(0, 1), (1, 1), (3, 1), (0, 2)])
def test_the_demo_killed_at_twenty_random_steps_resumes_exactly(workers, ranks, whole, tmp_path):
    overrides, directory = [*DEMO, f"data.workers={workers}"], tmp_path / "killed"
    rng = random.Random(workers + 10 * ranks)
    for step in sorted(rng.sample(range(1, STEPS + 1), KILLS)):
        codes = run_ranks(overrides, directory, ranks, die_at=step, when=rng.choice(["before", "after"]))
        assert codes[-1] == -signal.SIGKILL
    assert run_ranks(overrides, directory, ranks) == [0] * ranks
    assert result(directory)["step"] == STEPS
    assert_same_state(last_checkpoint(directory), last_checkpoint(whole[ranks]))
    assert metrics_without_speed(directory) == metrics_without_speed(whole[ranks])
