"""The part of the build that pyproject.toml cannot say: a wheel also holds the files of the project's top level."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

TOP = ("train.py", "configs", "scripts", "slurm")  # into ranger21/top, where ranger21.system.project finds them


class BuildPy(build_py):
    """Build the package, from nothing: what an earlier build left would else be in the wheel as well."""

    def run(self) -> None:
        """Copy the package, and then the files of the top level, byte by byte: a run's record has their hashes."""
        if self.editable_mode:  # which uses the files where they are
            return super().run()
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        top = Path(self.build_lib, "ranger21", "top")
        for name in TOP:
            source = Path(name)
            if source.is_dir():
                shutil.copytree(source, top / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
            else:
                top.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, top / name)
        return None


setup(cmdclass={"build_py": BuildPy})
