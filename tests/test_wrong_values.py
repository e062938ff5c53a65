"""train.py refuses impossible values; its error names the setting, the value and the possible values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.command_runner import CommandRunner
from support.project import ROOT

# Each requirement with arguments that break it; of several words, the last one is wrong.
VALUES: dict[str, list[str]] = {
    "it must be true or false.": [
        "optimizer.centralize=2", "optimizer.pnm=maybe", "optimizer.norm_loss=1.0",
        "optimizer.decay_norm_and_bias=yes",
        "optimizer.centralize=0", "trainer.tf32=2", "trainer.compile=1", "trainer.channels_last=x",
        "trainer.channels_last=null", "model.remove_batch_norm=2", "model.remove_skips=[true]", "debug=2",
        "optimizer=lars optimizer.always_adapt=1", "optimizer=radam optimizer.decoupled_weight_decay=3",
    ],
    "it must be a whole number": [
        "trainer.steps=1e12", "trainer.steps=1.5", "trainer.steps=nan", "trainer.steps=inf", "trainer.steps=true",
        "trainer.epochs=0.5", "trainer.epochs=null", "trainer.epochs=[1]", "trainer.accumulate=1.5", "seed=1.5",
        "seed=null", "seed=abc", "seed=", "data.batch_size=nan", "data.batch_size=1e12", "data.workers=1.5",
        "data.resize=1e9", "data.eval_batch_size={a:1}", "optimizer.lookahead_k=2.5", "optimizer.lookahead_k=inf",
        "data=fashion_mnist data.train_images=nan", "lr_scaling=linear lr_scaling.base_batch_size=nan",
    ],
    "it must be a number of at least 0 and below 1e+30.": [
        "optimizer.lr=nan", "optimizer.lr=inf", "optimizer.lr=1e39", "optimizer.lr=1e400",
        "lr_scaling=linear optimizer.lr=1e30",
    ],
    "it must be a number of at least 0 and below 1e+10.": [
        "optimizer.weight_decay=-1.0", "optimizer=adamw optimizer.weight_decay=1e30",
    ],
    "it must be a number of at least 0.": [
        "optimizer.eps=nan", "optimizer.eps=1e39", "optimizer=adamw optimizer.eps=-1.0",
        "optimizer=adagrad optimizer.initial_accumulator_value=-1.0", "optimizer.pnm_beta=-1.0",
    ],
    "it must be a number above 0, or null.": [
        "optimizer.agc_clipping=0.0", "optimizer.agc_clipping=inf", "optimizer=lamb optimizer.max_grad_norm=0.0",
    ],
    "it must be a number in [0, 1).": [
        "optimizer.lookahead_beta=nan", "schedule.beta2=1.0", "optimizer=rmsprop optimizer.alpha=1.0",
        "optimizer=adadelta optimizer.rho=1.0",
    ],
    "it must be a number in [0, 1].": [
        "schedule=cosine schedule.final=2.0", "schedule=step schedule.gamma=nan",
        "schedule=one_cycle schedule.start=-1.0",
    ],
    "it must be an integer of at least 0 and below 2,147,483,648.": [
        "optimizer.lookahead_k=-1",
    ],
    "it must be two numbers in [0, 1).": [
        "optimizer.betas=[]", "optimizer.betas=[0.9]",
    ],
    "it must be a number.": [
        "optimizer.lr=", "optimizer.lr=null", "optimizer.lr=true", "optimizer.lr=[1]", "optimizer.lr=x",
    ],
    "it must be a number above 0.": [
        "optimizer.agc_eps=nan",
        "optimizer=lars optimizer.trust_coeff=0.0",
        "trainer.checkpoint_every_minutes=inf", "trainer.checkpoint_every_minutes=1e300",
    ],
    "it must be a number at least 0 and below 1.": [
        "trainer.label_smoothing=1.0",
        "+model.kwargs.drop_rate=1.5", "+model.kwargs.drop_rate=nan",
        "+model.kwargs.drop_path_rate=2", "experiment=fashion_mnist +model.kwargs.drop_block_rate=-0.1",
    ],
    "at least 1 and below 2,147,483,648.": [
        "trainer.steps=0", "trainer.steps=-3", "trainer.epochs=1000000000000", "trainer.accumulate=0",
        "trainer.log_every_steps=0", "trainer.eval_every_epochs=0", "trainer.checkpoint_every_steps=0",
        "data.batch_size=-1", "data.eval_batch_size=0", "lr_scaling=linear lr_scaling.base_batch_size=0",
        "batch_schedule=linear batch_schedule.start=0",
    ],
    "at least 0 and below 2,147,483,648.": ["seed=-1", "seed=1000000000000"],
    "it must be a number": [
        "data.workers=-1", "data.workers=1000000", "data.timeout=inf",
        "data.timeout=1e+30",
        "data.resize=10000", "data.crop=0", "data=fashion_mnist data.padding=30",
        "optimizer=momentum optimizer.momentum=1.0",
        "lr_scaling=linear_then_sqrt lr_scaling.linear_until=1", "schedule=official schedule.lr=inf",
        "data.classes=1",
        "data.classes=-3",
    ],
    "it must be a probability, from 0 to 1.": ["data.flip=1.5", "data.flip=nan", "data=fashion_mnist data.flip=-1.0"],
    "it must be from 0 to 1": [
        "data.brightness=2.0", "data.contrast=nan", "data.saturation=-1.0",
    ],
    "it must be above 0 and at most 1.": ["data.fraction=0.0", "data.fraction=1.5"],
    "it must be a duration": [
        "schedule.warmup=-1", "schedule.warmdown=nan", "schedule.linear_warmup=abc",
        "schedule=cosine schedule.over=0",
        "schedule=cosine schedule.over=0%", "schedule=step schedule.every=0", "schedule=cyclic schedule.half_cycle=0",
    ],
    "in images, epochs or percent.": ["batch_schedule=linear batch_schedule.over=5"],
    "it must be a path; . is the current folder.": [
        "outputs=''", "outputs=' '", "run_dir=''", "data.root=''", "data.root=' '", "data.pack=''",
        "model.init_from=''",
        "data.classes=''",
    ],
    "it must be a folder on each node's own disk": ["data.stage=''"],
    "it must be text": [
        "outputs=[a]", "run_dir=[a]", "data.root=[a]", "trainer.device=null", "resume=null", "data.transforms=null",
        "schedule.warmup=null", "model.init_from=[a]",
    ],
    "it must be a list, such as [a,b].": ["optimizer.betas=0.9", "optimizer.betas=null"],
    "it must be a list, such as [a,b] or null.": ["logger.tags=a"],
    "it must be a mapping, such as {a:b}.": ["model.kwargs=3", "model.kwargs=null"],
    "it must be one of": [
        "trainer.precision=16", "trainer.on_nonfinite=x", "optimizer.stable_decay=x", "optimizer.name=",
        "resume=true",
        "data.name=x", "data.resize_mode=x", "data.on_bad_image=skip",
        "optimizer=ranger21_official optimizer.state=x",
        "schedule=one_cycle schedule.anneal=x",
    ],
    "it must be auto, cpu, cuda, cuda:N or mps.": ["trainer.device=gpu", "trainer.device="],
    "it must be at least data.crop=300.": ["data.crop=300 data.resize=288"],
    "at least two classes.": ["data.classes=[]", "data.classes=[a,a]"],
    "a number of classes, a file, or a list of names": [
        "data.classes=1.5", "data.classes=true", "data.classes=[a,[b]]",
    ],
}  # fmt: skip
CASES = [(words, remedy) for remedy, several in VALUES.items() for words in several]


@pytest.mark.parametrize(("words", "remedy"), CASES, ids=[words for words, _ in CASES])
def test_an_impossible_value_is_refused_with_its_requirement(commands: CommandRunner, words: str, remedy: str) -> None:
    *before, last = words.split(" ") if words.count("=") > 1 else [words]
    answer = commands.refuses(" ".join(["train.py", *before, f'"{last}"']), 1, remedy, {})
    key = last.lstrip("+").partition("=")[0]
    assert re.search(rf"{re.escape(key)}=\S* .*is invalid", answer.err) or answer.err.startswith(f"error: {key}=")


OTHERS = [
    ("optimizer.betas=[0.9,1.5]", "optimizer.betas=[0.9, 1.5] is invalid"),
    ("optimizer.betas=[a,b]", "optimizer.betas[0]: Value 'a' of type 'str' could not be converted to Float."),
    (
        "optimizer.name=adamw",
        "optimizer.name=adamw does not fit the other keys of optimizer: give optimizer=adamw instead.",
    ),
    ("data.classes=/no/such", "data.classes=/no/such is invalid ([Errno 2] No such file or directory"),
    ("data.pack=/no/such", "data.pack=/no/such is not a pack"),
    ("data.stage=/tmp", "data.stage=/tmp requires data.pack"),
    ("+model.kwargs.num_classes=5", "model.kwargs.num_classes cannot be set: the data determines the classes"),
    ("+model.kwargs.pretrained=true", "model.kwargs.pretrained cannot be set: use model.init_from"),
    ("optimizer=chain optimizer.parts=[x]", "optimizer.parts: Unknown ingredient 'x'. Available ingredients: agc"),
    ("optimizer=chain 'optimizer.parts=[{name:lookahead,k:0}]'", "lookahead: k = 0 must be an integer >= 1."),
    ("optimizer=chain optimizer.parts=3", "optimizer.parts: 3 is not a list of ingredients"),
    ("schedule.linear_warmup=0.1", "a part of the run is written '10%'"),
    (
        "schedule.warmup=60% schedule.warmdown=50%",
        "schedule.warmup=60% and schedule.warmdown=50% are more than 100% of the run in total.",
    ),
    ("schedule.warmup=101%", "schedule.warmup=101% is invalid: it must be 100% at most."),
    ("data.root=~nobodyhere/x", "the home folder ~nobodyhere does not exist: give the full path."),
]


@pytest.mark.parametrize(("words", "sentence"), OTHERS)
def test_an_impossible_value_is_refused_with_a_specific_message(
    commands: CommandRunner, words: str, sentence: str
) -> None:
    commands.refuses(f"train.py {words}", 1, sentence, {})


def test_a_dataset_with_one_class_is_refused(commands: CommandRunner, tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / "data" / split / "only").mkdir(parents=True)
    sentence = "$DATA has only one class, only. Training needs at least two."
    commands.refuses("train.py data.root=$DATA", 1, sentence, {"DATA": tmp_path / "data"})


def test_a_run_directory_may_not_be_in_a_run_in_the_data_or_around_them(
    commands: CommandRunner, tmp_path: Path
) -> None:
    """Nothing is written there."""
    run = tmp_path / "outputs" / "demo" / "run"
    run.mkdir(parents=True)
    for name in ("manifest.json", "config.yaml"):
        (run / name).write_text("{}")
    data = tmp_path / "data"
    places = {"RUN": run, "OUTPUTS": tmp_path / "outputs", "DATA": data, "ALL": tmp_path, "CODE": ROOT}
    for split in ("train", "val"):
        (data / split / "a").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    for where, sentence in (
        ("run_dir=$RUN/again", "$RUN/again lies inside the run $RUN: choose another run_dir= or outputs=."),
        ("run_dir=$RUN/checkpoints/x/y", "lies inside the run $RUN"),
        ("outputs=$RUN", "lies inside the run $RUN"),
        ("run_dir=$OUTPUTS", "$OUTPUTS contains runs, such as $RUN"),
        ("run_dir=$OUTPUTS/demo", "$OUTPUTS/demo contains runs, such as $RUN"),
        ("run_dir=$DATA", "$DATA lies inside the data, data.root=$DATA"),
        ("run_dir=$DATA/train/a/run", "lies inside the data, data.root=$DATA"),
        ("outputs=$DATA/outputs", "lies inside the data, data.root=$DATA"),
        ("run_dir=$ALL", "$ALL contains the data, data.root=$DATA: choose another run_dir= or outputs=."),
        ("run_dir=/ data.root=null", "/ contains more than a run: give the run its own directory"),
        ("run_dir=$CODE data.root=null", "$CODE contains more than a run"),
        ("run_dir=~ data.root=null", "contains more than a run"),
    ):
        commands.refuses(f"train.py data.root=$DATA {where}", 1, sentence, places)
    assert sorted(tmp_path.rglob("*")) == before
