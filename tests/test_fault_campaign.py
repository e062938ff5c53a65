"""The fault campaign: a short one by its command, and whether its table is right."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support.project import ROOT

from ranger21.faults import setups
from ranger21.faults.campaign import Campaign
from ranger21.faults.kinds import SAVE_EVERY, Between, Refused, SessionRecord
from ranger21.faults.listing import BY_ITSELF, BY_NAME, KINDS
from ranger21.faults.plan import plan
from ranger21.faults.setups import shares
from ranger21.faults.table import CampaignResult
from ranger21.faults.verdict import Judged, Likeness, compare, difference, judge
from ranger21.records.checkpoint_file import read
from ranger21.system.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fault injection needs Linux")

LEG = setups.LEGS[0]
# Three faults in two sessions; the run refuses to start in the second.
THREE = ("--faults", "3", "--ranks", "1", "--seed", "651")
LOADER, WANDB = "loader process killed", "wandb process killed, offline"
BEFORE_BEST, OTHERS = "killed between last.pt and best.pt", "last.pt of another run"


def command(folder: Path, *more: str) -> dict[str, Any]:
    script = str(ROOT / "scripts" / "fault_campaign.py")
    places = ("--work", str(folder / "work"), "--out", str(folder / "out"))
    env = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return {
        "args": [sys.executable, script, *THREE, *places, "--fork", *more],
        "env": env,
        "text": True,
        "stdout": subprocess.PIPE,
    }


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short campaign that was killed after it had begun, and started again."""
    folder = tmp_path_factory.mktemp("campaign")
    process = subprocess.Popen(**command(folder))
    assert process.stdout
    line = next(line for line in process.stdout if line.startswith("["))
    process.kill()
    process.communicate(timeout=30)
    assert line.startswith("[2 of 3 faults, left ")
    done = subprocess.run(**command(folder), timeout=700)
    assert done.returncode == 0 and "[3 of 3 faults" in done.stdout, done.stdout
    assert "[2 of 3 faults" not in done.stdout  # it continued from there
    return folder


def found(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "faults.json").read_text())


@pytest.mark.timeout(900)
def test_a_short_campaign_recovers_from_every_fault(campaign: Path) -> None:
    content = found(campaign)
    assert content["good"] and len(content["faults"]) == 3 and len(content["runs"]) == 1
    kinds = [fault["kind"] for fault in content["faults"]]
    assert kinds == ["metrics.jsonl deleted", BEFORE_BEST, OTHERS]
    assert not any(fault["mistake"] for fault in content["faults"])
    assert all(0 <= fault["repeated"] <= SAVE_EVERY and fault["commit"] for fault in content["faults"])
    text = (campaign / "out" / "table.md").read_text()
    line = "| 1 rank | last.pt of another run | 1 | 1 | 0 / 0 | 1 of 1 identical |"
    assert line in text and "- started: forked\n" in text
    assert "| all | all | 3 | 3 |" in text and "| 3 of 3 as undisturbed | 3 of 3 |" in text


@pytest.mark.timeout(900)
def test_a_changed_weight_fails_the_campaign(campaign: Path) -> None:
    """One weight of a finished run is changed by the smallest possible amount."""
    last = campaign / "work" / "runs" / "0-1-ranks-0" / "checkpoints" / "last.pt"
    before, state = last.read_bytes(), read(last)
    weight = next(tensor for tensor in state["model"].values() if tensor.is_floating_point())
    first = (0,) * weight.ndim
    weight[first] = torch.nextafter(weight[first], torch.tensor(9.0))
    torch.save(state, last)
    done = subprocess.run(**command(campaign), timeout=120)
    last.write_bytes(before)
    assert done.returncode == 1 and "differs from the undisturbed run" in done.stdout, done.stdout
    content = found(campaign)
    assert not content["good"] and 0 < content["runs"][0]["weights"] < 1e-6
    assert "| 0 of 3 as undisturbed | 3 of 3 |" in (campaign / "out" / "table.md").read_text()


@pytest.mark.timeout(900)
def test_changes_of_metrics_result_and_best_checkpoint_are_noticed(campaign: Path) -> None:
    runs = campaign / "work" / "runs"
    run, reference = runs / "0-1-ranks-0", runs / "0-1-ranks-undisturbed"

    def looked_at() -> Likeness:
        return compare(run, reference, 0.0)

    def after(path: Path, content: bytes | None) -> Likeness:
        before = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        result = looked_at()
        path.write_bytes(before)
        return result

    assert looked_at() == Likeness(True, 0.0, True, True)
    metrics, last, best = run / "metrics.jsonl", run / "checkpoints" / "last.pt", run / "checkpoints" / "best.pt"
    lines = metrics.read_bytes().splitlines(keepends=True)
    other = lines[0].replace(b'"epoch": 0', b'"epoch": 1')
    for changed in (lines[:-1], [*lines, lines[-1]], [*lines, b"{"], lines[1:], [other, *lines[1:]]):
        assert after(metrics, b"".join(changed)) == Likeness(True, 0.0, True, False)
    assert not after(run / "result.json", None).finished
    assert after(last, last.read_bytes()[:-1]).weights == float("inf")
    assert not after(best, (run / "checkpoints" / "previous.pt").read_bytes()).same(0.0)
    assert looked_at().same(0.0)


def test_difference_compares_nested_tensors_and_is_infinite_otherwise() -> None:
    one = {"a": [torch.ones(3), 2], "b": "x"}
    assert difference(one, {"a": [torch.ones(3), 2], "b": "x"}) == 0
    assert difference(one, {"a": [torch.tensor([1, 1, 1.5]), 2], "b": "x"}) == 0.5
    for other in (
        {"a": [torch.ones(3), 3], "b": "x"},
        {"a": [torch.ones(4), 2], "b": "x"},
        {"a": [torch.ones(3).double(), 2], "b": "x"},
        {"a": [torch.tensor([1, 1, float("nan")]), 2], "b": "x"},
        {"a": [torch.ones(3)], "b": "x"},
        {"a": [torch.ones(3), 2]},
    ):
        assert difference(one, other) == float("inf")


def record(*faults: tuple[str, int], **values: Any) -> SessionRecord:
    """Return a session in one process that was killed after the steps 20 to 33."""
    facts = {"newest": 20, "resumed": 20, "reached": 33, "saved": 30, "codes": [-9]} | values
    return SessionRecord(LEG.name, 0, 1, 1, faults=[{"kind": kind, "step": step} for kind, step in faults], **facts)


END = record(newest=30, resumed=30, reached=120, saved=120, codes=[0], finished=True)


@pytest.mark.parametrize(
    ("kind", "values", "after", "mistake"),
    [
        ("SIGKILL", {}, [END], ""),
        ("SIGKILL", {}, [], "no session resumed"),
        ("SIGKILL", {"codes": [1]}, [END], "ended with [1]"),
        ("SIGKILL", {"hung": True}, [END], "the run hung"),
        ("SIGKILL", {"left_behind": ["python"]}, [END], "left behind: python"),
        ("SIGKILL", {"saved": 25}, [END], "8 steps were lost"),
        ("SIGKILL", {}, [record(newest=30, resumed=25), END], "resumed from step 25, not the newest"),
        ("SIGKILL", {}, [record(newest=30, resumed=None), END], ""),
        ("SIGKILL", {}, [record(newest=30, resumed=30)], "the run never finished"),
        ("SIGTERM", {"codes": [143], "reached": 30}, [END], ""),
        ("SIGTERM", {"codes": [143]}, [END], "3 steps were lost after its last checkpoint, 30"),
        ("SIGTERM", {"codes": [-15], "reached": 30}, [END], "ended with [-15]"),
        ("SIGTERM", {"codes": [143], "reached": 30, "told": ["Traceback"]}, [END], "showed a traceback"),
        ("SIGTERM", {"codes": [-15], "resumed": None, "reached": 20, "saved": 20}, [END], ""),
        ("disk full", {"codes": [1], "told": ["could not be written"]}, [END], ""),
        ("disk full", {"codes": [1]}, [END], "no message with 'could not be written'"),
        ("disk full", {"codes": [0], "told": ["could not be written"]}, [END], "ended with [0]"),
        ("one rank killed", {"codes": [1, -9]}, [END], ""),
        ("one rank killed", {"codes": [-9, -9], "ended_by_us": 1}, [END], "1 of 1 ranks did not end"),
        (LOADER, {"codes": [0], "finished": True, "reached": 44, "told": ["are restarted"]}, [], ""),
        (LOADER, {"codes": [0], "finished": True, "reached": 44}, [], "no message with"),
        (LOADER, {"codes": [0], "finished": True, "reached": 43}, [], ""),
        (LOADER, {"codes": [1]}, [END], "the run ended with [1]"),
        (WANDB, {"codes": [0], "finished": True, "reached": 34}, [], "no message with 'W&B is"),
        (WANDB, {"codes": [0], "hung": True}, [END], "the run hung"),
        ("checkpoint cut short", {"lost": 5, "told": ["is damaged"]}, [END], ""),
        ("checkpoint cut short", {"lost": 5}, [END], "no message with 'is damaged'"),
        ("checkpoint cut short", {"resumed": None}, [record(newest=20, resumed=20), END], ""),
        ("checkpoint cut short", {"resumed": 0}, [END], "resumed from step 0, not the newest intact one, 20"),
        ("metrics.jsonl torn", {}, [END], ""),
    ],
)  # fmt: skip
def test_each_fault_is_judged_by_what_followed_it(
    kind: str, values: dict[str, Any], after: list[SessionRecord], mistake: str
) -> None:
    fault = judge(LEG, [record((kind, 27), **values), *after])[0]
    assert fault.kind == kind and fault.mistake.startswith(mistake) and bool(fault.mistake) == bool(mistake), fault


def test_a_replaced_loader_process_counts_only_if_a_step_followed() -> None:
    told = record((LOADER, 25), ("SIGKILL", 33), told=["are restarted"])
    later = judge(LEG, [told, END])
    assert [(fault.kind, fault.mistake, fault.repeated) for fault in later] == [
        (LOADER, "", 0),
        ("SIGKILL", "", 3),
    ]
    stuck = judge(LEG, [record((LOADER, 33), ("SIGKILL", 35)), END])
    assert stuck[0].mistake == "no step followed"


def test_a_run_that_ends_without_a_fault_is_a_mistake() -> None:
    for faults in ((), ((LOADER, 25),), (("checkpoint cut short", 20),)):
        last = judge(LEG, [record(*faults, codes=[1]), END])[-1]
        assert (last.kind, last.mistake) == (BY_ITSELF, "ended with [1], although no fault had hit it")
    assert judge(LEG, [END]) == []


def test_one_bad_fault_or_run_fails_the_campaign() -> None:
    good, same = Judged(LEG.name, "SIGKILL", 0, 3, 1), Likeness(True, 0.0, True, True)
    assert CampaignResult((LEG,), [good], {(LEG.name, 0): same}).good()
    bad = Judged(LEG.name, "SIGKILL", 0, 3, 1, "lost")
    assert not CampaignResult((LEG,), [good, bad], {(LEG.name, 0): same}).good()
    for other in (
        Likeness(False, 0.0, True, True),
        Likeness(True, 1e-9, True, True),
        Likeness(True, 0.0, False, True),
        Likeness(True, 0.0, True, False),
    ):
        assert not CampaignResult((LEG,), [good], {(LEG.name, 0): other}).good()
    changing = setups.LEGS[2]
    for weights, fine in ((1e-11, True), (2e-10, False)):
        near = {(changing.name, 0): Likeness(True, weights, False, True)}
        outcome = CampaignResult((changing,), [Judged(changing.name, "number of ranks changed", 0, 9, 0)], near)
        assert outcome.good() == fine and f"{weights:.2g}" in outcome.markdown()


def test_the_seed_determines_the_faults() -> None:
    faults = [plan(651, LEG, 0, session) for session in range(2)]
    assert [len(some) for some in faults] == [2, 1] and faults == [plan(651, LEG, 0, session) for session in range(2)]
    for leg in setups.LEGS:
        planned = {fault.kind for run in range(8) for session in range(12) for fault in plan(0, leg, run, session)}
        assert planned == {kind.name for kind in KINDS for run in range(8)
                           if kind.fits(leg, leg.setup(run)) and not kind.impossible()}  # fmt: skip
        for run, session in itertools.product(range(8), range(12)):
            kinds = [BY_NAME[fault.kind] for fault in plan(0, leg, run, session)]
            assert [kind.ends for kind in kinds if not isinstance(kind, Between)][-1:] == [True]
            assert not any(isinstance(kind, Refused) for kind in kinds[1:])
    for number in (1, 7, 120):
        assert sum(shares(number, setups.LEGS)) == number and shares(number, setups.LEGS[:1]) == [number]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("campaign.json", b'{"seed": 0, "ranks": "2"}', "has another campaign"),
        ("campaign.json", b"\xff{\n", "has another campaign"),
        ("sessions.jsonl", b"\xff{\n", "is damaged"),
    ],
)
def test_the_folder_of_another_campaign_is_refused_and_unchanged(
    name: str, content: bytes, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{sentence}.*: choose another --work, or delete it"):
        Campaign(tmp_path, 3, 651, "1", fork=True, commit="", say=print)
    assert (tmp_path / name).read_bytes() == content
