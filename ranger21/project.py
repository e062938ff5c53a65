"""Where the files of the project's top level are: train.py, configs/, scripts/ and slurm/. Imports no torch.

In a clone they lie beside the package. A wheel has a copy of them inside it, in `ranger21/top`, which the build makes.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
WHEEL = (PACKAGE / "top").is_dir()  # whether the package is from a wheel
TOP = PACKAGE / "top" if WHEEL else PACKAGE.parent
CONFIG_DIR, SCRIPTS, SLURM, TRAIN = TOP / "configs", TOP / "scripts", TOP / "slurm", TOP / "train.py"
