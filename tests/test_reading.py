"""Malformed records of a run: every reader quickly raises a UserError."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ranger21.config.compose import compose_config
from ranger21.records.directory import RunDirectory, last_values, read_config, tail
from ranger21.records.manifest import read_manifest
from ranger21.system.errors import UserError
from ranger21.system.reading import Unreadable, misfit, read_json, read_yaml

CONTENT: dict[str, tuple[bytes, str]] = {  # for both JSON and YAML
    "empty": (b"", "it is empty"),
    "blank": (b" \n\n", "it is empty"),
    "binary": (bytes(range(256)) * 4, ""),
    "zeros": (b"\0" * 4096, ""),
    "cut": (b'{"data": {"fingerprint": "na', ""),
    "a list": (b"[1, 2]", "it is not an object"),
    "a number": (b"5", "it is not an object"),
    "null": (b"null", "it is not an object"),
    "a text": (b'"words"', "it is not an object"),
    "true": (b"true", "it is not an object"),
    "NaN": (b"NaN", "it is not an object"),
    "a key twice": (b'{"data": {}, "data": {}}', "data"),
    "a number of 5,000 digits": (b'{"data": ' + b"9" * 5000 + b"}", "it has a number of 5,000 digits"),
    "a number of 30 digits": (b'{"data": ' + b"9" * 30 + b"}", "it has a whole number of more than 64 bits"),
    "deep": (b'{"data": ' + b"[" * 60 + b"]" * 60 + b"}", "it is deeper than 50 levels"),
    "very deep": (b'{"data": ' + b"[" * 99_000 + b"]" * 99_000 + b"}", "it is deeper than 50 levels"),
    "many values": (b'{"data": [' + b"1," * 2_000_100 + b"1]}", "it has more than"),
    "50 MB": (b'{"data": {}, "sessions": []}' + b" " * 50_000_000, "it has more than"),
    "UTF-16": ('{"data": {}}'.encode("utf-16"), "it is not UTF-8 text: byte 0 is invalid"),
    "Latin-1": ('{"datä": {}}'.encode("latin-1"), "it is not UTF-8 text: byte 5 is invalid"),
}
YAML: dict[str, tuple[bytes, str]] = {
    "an alias": (b"a: &a [1]\nb: *a\n", "it has an alias"),
    "an alias bomb": (
        b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b"*a%d," % (n - 1) * 9) for n in range(1, 20)),
        "it has an alias",
    ),
    "itself": (b"a: &a\n  b: *a\n", "it has an alias"),
    "a command": (b"a: !!python/object/apply:os.system [id]\n", "it has a value of type"),
    "a set": (b"a: !!set {x}\n", "it has a value of type"),
    "no number": (b'a: !!int ""\n', ""),
    "no key": (b"? [a]\n: 1\n", "found unhashable key in line 1"),
    "tabs": (b"a:\n\t- b\n", "cannot start any token in line 2"),
    "two documents": (b"a: 1\n---\nb: 1\n", "but found another document in line 2"),
    "sixties": (b"a: 1" + b":1" * 99_000, "digits"),
    "nested lists": (b"- " * 99_000, "it is deeper than 50 levels"),
}  # fmt: skip
PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (lambda path: path.mkdir(), "it is a folder, not a file"),
    "a pipe": (lambda path: os.mkfifo(path), "it is a pipe, not a file"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a file"),
    "a socket": (lambda path: socket.socket(socket.AF_UNIX).bind(str(path)), "it is a socket, not a file"),
    "a dangling link": (lambda path: path.symlink_to("nothing"), "it is a link to nothing"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "Too many levels of symbolic links"),
}


def read_result(path: Path) -> Any:
    place = RunDirectory(path.parent)
    place.result = path
    return place._read_result()


READERS = (read_json, read_yaml, read_manifest, read_config, read_result)


def refused(read: Callable[[Path], Any], path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} ") and sentence.endswith(".") and len(sentence) < 500, sentence
    assert isinstance(caught.value, Unreadable) or "cannot be read by this version" in sentence, sentence
    return sentence


@pytest.mark.parametrize("way", CONTENT)
def test_malformed_content_is_reported_by_every_reader(tmp_path: Path, way: str) -> None:
    content, words = CONTENT[way]
    (tmp_path / "record").write_bytes(content)
    for read in READERS:
        sentence = refused(read, tmp_path / "record")
        assert words in sentence or (read in (read_yaml, read_config) and "more than" in sentence + words), sentence


@pytest.mark.parametrize("way", YAML)
def test_malformed_yaml_is_reported(tmp_path: Path, way: str) -> None:
    content, words = YAML[way]
    (tmp_path / "config.yaml").write_bytes(content)
    for read in (read_yaml, read_config):
        assert words in refused(read, tmp_path / "config.yaml")


@pytest.mark.parametrize("kind", PLACES)
def test_pipes_and_folders_are_reported_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # keeps the socket's path short
    make, words = PLACES[kind]
    make(Path("record"))
    for read in READERS:
        assert words in refused(read, Path("record"))
    assert tail(Path("record")) == [] and last_values(Path("record")) == {}


def test_a_missing_file_is_not_reported_as_damaged(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"none.json is missing: restore it") as caught:
        read_json(tmp_path / "none.json")
    assert caught.value.missing and not caught.value.damaged


WHOLE = {"data": {"fingerprint": "x"}, "sessions": [{"resumed_from_step": 0, "git": None}]}
INNER: list[tuple[dict[str, Any], str]] = [
    ({"sessions": 5}, "sessions is not a list"),
    ({"sessions": None}, "sessions is not a list"),
    ({"sessions": ["x"]}, r"sessions\[0\] is not an object"),
    ({"sessions": [{}, None]}, r"sessions\[1\] is not an object"),
    ({"sessions": [{"git": []}]}, r"sessions\[0\].git is not an object"),
    ({"sessions": [{"git": {"commit": 5}}]}, r"sessions\[0\].git.commit is not a text"),
    ({"sessions": [{"code": []}]}, r"sessions\[0\].code is not a text"),
    ({"sessions": [{"resumed_from_step": "ten"}]}, r"sessions\[0\].resumed_from_step is not a whole number"),
    ({"sessions": [{"resumed_from_step": True}]}, r"sessions\[0\].resumed_from_step is not a whole number"),
    ({"data": "x"}, "data is not an object"),
    ({"data": {"unreadable": "x"}}, "data.unreadable is not a list"),
    ({"code": []}, "code is not an object"),
    ({"id": 5}, "id is not a text"),
    ({"first_checkpoint": float("nan")}, "first_checkpoint is not a whole number"),
]


@pytest.mark.parametrize(("wrong", "words"), INNER)
def test_a_manifest_with_a_field_of_the_wrong_type_is_reported(
    tmp_path: Path, wrong: dict[str, Any], words: str
) -> None:
    import json

    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(WHOLE))
    assert read_manifest(path) == WHOLE
    path.write_text(json.dumps(WHOLE | wrong))
    with pytest.raises(Unreadable, match=rf"manifest.json is damaged \({words}\): restore it"):
        read_manifest(path)


@pytest.mark.parametrize("text", ['{"status": "finished", "step": NaN}', '{"status": 5, "step": 1}', "{}"])
def test_a_result_with_a_field_of_the_wrong_type_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text)
    assert "is damaged (" in refused(read_result, tmp_path / "result.json")


@pytest.mark.parametrize(
    "text",
    ["seed: 0\n", "a: ${nothing}\n", "a: ${a}\n", "model: 5\n", "model: {name: [x]}\n", "optimizer: null\n", "1: 2\n"],
)
def test_a_config_with_invalid_values_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    assert "cannot be read by this version (" in refused(read_config, tmp_path / "config.yaml")


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "record").write_bytes(b'\xef\xbb\xbf{"a": [1, 0.5, null, true], "b": {"c": "\xc3\xa4"}}')
    assert read_json(tmp_path / "record") == read_yaml(tmp_path / "record")
    (tmp_path / "record").write_text("eps: 1e-05\nschedule: ${x}\n")
    assert read_yaml(tmp_path / "record") == {"eps": 1e-05, "schedule": "${x}"}


def test_misfit_describes_the_first_wrong_field() -> None:
    shape = {"a": int, "b?": [float], "c?": {"d": str}}
    for good in ({"a": 1}, {"a": 1, "b": [1, 2.4e24], "c": None}, {"a": 0, "c": {"d": "x"}, "e": object()}):
        assert misfit(good, shape) is None
    wrong: list[tuple[Any, str]] = [
        ([], "it is not an object"),
        ({}, "it lacks a"),
        ({"a": 1.0}, "a is not a whole number"),
        ({"a": 1, "b": ["x"]}, "b[0] is not a finite number"),
        ({"a": 1, "b": [float("inf")]}, "b[0] is not a finite number"),
        ({"a": 1, "c": {}}, "c lacks d"),
    ]
    for bad, why in wrong:
        assert misfit(bad, shape) == why


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a device", "a socket"])
def test_run_files_that_are_no_files_are_reported_before_they_are_opened(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe as log.txt used to block train.py for ever, and one as .lock used to end in a traceback."""
    monkeypatch.chdir(tmp_path)  # keeps the socket's path short
    config = compose_config(["data.root=/data/imagenet"])
    for name in ("config.yaml", "manifest.json", "result.json", "metrics.jsonl", "log.txt", ".lock"):
        PLACES[kind][0](Path(name))
        with pytest.raises(UserError, match=rf"^{name} .*\({PLACES[kind][1]}\): .*\.$"):
            RunDirectory(Path()).look(config)
        Path(name).rename(f"{name}-away")
    Path("checkpoints").write_text("")
    with pytest.raises(UserError, match=r"^checkpoints cannot be used \(it is a file, not a folder\): move it away"):
        RunDirectory(Path()).look(config)


ODD = ["2026-11-28", "1e5", "1e-05", "0x10", "010", "1:30", "yes", "~", "-", ".5", "1_000", "=", ".inf", "1.e3"]
NUMBERS = st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False, width=32)
VALUES = st.none() | st.booleans() | NUMBERS | st.text(max_size=9) | st.sampled_from(ODD)


@given(st.dictionaries(st.text("abc_", min_size=1, max_size=4), VALUES, max_size=5))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_configuration_is_read_as_omegaconf_writes_it(tmp_path: Path, values: dict[str, Any]) -> None:
    path = tmp_path / "config.yaml"
    text = OmegaConf.to_yaml(OmegaConf.create({key: _plain(value) for key, value in values.items()}))
    path.write_text(text, encoding="utf-8")
    assert read_yaml(path) == OmegaConf.to_container(OmegaConf.load(path))


def _plain(value: Any) -> Any:
    """Return the value without `$`, because interpolations are refused."""
    return value.replace("$", "S") if isinstance(value, str) else value
