"""train.py refuses wrong command lines with an error. tests/support/command_runner.py explains how to write a case."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.command_runner import CommandRunner, environment, parse_line

CASES = [
    ("train.py", 1, "There is no ImageNet. Set data.root="),
    ("train.py data.root=/no/such", 1, "There is no folder /no/such/train"),
    ("IMAGENET_DIR=/no/such train.py", 1, "There is no folder /no/such/train"),
    # keys and groups
    ("train.py lr=0.1", 1, "There is no key lr. Did you mean optimizer.lr?"),
    ("train.py wd=0.1", 1, "Did you mean optimizer.weight_decay?"),
    ("train.py batch_size=4", 1, "Did you mean data.batch_size?"),
    ("train.py bs=4", 1, "Did you mean batch_schedule or data.batch_size?"),
    ("train.py epoch=3-model.pt", 1, "There is no key epoch. Did you mean trainer.epochs?"),
    ("train.py device=cpu", 1, "Did you mean trainer.device?"),
    ("train.py optimizer.learning_rate=3", 1, "Did you mean optimizer.lr? optimizer has: name, lr,"),
    ("train.py data.num_workers=3", 1, "Did you mean data.workers?"),
    ("train.py trainer.max_epochs=3", 1, "Did you mean trainer.epochs?"),
    ("train.py +optimizer.lrr=1", 1, "There is no key optimizer.lrr. Did you mean optimizer.lr?"),
    ("train.py optimizers=adamw", 1, "There is no key optimizers. Did you mean optimizer?"),
    ("train.py ablatio=none", 1, "Did you mean ablation?"),
    ("train.py model.kwargs.drop_rate=0.5", 1, "write a plus sign before it: +model.kwargs.drop_rate="),
    ("train.py data=fashion_mnist data.pack=x", 1, "There is no key data.pack. data has:"),
    ("train.py ~optimizer", 1, "a run needs optimizer. Omit ~optimizer."),
    ("train.py ~trainer.epochs", 1, "trainer.epochs has no value: give it one."),
    ("train.py hydra.nosuch=3", 1, "There is no key hydra.nosuch."),
    # choices
    ("train.py optimizer=adan", 1, "optimizer=adan does not exist: optimizer is one of"),
    ("train.py optimizer=adamm", 1, "Did you mean adam?"),
    (
        "train.py optimizer=3",
        1,
        "optimizer=3 is invalid: optimizer is a group; give the name of one of its choices.",
    ),
    ("train.py optimizer=[adam,adamw]", 1, "optimizer is a group; give the name of one of its choices."),
    ("train.py hydra=3", 1, "hydra is a group"),
    ("train.py experiment=", 1, "experiment= is invalid: experiment is one of"),
    ("train.py experiment=../demo", 1, "does not exist"),
    ("train.py trainer=none", 1, "trainer=none does not exist: trainer is one of default."),
    ("train.py data@x=imagenet", 1, "Could not override 'data@x'. Did you mean to override data?"),
    ("train.py seed=0,1", 1, "seed takes one value. train.py -m does a run for each of several"),
    ("train.py 'seed=choice(0,1)'", 1, "seed takes one value."),
    ("train.py optimizer.lr=0,001", 1, "optimizer.lr takes one value."),
    ("train.py -m 'seed=range(0,0)'", 1, "seed=range(0,0) has no values"),  # used to exit with code 0
    ("train.py -m 'seed=range(0,1,0)'", 1, "seed=range(0,1,0) has no values"),  # used to end in a traceback
    ("train.py -m 'optimizer.lr=glob(*)'", 1, "glob() selects choices of a group"),  # used to exit with code 0
    ("train.py -m 'optimizer=glob(x*)'", 1, "matches no choice: optimizer is one of adadelta, adagrad"),
    ("train.py +optimizer=adamw", 1, "optimizer=adamw (without +) replaces it."),
    ("train.py ++optimizer=adamw", 1, "optimizer=adamw (without +) replaces it."),
    ("train.py ~data data.root=x", 1, "a run needs data. Omit ~data."),
    ("train.py hydra.run.dir=x", 1, "would not move the run: use run_dir=... or outputs=...."),
    ("train.py optimizer=chain optimizer.parts={a:1}", 1, "Cannot merge DictConfig with ListConfig."),
    ("train.py 'run_dir=${nosuch}'", 1, "run_dir: Interpolation key 'nosuch' not found."),
    ("train.py 'hydra.sweeper.params={seed:1}'", 1, "The configuration cannot be composed (AttributeError"),
    ("train.py hydra=null", 1, "The configuration cannot be composed (ValueError"),
    ("train.py -m seed=0,1 optimizer=adan", 1, "optimizer=adan does not exist"),
    # text that cannot be parsed, and what to type instead
    ("train.py model.init_from=epoch=3-model.pt", 1, "two kinds of quotes: 'model.init_from=\"epoch=3-model.pt\"'."),
    ("train.py 'data.root=/a (b)'", 1, "two kinds of quotes: 'data.root=\"/a (b)\"'."),
    ("train.py data.root=/a path", 1, "if it belongs to the argument before, quote both: 'data.root=\"/a path\"'."),
    ("train.py resnet50", 1, "'resnet50' is not of the form key=value: model=resnet50."),
    ("train.py nothing", 1, "an argument is key=value or group=choice."),
    ("train.py ''", 1, "'' is not of the form key=value"),
    ("train.py =3", 1, "=3 has no key"),
    ("train.py optimizer.betas=[0.9", 1, "with every bracket and quote closed"),
    ('train.py "data.root=\'/a"', 1, "with every bracket and quote closed"),
    ("train.py 'a b=3'", 1, "a b=3 cannot be read"),
    # Hydra's flags
    ("train.py --optimizer ranger21", 1, "error: --optimizer is a setting and not a flag: write optimizer=ranger21,"),
    ("train.py --optimizer.lr=0.1", 1, "write optimizer.lr=0.1, without dashes"),
    ("train.py --nosuch", 2, "error: unrecognized arguments: --nosuch"),
    ("train.py --cfg", 2, "argument --cfg/-c: expected one argument"),
    ("train.py --cfg nothing", 2, "argument --cfg/-c: invalid choice: 'nothing'"),
    ("train.py --info nothing", 2, "argument --info/-i: invalid choice: 'nothing'"),
    ("train.py -m seed=0,1 --cfg job", 1, "--multirun and --cfg cannot be combined"),
    ("train.py --info --cfg job", 1, "--cfg and --info cannot be combined"),
    ("train.py --resolve", 1, "--resolve is only for --cfg: give both"),
    ("train.py --package trainer", 1, "--package is only for --cfg: give both"),
    ("train.py --cfg job optimizer=adan", 1, "optimizer=adan does not exist"),
    ("train.py --info defaults optimizer=adan", 1, "optimizer=adan does not exist"),
    ("train.py --experimental-rerun $NOTHING", 1, "run the same command again to resume a run."),
    ("train.py --shell-completion", 1, "--shell-completion needs an action: install=bash"),
    ("train.py --shell-completion install=nothing", 1, "--shell-completion needs an action"),
    ("train.py --shell-completion query=bash", 1, "is for the shell when Tab is pressed"),
    ("train.py --config-dir ''", 1, "it must be a path"),  # it used to be ignored
    ("train.py --config-dir $NOTHING", 1, "--config-dir: the folder $NOTHING does not exist."),
    ("train.py --config-path nothing", 1, "Primary config directory not found."),
    ("train.py --config-name nothing", 1, "Cannot find primary config 'nothing'."),
    ("train.py hydra.searchpath=[$NOTHING]", 1, "hydra.searchpath: the folder $NOTHING does not exist."),
    ("train.py hydra.searchpath=$NOTHING", 1, "it must be a list, as in 'hydra.searchpath=[a]'."),
    ("train.py hydra/launcher=nothing -m", 1, "hydra/launcher=nothing does not exist"),
    ("train.py -m hydra.sweeper.params=3", 1, "hydra.sweeper.params"),
    ("train.py --help optimizer=adan", 1, "optimizer=adan does not exist"),
    # numbers and paths of the scripts
    ("find_lr.py --high inf", 2, "argument --high: inf is invalid: it must be a finite number above 0"),
    ("find_lr.py --high nan", 2, "argument --high: nan is invalid"),
    ("find_lr.py --low 0", 2, "argument --low: 0 is invalid"),
    ("find_lr.py --low 1 --high 0.1", 1, "--low=1 must be above 0 and below --high=0.1."),
    ("find_lr.py --steps 1e3", 2, "argument --steps: 1e3 is invalid: it must be a whole number"),
    ("find_lr.py --steps 1000000000", 2, "argument --steps: 1000000000 is invalid"),
    ("find_lr.py --out ''", 2, "argument --out: the path is empty"),
    ("find_lr.py lr=1", 1, "Did you mean optimizer.lr?"),
    ("show_schedule.py --images 0", 2, "argument --images: 0 is invalid"),
    ("show_schedule.py --out ''", 2, "argument --out: the path is empty"),
    ("show_schedule.py schedule.warmup=2000000", 1, "together they take more than the"),
    ("show_schedule.py trainer.epochs=90000", 1, "of 1,801,620,000 steps is too long: the limit is 100,000,000"),
    ("rosenbrock.py --steps 0", 2, "argument --steps: 0 is invalid"),
    ("rosenbrock.py --start nan 1", 1, "--start is too far away"),
    ("rosenbrock.py --grid 1 inf 3", 1, "--grid needs LOW above 0"),
    ("pack.py ''", 2, "argument target: the path is empty"),
    ("pack.py $NOTHING --quality 0", 2, "argument --quality"),
    ("pack.py $NOTHING --processes 1000000", 1, "--processes=1000000 is invalid"),
    ("pack.py $NOTHING data.root=~nobodyhere", 1, "the home folder ~nobodyhere does not exist"),
    ("prepare_imagenet.py '' x", 2, "argument source: the path is empty"),
    ("prepare_imagenet.py $NOTHING ''", 2, "argument target: the path is empty"),
    ("verify_imagenet.py ''", 2, "argument root: the path is empty"),
    ("verify_imagenet.py $NOTHING --json ''", 2, "argument --json: the path is empty"),
    ("evaluate.py ''", 1, "The path of the checkpoint is empty"),
    ("landscape.py ''", 1, "The path of the checkpoint is empty"),
    ("export.py '' x.pth", 1, "The path of the checkpoint is empty"),
    ("export.py $NOTHING ''", 2, "argument target: the path is empty"),
    ("compare.py $NOTHING --out ''", 2, "argument --out: the path is empty"),
    ("compare.py $NOTHING --power 0", 2, "argument --power: 0 is invalid: it must be a finite number above 0"),
    ("fault_campaign.py --seed -1", 2, "argument --seed: -1 is invalid"),
    ("fault_campaign.py --work ''", 2, "argument --work: the path is empty"),
    ("landscape.py $NOTHING --ceiling inf", 1, "--ceiling=inf is invalid"),
    ("landscape.py $NOTHING --radius nan", 1, "--radius=nan is invalid"),
    ("landscape.py $NOTHING --out ''", 2, "argument --out: the path is empty"),
    ("reproduce.py --preset paper --every nan --status", 2, "argument --every: nan is invalid"),
    ("reproduce.py --preset paper --dry-run --machine nosuch.json", 2, "argument --machine: there is no file"),
    ("compare.py --composed nosuch.json", 2, "argument --composed: there is no file 'nosuch.json'"),
    ("compose.py --budget 4 --tuned nosuch.json experiment=fair_resnet", 2, "argument --tuned: there is no file"),
    ("reproduce.py --preset paper --record ''", 2, "argument --record: the path is empty"),
    ("bench_data.py --rounds 0", 2, "argument --rounds: 0 is invalid"),
    ("bench_index.py --images -1", 2, "argument --images: -1 is invalid"),
    ("bench_loop.py --batch 0", 2, "argument --batch: 0 is invalid"),
    ("bench_optimizer.py --threads 0", 2, "argument --threads: 0 is invalid"),
    ("bench_pack.py --images 0", 2, "argument --images: 0 is invalid"),
]


@pytest.fixture(scope="session")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The paths that $NOTHING and similar names in the cases stand for."""
    return {"NOTHING": tmp_path_factory.mktemp("places") / "nothing"}


@pytest.mark.parametrize(("line", "code", "words"), CASES, ids=[line for line, _, _ in CASES])
def test_a_wrong_command_line_is_refused(
    commands: CommandRunner, places: dict[str, Path], line: str, code: int, words: str
) -> None:
    commands.refuses(line, code, words, places)


@pytest.mark.parametrize("line", ["train.py optimizer=adan", "train.py --nosuch"])
def test_the_harness_gives_the_same_answer_as_a_real_process(
    commands: CommandRunner, places: dict[str, Path], line: str
) -> None:
    """The exit code and output are equal, and neither leaves files."""
    argv, env = parse_line(line, places)
    with tempfile.TemporaryDirectory() as cwd:
        done = subprocess.run([sys.executable, *argv], env=environment() | env, cwd=cwd, capture_output=True, text=True)
        assert not list(Path(cwd).iterdir())
    answer = commands.run(line, places)
    assert (answer.code, answer.out, answer.err, answer.left) == (done.returncode, done.stdout, done.stderr, ())


def test_the_harness_notices_tracebacks_and_wrong_exit_codes(commands: CommandRunner, places: dict[str, Path]) -> None:
    with pytest.raises(AssertionError, match="Traceback"):
        commands.refuses("train.py data.crop=300 debug=true", 1, "data.resize=288", places)
    with pytest.raises(AssertionError, match="exit code 0"):
        commands.refuses("train.py --version", 1, "", places)
    with pytest.raises(AssertionError, match="exit code 1"):
        commands.refuses("train.py optimizer=adan", 1, "another sentence", places)
