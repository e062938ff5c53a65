"""tuning.md: the trials, their results, and the winners' accuracy on fresh seeds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.image import imread
from support.command_runner import CommandRunner
from support.run_directories import MakeRun
from support.tuning import make_composed, make_tuned

from ranger21.meta.record import write_composed
from ranger21.report.runs.finding import find_runs
from ranger21.system.errors import UserError
from ranger21.tuning.best_of import best_of
from ranger21.tuning.notes import notes
from ranger21.tuning.page import markdown, write_tuning
from ranger21.tuning.record import Budget, Edge, Tuned, read_tuned, tuned_hash, write_tuned
from ranger21.tuning.results import tunings


def fresh(make_run: MakeRun, optimizer: str, top1: tuple[float, ...], **settings: object) -> None:
    """Write runs on fresh seeds with this final holdout top-1; their top-1 on the official validation set differs."""
    for number, value in enumerate(top1):
        tail = json.dumps({"step": 20, "epoch": 2.0, "time": 1.0, "holdout/acc1": value}) + "\n"
        name = f"{optimizer}-{'tuned' if settings else 'untuned'}-{number}"
        path = make_run(optimizer, 100 + number, (11.0, 12.0), tail=tail, name=name, **settings)
        (path / "manifest.json").write_text(json.dumps({"data": {"classes": 5}}))


def winner(optimizer: str) -> dict[str, object]:
    """Return the settings that record the tuning in the winner's runs."""
    return {"tuning__trials": 4, "tuning__record": tuned_hash(make_tuned(optimizer))}


@pytest.fixture
def workload(make_run: MakeRun, tmp_path: Path) -> Path:
    fresh(make_run, "adamw", (61.0, 62.0, 63.0))
    fresh(make_run, "adamw", (71.0, 71.5, 72.0), optimizer__lr=1e-2, **winner("adamw"))
    fresh(make_run, "nesterov", (55.0, 56.0))
    (tmp_path / "out").mkdir()
    return tmp_path


def row(text: str, name: str) -> list[str]:
    return next(
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith(name)
    )


def test_the_page_has_default_best_of_k_winner_and_diverged_trials(workload: Path) -> None:
    runs = find_runs([str(workload / "outputs")]).runs
    text = markdown(tunings([make_tuned("nesterov"), make_tuned("adamw")], runs))
    assert row(text, "| optimizer ")[1:] == [
        "untuned",
        "best of 1",
        "best of 2",
        "best of 4",
        "tuned",
        "diverged trials",
    ]
    values = (70.0, 20.0, 72.0, 60.0)  # a diverged trial counts as chance among five classes
    one, two = best_of(values, 1), best_of(values, 2)
    assert row(text, "| adamw ") == [
        "adamw",
        "62.00 ± 1.00 (n = 3)",
        f"{one.mean:.2f} ({one.low:.2f} to {one.high:.2f})",
        f"{two.mean:.2f} ({two.low:.2f} to {two.high:.2f})",
        "72.00",
        "71.50 ± 0.50 (n = 3)",
        "1 of 4",
    ]
    assert row(text, "| nesterov ")[-3:] == ["65.00", "–", "2 of 4"]
    assert "- nesterov: the winner has not been run on fresh seeds." in text
    assert "| adamw | optimizer.lr | 0.0001 to 0.1, log-uniform | 0.01 |" in text
    assert "| adamw | schedule | constant, cosine | cosine |" in text
    assert "| 2 | 0.01 | cosine | **72.00** |" in text and "| 1 | 0.001 | cosine | diverged |" in text


def test_trials_and_runs_with_other_settings_are_not_the_untuned_runs(workload: Path, make_run: MakeRun) -> None:
    trial = {"trainer__final_validation": False, "optimizer__lr": 3e-2, "tuning__trials": 0}
    tail = json.dumps({"step": 20, "epoch": 2.0, "holdout/acc1": 5.0}) + "\n"
    for number in range(4):
        make_run("adamw", 0, (11.0, 12.0), tail=tail, name=f"trial-{number}", **trial)
    text = markdown(tunings([make_tuned("adamw")], find_runs([str(workload / "outputs")]).runs))
    assert row(text, "| adamw ")[1] == "62.00 ± 1.00 (n = 3)"
    make_run("adamw", 100, (11.0, 12.0), tail=tail, name="sweep", optimizer__lr=0.5)
    text = markdown(tunings([make_tuned("adamw")], find_runs([str(workload / "outputs")]).runs))
    assert row(text, "| adamw ")[1] == "–" and row(text, "| adamw ")[-2] == "71.50 ± 0.50 (n = 3)"
    note = "- adamw: its runs on fresh seeds differ in more than their seeds, so none is used: lr=0.001, lr=0.5."
    assert note in text


def test_the_same_records_give_the_same_files_in_any_order(workload: Path) -> None:
    runs = find_runs([str(workload / "outputs")]).runs
    for name, order in (("a", 1), ("b", -1)):
        (workload / name).mkdir()
        written = write_tuning([make_tuned("nesterov"), make_tuned("adamw")][::order], runs[::order], workload / name)
        assert written == [workload / name / "tuning.md", workload / name / "tuning"]
    files = sorted((path.relative_to(workload / "a") for path in (workload / "a").rglob("*.*")), key=str)
    figures = [f"tuning/test-{what}.{kind}" for what in ("lr", "trials") for kind in ("png", "svg")]
    assert sorted(map(str, files)) == sorted(["tuning.md", *figures])
    for path in files:
        assert (workload / "a" / path).read_bytes() == (workload / "b" / path).read_bytes(), path
    text = (workload / "a" / "tuning.md").read_text()
    for path in files:
        if path.suffix == ".png":
            assert f"]({path})" in text
            assert imread(workload / "a" / path)[..., :3].std() > 0.02


def notes_of(*found: Tuned) -> str:
    return " ".join(notes(tunings(found, [])["test"]))


def test_unequal_budgets_edges_and_missing_winners_are_reported() -> None:
    assert "adamw: every trial diverged, so there is no winner" in notes_of(make_tuned("adamw", (None, None)))
    unequal = notes_of(make_tuned("adamw"), make_tuned("nesterov", (50.0, 60.0)))
    assert (
        "The optimizers were tuned with different budgets (adamw 4 trials, seed 0, 1 round; nesterov 2 trials"
        in unequal
    )
    assert "different budgets" not in notes_of(make_tuned("adamw"), make_tuned("nesterov"))
    edge = replace(make_tuned("adamw"), edges=(Edge("optimizer.lr", "high"), Edge("optimizer.weight_decay", "low")))
    text = notes_of(edge)
    assert "adamw: no trial had a higher optimizer.lr than the winner, so the best value may lie outside" in text
    assert "adamw: no trial had a lower optimizer.weight_decay than the winner" in text


def test_a_winners_run_with_the_trials_seed_is_reported(workload: Path) -> None:
    (one,) = tunings([make_tuned("adamw")], find_runs([str(workload / "outputs")]).runs)["test"]
    sentence = "adamw: a run of the winner uses the trials' seed (101), on which the winner was"
    assert sentence.replace("101", "0") not in " ".join(notes([one]))
    assert sentence in " ".join(notes([replace(one, tuned=replace(one.tuned, budget=Budget(4, 1, 1, 101)))]))


def test_a_hostile_record_cannot_write_elsewhere() -> None:
    with pytest.raises(UserError, match=r"has the experiment '\.\./x', which is not a valid folder"):
        tunings([replace(make_tuned("adamw"), experiment="../x")], [])
    with pytest.raises(UserError, match=r"Two files given by --tuned tune adamw in test"):
        tunings([make_tuned("adamw"), make_tuned("nesterov"), make_tuned("adamw")], [])
    odd = replace(
        make_tuned("adamw"), trials=tuple(replace(t, values={"optimizer.lr": "x"}) for t in make_tuned("adamw").trials)
    )
    assert "-lr.png" not in markdown(tunings([odd], []))


def test_shorter_trials_are_shown_but_excluded_from_best_of_k(workload: Path) -> None:
    """A trial that successive halving cut short has a different schedule, so it is no sample of the full length."""
    whole = make_tuned("adamw", rungs=2)
    short = tuple(replace(trial, rung=0, objective=90.0, state="finished") for trial in whole.trials)
    halved = replace(whole, trials=(*short, *whole.trials))
    text = markdown(tunings([halved], []))
    assert row(text, "| adamw ")[4] == "72.00"
    assert "4 shorter trials (successive halving)" in text
    assert "| 0.0.1 | 0.001 | cosine | 90.00 |" in text


def test_runs_of_a_different_tuning_are_not_the_winners(make_run: MakeRun, tmp_path: Path) -> None:
    fresh(make_run, "adamw", (99.0,), optimizer__lr=0.5, tuning__trials=4, tuning__record="0" * 16)
    found = tunings([make_tuned("adamw")], find_runs([str(tmp_path)]).runs)["test"]
    assert found[0].tuned_runs == [] and found[0].untuned_runs == []
    assert "adamw: 1 tuned run from another tuning left out." in " ".join(notes(found))


def test_the_hash_of_a_tuning_covers_only_its_optimizer_and_ignores_the_arguments(tmp_path: Path) -> None:
    one = make_tuned("adamw")
    write_tuned(tmp_path / "a.json", [one])
    write_tuned(tmp_path / "b.json", [make_tuned("nesterov"), replace(one, arguments=("data.root=/elsewhere",))])
    hashes = {tuned_hash(read) for name in "ab" for read in read_tuned(tmp_path / f"{name}.json")}
    assert hashes == {tuned_hash(one), tuned_hash(make_tuned("nesterov"))}
    assert tuned_hash(replace(one, winner=one.trials[0])) != tuned_hash(one)


def test_compare_writes_the_pages_and_refuses_a_missing_record(commands: CommandRunner, workload: Path) -> None:
    """tuning.md with --tuned, and compose.md, with a section on the page, with --composed."""
    write_tuned(workload / "tuned.json", [make_tuned("adamw"), make_tuned("nesterov")])
    write_composed(workload / "composed.json", make_composed())
    outputs, out = workload / "outputs", workload / "made"
    more = ("--composed", workload / "composed.json")
    done = [
        commands.complete("compare.py", outputs, "--out", out, "--tuned", workload / name, *more)
        for name in ("tuned.json", "nothing.json")
    ]
    assert done[0].returncode == 0, done[0].stderr
    assert f"wrote {workload / 'made' / 'tuning.md'}" in done[0].stdout
    assert "| adamw | 62.00 ± 1.00 (n = 3) |" in (workload / "made" / "tuning.md").read_text()
    assert "adamw (tuned, 4 trials)" in (workload / "made" / "table.md").read_text()
    page = (workload / "made" / "index.html").read_text()
    assert 'href="tuning.md"' in page and 'href="compose.md"' in page and "Composing an optimizer for test" in page
    assert "| thompson-0 | agc;" in (workload / "made" / "compose.md").read_text()
    assert done[1].returncode == 2 and f"--tuned: there is no file '{workload / 'nothing.json'}'" in done[1].stderr
