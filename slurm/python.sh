# shellcheck shell=bash
# The site and its Python, for the jobs: $PYTHON, else .venv/bin/python, else what a module, a container or conda gives.
# Also what it runs: the files of a clone if the job is submitted from one, else the installed command.
# shellcheck disable=SC1090,SC2034
if [ -n "${RANGER21_SITE:-}" ]; then . "$RANGER21_SITE"; fi
python=${PYTHON:-.venv/bin/python}
if [ -z "$(command -v "$python")" ]; then
    if [ -n "${PYTHON:-}" ]; then
        echo "error: PYTHON=$PYTHON is not there on $HOSTNAME: name a Python, or unset it."
        exit 1
    fi
    python=python3
fi
train=(train.py) compare=(scripts/compare.py)
if [ ! -e train.py ]; then train=(-m ranger21 train) compare=(-m ranger21 compare); fi
