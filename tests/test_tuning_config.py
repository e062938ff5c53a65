"""How a run's configuration records that its values were tuned."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from omegaconf import OmegaConf

from ranger21.config import TuningConfig, compose, result_values
from ranger21.config.compose import compose_config
from ranger21.records.naming import run_directory
from ranger21.system.errors import UserError


def test_tuning_settings_do_not_change_the_identity_of_a_run() -> None:
    plain = compose_config(["experiment=demo", "optimizer.lr=0.01"])
    tuned = compose_config(["experiment=demo", "optimizer.lr=0.01", "tuning.trials=16", "tuning.record=0123abcd"])
    assert plain.tuning == TuningConfig(0, None)
    assert (tuned.tuning.trials, tuned.tuning.record) == (16, "0123abcd")
    assert run_directory(tuned) == run_directory(plain)
    assert result_values(tuned) == result_values(plain)


def test_a_run_older_than_tuning_is_untuned() -> None:
    values = asdict(compose_config([]))
    del values["tuning"]
    assert compose.parse(OmegaConf.create(values)).tuning == TuningConfig()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["tuning.trials=-1"], "tuning.trials=-1 is invalid"),
        (["tuning.trials=true"], "tuning.trials=True is invalid: it must be a whole number"),
        (["tuning.trials=8", "tuning.record=tuned.json"], "tuning.record='tuned.json' is invalid: .* a hash"),
        (["tuning.record=0123abcd"], "tuning.record=0123abcd needs the number of trials: give tuning.trials=N"),
        (["tuning.trails=8"], "tuning.trails"),
    ],
)
def test_invalid_tuning_settings_are_refused(overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        try:
            compose_config(overrides)
        except compose.CONFIG_ERRORS as error:
            raise UserError(compose.explain(error)) from error
