"""Several comparisons together: which optimizers are compared, how failures count, and the files written."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from support.run_directories import MakeRun

from ranger21.report.groups.comparisons import compare_like_with_like
from ranger21.report.runs.finding import find_runs
from ranger21.report.workloads import text as workloads_text
from ranger21.report.workloads.contestants import Meeting, meet
from ranger21.report.workloads.figures import write_workloads_figures
from ranger21.report.workloads.profiles import PerformanceProfile
from ranger21.report.workloads.workloads import Overall, over_workloads
from ranger21.report.write import examine, write_report

NETWORKS = ("resnet50", "vit", "vgg16", "nfnet")
Grid = Callable[..., None]


@pytest.fixture
def grid(make_run: MakeRun) -> Grid:
    """A function that writes the runs of an optimizer on each network, given the final top-1 of each seed."""

    def make_grid(
        optimizer: str, *finals: float | None, networks: tuple[str, ...] = NETWORKS, tag: str = "", **settings: object
    ) -> None:
        for network in networks:
            for seed, top1 in enumerate(finals):
                end = {"status": "diverged"} if top1 is None else {}
                values = (40.0,) if top1 is None else (40.0, top1)
                settings = {"trainer__epochs": 2, "data__name": "fashion_mnist", **settings}
                make_run(
                    optimizer,
                    seed,
                    values,
                    name=f"{network}-{optimizer}{tag}-s{seed}",
                    model__name=network,
                    **end,
                    **settings,
                )

    return make_grid


def meeting_of(place: Path) -> Meeting:
    return meet(compare_like_with_like(find_runs([str(place)]).runs))


def overall(place: Path) -> Overall:
    found = over_workloads(compare_like_with_like(find_runs([str(place)]).runs))
    assert found is not None
    return found


# Which optimizers are compared


def test_an_overall_verdict_needs_two_workloads_that_share_two_optimizers(grid: Grid, tmp_path: Path) -> None:
    grid("adamw", 60.0, 61.0, networks=("resnet50", "vit"))
    grid("nesterov", 60.0, 61.0, networks=("resnet50", "vgg16"))
    grid("ranger21", 60.0, networks=("vit",))
    assert meeting_of(tmp_path).workloads == []
    report = examine([str(tmp_path)])
    assert report.overall is None
    assert report.remarks[-1].startswith(
        "No verdict over all comparisons together: no two of them share two optimizers"
    )
    grid("nesterov", 60.0, networks=("vit",))
    meeting = meeting_of(tmp_path)
    assert [workload.title for workload in meeting.workloads] == ["resnet50 on fashion_mnist", "vit on fashion_mnist"]
    assert meeting.contestants == ["adamw", "nesterov"]
    assert meeting.remarks == [
        "vgg16 on fashion_mnist is left out: fewer than two of its optimizers also have exactly one group in another "
        "comparison."
    ]


def test_tuned_and_untuned_groups_are_separate_contestants(grid: Grid, tmp_path: Path) -> None:
    for index, network in enumerate(NETWORKS):
        grid("adamw", 60.0, networks=(network,))
        tuned = {
            "optimizer__lr": 10.0**-index,
            "schedule__name": ("cosine", "constant")[index % 2],
            "tuning__trials": 16,
        }
        grid("adamw", 61.0, networks=(network,), tag="-t", **tuned)
        grid("nesterov", 61.0, networks=(network,), optimizer__lr=0.1 + (index == 2))
    meeting = meeting_of(tmp_path)
    assert meeting.everywhere == ["adamw (tuned, 16 trials)", "adamw (untuned)", "nesterov (untuned)"]
    assert meeting.remarks == [
        "nesterov (untuned) has different settings on different workloads: optimizer.lr (0.1 / 1.1)."
    ]


def test_a_tuned_group_with_default_values_is_a_separate_contestant(make_run: MakeRun, tmp_path: Path) -> None:
    for network in NETWORKS[:2]:
        for trials in (0, 16):
            make_run("adamw", trials, name=f"{network}-{trials}", model__name=network, tuning__trials=trials)
    meeting = meeting_of(tmp_path)
    assert meeting.everywhere == ["adamw (tuned, 16 trials)", "adamw (untuned)"]
    assert [[run.seed for run in group.runs] for group in meeting.workloads[0].groups.values()] == [[0], [16]]


def test_untuned_groups_are_distinguished_only_by_their_schedules(grid: Grid, tmp_path: Path) -> None:
    for schedule in ("constant", "explore_exploit"):
        grid("adamw", 60.0, networks=NETWORKS[:3], tag=schedule, schedule__name=schedule)
    for rate in (0.1, 0.2):
        grid("nesterov", 60.0, networks=NETWORKS[:1], tag=str(rate), optimizer__lr=rate)
    grid("nesterov", 60.0, networks=NETWORKS[1:3])
    grid("ranger21", 60.0, networks=NETWORKS[:3])
    meeting = meeting_of(tmp_path)
    assert meeting.everywhere == ["adamw schedule=constant", "adamw schedule=explore_exploit", "ranger21"]
    assert meeting.contestants == [*meeting.everywhere[:2], "nesterov", "ranger21"]
    assert meeting.remarks == [
        "resnet50 on fashion_mnist: 2 groups are nesterov (untuned), so none of them is used: nesterov lr=0.1; "
        "nesterov lr=0.2.",
        "nesterov has no verdict, as it was not run on resnet50 on fashion_mnist.",
    ]


# Verdicts


def test_an_optimizer_is_not_better_by_its_surviving_runs(grid: Grid, tmp_path: Path) -> None:
    """On each network, adamw has 5 of 5 runs at 75.0, and nesterov has 3 of 5 at 75.7 with 2 diverged."""
    grid("adamw", 74.9, 75.0, 75.1, 75.0, 75.0)
    grid("nesterov", 75.7, 75.6, 75.8, None, None)
    found = overall(tmp_path)
    (pair,) = found.pairs
    assert (pair.a, pair.b, pair.verdict) == ("adamw", "nesterov", "cannot tell")  # adamw has the higher mean
    assert pair.found.each == (0.4,) * 4
    assert found.means["adamw"].mean == pytest.approx(65 / 90)
    scores = found.scores["nesterov"][0]
    assert scores is not None
    assert (scores.n, sorted(scores.failed), scores.mean) == (5, [3, 4], pytest.approx((3 * 75.7 + 2 * 10) / 5))
    assert scores.normalised is not None
    assert scores.normalised[-2:] == [0.0, 0.0]


def test_a_higher_rank_with_a_lower_mean_is_not_better(grid: Grid, tmp_path: Path) -> None:
    """On each network, one of nesterov's five runs diverges, and the others beat adamw."""
    grid("adamw", 74.9, 75.0, 75.1, 75.0, 75.0)
    grid("nesterov", 75.7, 75.6, 75.8, 75.7, None)
    (pair,) = overall(tmp_path).pairs
    assert (pair.a, pair.b) == ("nesterov", "adamw")
    assert pair.found.probability == pytest.approx(0.8) and pair.p_adjusted is not None and pair.p_adjusted < 0.01
    assert pair.verdict == "cannot tell"
    said = "but the means with diverged runs at chance say otherwise (62.56 % against 75.00 %)."
    assert pair.sentence.endswith(said)
    text = workloads_text.markdown(overall(tmp_path))
    assert "nesterov: some runs diverged, which the IQM hides because it ignores the worst quarter." in text


def test_a_run_that_finished_at_chance_is_reported_by_the_means(grid: Grid, tmp_path: Path) -> None:
    grid("adamw", 74.9, 75.0, 75.1, 75.0, 75.0)
    grid("nesterov", 75.7, 75.6, 75.8, 75.7, 10.0)
    (pair,) = overall(tmp_path).pairs
    assert pair.verdict == "better"
    assert "), but the means say otherwise (62.56 % against 75.00 %)." in pair.sentence


def test_a_workload_without_final_top1_is_reported(grid: Grid, tmp_path: Path) -> None:
    for optimizer in ("adamw", "nesterov"):
        grid(optimizer, 60.0, 61.0, 62.0, networks=NETWORKS[:2])
        grid(optimizer, 60.0, networks=NETWORKS[2:3], data__holdout=100)
    found = overall(tmp_path)
    for path in (tmp_path / "outputs" / "test").glob("vgg16*"):
        metrics = path / "metrics.jsonl"
        metrics.write_text(metrics.read_text().replace("val/", "holdout/"))
    found = overall(tmp_path)
    assert found.pairs == []
    said = "adamw has no verdict, as it has no final top-1 on vgg16 on fashion_mnist."
    assert said in workloads_text.notes(found)


def test_a_difference_on_all_workloads_gives_one_verdict(grid: Grid, tmp_path: Path) -> None:
    grid("ranger21", 70.0, 71.0, 72.0)
    grid("adamw", 60.0, 61.0, 70.5)
    grid("adamw", 61.0, 62.0, 71.5, networks=(), tag="none")
    (pair,) = overall(tmp_path).pairs
    assert (pair.a, pair.b, pair.verdict, pair.few) == ("ranger21", "adamw", "better", ())
    assert pair.found.each == pytest.approx((8 / 9,) * 4)
    assert pair.sentence.startswith(
        "ranger21 is better than adamw over these 4 workloads: the probability that a run of "
    )


def test_the_sentence_names_the_workloads_that_disagree(grid: Grid, tmp_path: Path) -> None:
    grid("ranger21", *[70.0 + k for k in range(6)])
    grid("adamw", *[60.0 + k for k in range(6)], networks=NETWORKS[:3])
    grid("adamw", *[80.0 + k for k in range(6)], networks=NETWORKS[3:])
    (pair,) = overall(tmp_path).pairs
    assert pair.verdict == "better"
    assert pair.sentence.endswith(" The opposite holds on nfnet on fashion_mnist (probability 0.00).")


def test_too_few_seeds_on_one_workload_give_no_verdict_and_no_correction(grid: Grid, tmp_path: Path) -> None:
    grid("ranger21", 80.0, 81.0, 82.0)
    grid("adamw", 70.0, 71.0, 72.0)
    grid("nesterov", 60.0, 61.0, 62.0, networks=NETWORKS[1:])
    grid("nesterov", 60.0, 61.0, networks=NETWORKS[:1])
    pairs = {(pair.a, pair.b): pair for pair in overall(tmp_path).pairs}
    assert {names: pair.verdict for names, pair in pairs.items()} == {
        ("ranger21", "adamw"): "better",
        ("ranger21", "nesterov"): "cannot tell",
        ("adamw", "nesterov"): "cannot tell",
    }
    assert pairs["ranger21", "adamw"].family == 1
    said = pairs["adamw", "nesterov"].sentence
    assert "(at least 3 needed on resnet50 on fashion_mnist)" in said and said.startswith(
        "Too few seeds to tell whether"
    )


def test_a_seed_that_failed_once_counts_as_failed_and_running_runs_do_not_count(
    make_run: MakeRun, grid: Grid, tmp_path: Path
) -> None:
    grid("adamw", 60.0, 61.0, 62.0, networks=NETWORKS[:2])
    grid("ranger21", 60.0, None, 62.0, networks=NETWORKS[:2])
    again = {"model__name": "vit", "data__name": "fashion_mnist", "trainer__epochs": 2}
    make_run("ranger21", 1, (40.0, 90.0), name="again", **again)
    make_run("ranger21", 3, (40.0,), name="runs", status="running", **again)
    found = overall(tmp_path).scores["ranger21"][1]
    assert found is not None
    assert (sorted(found.top1), sorted(found.failed), found.running) == ([0, 2], [1], 1)
    assert found.ranked == [60.0, 62.0, -math.inf]


def test_without_the_number_of_classes_there_is_a_verdict_but_no_score(grid: Grid, tmp_path: Path) -> None:
    for optimizer, top1 in (("adamw", 60.0), ("ranger21", 70.0)):
        grid(optimizer, top1, top1 + 1, top1 + 2, data__name="mine")
    found = overall(tmp_path)
    assert found.means == {}
    assert [(pair.a, pair.b, pair.verdict) for pair in found.pairs] == [("adamw", "ranger21", "worse")]


# Profiles of time to target


def test_the_score_of_a_profile_equals_a_result_by_hand() -> None:
    """AlgoPerf's score is 1 for the fastest, and 0 for one that needs four times as long or never arrives."""
    profile = PerformanceProfile((1.0, 2.0, math.inf, 8.0), (0.5, 0.25, 0.125, 0.125))
    assert [profile.share(ratio) for ratio in (1, 1.9, 2, 4, 8)] == [0.5, 0.5, 0.75, 0.75, 0.875]
    assert profile.score == pytest.approx(0.5 * 1 + 0.25 * 2 / 3)
    ratios = [1 + 3 * (k + 0.5) / 3000 for k in range(3000)]
    assert profile.score == pytest.approx(sum(map(profile.share, ratios)) / 3000, abs=1e-3)


def test_profiles_use_the_median_run_and_weight_workloads_equally(make_run: MakeRun, tmp_path: Path) -> None:
    """adamw reaches 50 % after 10 steps, ranger21 after 30; two of three ranger21 runs diverge on the vit."""
    for network, targets in (("resnet50", [50, 99]), ("vit", [50])):
        more = {"model__name": network, "trainer__epochs": 3, "protocol__targets": targets}
        for seed in range(3):
            make_run("adamw", seed, (60.0, 60.0, 60.0), name=f"{network}-a{seed}", **more)
            bad = network == "vit" and seed > 0
            end = {"status": "diverged"} if bad else {}
            top1 = (20.0,) if bad else (20.0, 20.0, 60.0)
            make_run("ranger21", seed, top1, name=f"{network}-r{seed}", **end, **more)
    found = overall(tmp_path).profiles
    assert found["adamw"] == PerformanceProfile((1.0, math.inf, 1.0), (0.25, 0.25, 0.5))
    assert found["ranger21"] == PerformanceProfile((3.0, math.inf, math.inf), (0.25, 0.25, 0.5))
    assert found["ranger21"].score == pytest.approx(0.25 / 3)


# Written files


def test_the_files_of_the_overall_report_are_reproducible(grid: Grid, tmp_path: Path) -> None:
    for optimizer, top1 in (("adamw", 60.0), ("ranger21", 70.0)):
        grid(optimizer, top1, top1 + 1, top1 + 2, networks=NETWORKS[:2], protocol__targets=[65])
    report, out, again = examine([str(tmp_path / "outputs")]), tmp_path / "out", tmp_path / "again"
    written = write_report(report, out)
    names = ("workloads.md", "workloads.csv", "workloads_pairs.csv")
    assert {out / name for name in (*names, "targets.md", "targets.csv")} <= set(written)
    assert (out / "vit-on-fashion-mnist" / "time_to_target.svg").exists()
    again.mkdir()
    (again / "workloads.md").write_text(workloads_text.markdown(overall(tmp_path)))
    workloads_text.write_csvs(overall(tmp_path), again)
    made = [*names, *(path.name for path in write_workloads_figures(overall(tmp_path), again))]
    assert len(made) == 7
    for name in made:
        assert (out / name).read_bytes() == (again / name).read_bytes(), name
    text = (out / "workloads.md").read_text()
    assert "| ranger21 | 0.678 | " in text
    assert "| 71.00 (n = 3) | 71.00 (n = 3) |" in text
    assert "| ranger21 | adamw | 1.00 | 0.67 to 1.00 | 0.0050 | better | 1.00 | 1.00 |" in text
    assert "| ranger21 | 1.00 | 100 % | 100 % | 100 % | 100 % |" in text
    rows = list(csv.DictReader((out / "workloads.csv").read_text().splitlines()))
    assert [(row["optimizer"], row["workload"], row["n"]) for row in rows if row["workload"] == "all"] == [
        ("ranger21", "all", "6"),
        ("adamw", "all", "6"),
    ]
    pairs = list(csv.DictReader((out / "workloads_pairs.csv").read_text().splitlines()))
    assert [(row["workload"], row["verdict_on_a"]) for row in pairs] == [
        ("all", "better"),
        ("resnet50 on fashion_mnist", ""),
        ("vit on fashion_mnist", ""),
    ]
    assert float(pairs[0]["p"]) == pytest.approx(2 / 400)
    page = (out / "index.html").read_text()
    assert "<h2>Over all 2 workloads</h2>" in page
    assert "<h2>Time to target: vit on fashion_mnist</h2>" in page
    assert 'href="targets.md"' in page
    assert "ranger21 is better than adamw over these 2 workloads" in page
    assert "workloads_scores.svg" in page


def test_hostile_names_are_escaped_and_hostile_numbers_do_no_harm(make_run: MakeRun, tmp_path: Path) -> None:
    for network in ("<b>x</b>", "=cmd()"):
        for optimizer in ("adamw", "ranger21"):
            path = make_run(optimizer, 0, name=f"{len(network)}{optimizer}", model__name=network)
            config = json.loads(json.dumps({"classes": 10**400, "fingerprint": "a"}))
            (path / "manifest.json").write_text(json.dumps({"data": config}))
            text = (
                path / "config.yaml"
            ).read_text() + "tuning: {trials: .inf}\nprotocol: {targets: [1.0e+400, [1], x]}\n"
            (path / "config.yaml").write_text(text)
    found = overall(tmp_path)
    assert "<b>x" not in workloads_text.section(found)[1]
    assert "<b>x" not in workloads_text.markdown(found)
    workloads_text.write_csvs(found, tmp_path)
    assert "'=cmd" in (tmp_path / "workloads_pairs.csv").read_text()
    assert found.profiles == {}


def test_a_single_comparison_has_no_overall_verdict(grid: Grid, tmp_path: Path) -> None:
    grid("adamw", 60.0, networks=NETWORKS[:1])
    grid("ranger21", 60.0, networks=NETWORKS[:1])
    assert examine([str(tmp_path / "outputs")]).overall is None
