"""Keys and passwords are masked in records; similar-looking text is kept."""

from __future__ import annotations

import gzip
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.training import TINY

from ranger21.config import result_values
from ranger21.config.compose import compose_config
from ranger21.grid.jobs import PlannedRun
from ranger21.grid.record import publication, record, records
from ranger21.records import code, sessions
from ranger21.records.code import recorded_code
from ranger21.records.naming import run_directory
from ranger21.run import experiment
from ranger21.system.masking import masked, masked_command, masked_values
from ranger21.tracking.loggers.base import RunInfo

KEY = "0123456789abcdef" * 2 + "01234567"
SECRETS = {
    f"+model.kwargs.token={KEY}": KEY,
    f"WANDB_API_KEY={KEY}": KEY,
    "model.init_from=https://me:hunter2@host/x.pth": "hunter2",
    f"git+https://{KEY}@github.com/x": KEY,
    "password: 'hunter2 and more'": "hunter2",
    "password=12345678": "12345678",
    "{'api_key': 'hunter2'}": "hunter2",
    "+model.kwargs={secret:hunter2,dim:3}": "hunter2",
    "X-Secret-Key: hunter2": "hunter2",
    "hf_abcdefghijklmnopqrstuvwxyz": "hf_",
    "data.root=s3://AKIAABCDEFGHIJKLMNOP/x": "AKIA",
    "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----": "abc",
}
PLAIN = [
    "model.kwargs.num_tokens=5", "+model.kwargs.class_token=true", "model.kwargs.global_pool=token", "hf-hub:timm/x",
    "data.root=/data/hf_abc", "optimizer.parts=[agc,decay]", "logger.group=secret-santa", "monkey=banana",
    "commit 386695b43a4148b5d2e539b3286079a04f16e952", "https://github.com/x", "optimizer.betas=[0.9,0.999]",
]  # fmt: skip


@pytest.mark.parametrize(("text", "secret"), SECRETS.items())
def test_a_secret_is_masked(text: str, secret: str) -> None:
    hidden = masked(text)
    assert secret not in hidden and "***" in hidden
    assert masked(hidden) == hidden


@pytest.mark.parametrize("text", PLAIN)
def test_text_without_a_secret_is_unchanged(text: str) -> None:
    assert masked(text) == text


def test_the_name_of_an_option_or_key_decides_what_is_masked() -> None:
    assert masked_command(["x.py", "--token", "abc", "--seed", "3"]) == ["x.py", "--token", "***", "--seed", "3"]
    values = {"token": "abc", "inner": [{"password": "abc", "lr": 0.1, "name": "token"}], "class_token": True}
    there = {"token": "***", "inner": [{"password": "***", "lr": 0.1, "name": "token"}], "class_token": True}
    assert masked_values(values) == there


@pytest.mark.parametrize("text", ["a_" * 50_000, "https://" + "a" * 100_000, "token=" * 30_000, "://" * 50_000])
@pytest.mark.timeout(20)
def test_masking_long_texts_is_fast(text: str) -> None:
    masked(text)


def test_the_manifest_contains_the_diff_only_with_full_diff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs with and without the diff are recognized as the same code."""
    answers = {("rev-parse", "HEAD"): "c0ffee\n", ("diff", "HEAD"): DIFF}
    monkeypatch.setattr(code, "_git", lambda *words: answers.get(words, "ranger21/engine/loop.py\0"))
    monkeypatch.setattr(sys, "argv", ["train.py", f"+model.kwargs.token={KEY}"])
    usual, full = (sessions.session(1, "cpu", 0, full_diff=full) for full in (False, True))
    assert usual["git"].keys() == {"commit", "changed"} and usual["git"]["changed"].keys() == {
        "ranger21/engine/loop.py"
    }
    assert "+password = '***'" in full["git"]["diff"] and "+lr = 3" in full["git"]["diff"]
    assert KEY not in json.dumps([usual, full])
    (one, other) = (recorded_code({"code": {}}, facts) for facts in (usual, full))
    assert one is not None and other is not None and one.same(other)


DIFF = """\
diff --git a/ranger21/engine/loop.py b/ranger21/engine/loop.py
--- a/ranger21/engine/loop.py
+++ b/ranger21/engine/loop.py
+lr = 3
+password = 'hunter2'
"""


def test_records_diff_does_not_change_a_runs_identity() -> None:
    usual, full = compose_config(list(TINY)), compose_config([*TINY, "records.diff=full"])
    assert result_values(usual) == result_values(full) and run_directory(usual) == run_directory(full)


@pytest.fixture
def job(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> PlannedRun:
    """A finished run with a key in its recorded command line and a diff, as older versions recorded it."""
    monkeypatch.setattr(sys, "argv", ["/home/somebody/train.py", "--token", KEY])
    config = compose_config([*TINY, f"data.root={images}", "trainer.steps=2", f"outputs={tmp_path}/runs"])
    job = PlannedRun((), replace(config), run_directory(config))
    assert experiment.run(config, job.directory) == 0
    manifest = json.loads((job.directory / "manifest.json").read_text())
    assert KEY not in json.dumps(manifest)
    manifest["sessions"][0]["git"] = {"commit": "c0ffee", "diff": DIFF}
    manifest["sessions"][0]["command"].append(f"password={KEY}")
    (job.directory / "manifest.json").write_text(json.dumps(manifest))
    return job


def test_published_records_are_summarized_and_masked(job: PlannedRun, tmp_path: Path, images: Path) -> None:
    found = records([job])
    summary = publication(found)
    assert summary.startswith("the records of 1 runs, 0.0 MB before compression: ")
    assert str(images) in summary and "2 values that looked like keys masked" in summary
    assert record(found, tmp_path / "kept.jsonl.gz") == 1
    text = gzip.decompress((tmp_path / "kept.jsonl.gz").read_bytes()).decode()
    assert not any(secret in text for secret in (KEY, "hunter2", "/home/somebody"))
    before, after = json.loads((job.directory / "manifest.json").read_text()), json.loads(text.splitlines()[1])
    assert after.keys() == {"run", "config", "manifest", "result"}
    codes = [recorded_code(manifest, manifest["sessions"][0]) for manifest in (before, after["manifest"])]
    assert codes[0] is not None and codes[0] == codes[1]


def test_no_secret_reaches_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setattr(sys, "argv", ["train.py", f"+model.kwargs.token={KEY}"])
    config = compose_config([*TINY, "logger=wandb", "logger.mode=offline"])
    tracker = config.logger.open(RunInfo("abc", tmp_path, "demo", {"model": {"token": KEY}}))
    assert tracker
    assert sys.argv[1].endswith(KEY)
    tracker.close(0, {})
    wandb.teardown()  # otherwise, runs that later tests start would share this process's W&B service
    assert "WANDB_SERVICE" not in os.environ
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert any(b"token" in content for content in written)
    assert not any(KEY.encode() in content for content in written)
