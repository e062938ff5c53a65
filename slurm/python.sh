# shellcheck shell=bash
# Set up the site and Python of a job: $PYTHON, else .venv/bin/python, else python3 of a module, container or conda.
# Also choose what to run: the files of a clone if the job is submitted from one, else the installed package.
# shellcheck disable=SC1090,SC2034
if [ -n "${RANGER21_SITE:-}" ]; then . "$RANGER21_SITE"; fi
python=${PYTHON:-.venv/bin/python}
if [ -z "$(command -v "$python")" ]; then
    if [ -n "${PYTHON:-}" ]; then
        echo "error: PYTHON=$PYTHON does not exist on $HOSTNAME. Set it to an existing Python, or unset it."
        exit 1
    fi
    python=python3
fi
train=(train.py) compare=(scripts/compare.py)
if [ ! -e train.py ]; then train=(-m ranger21 train) compare=(-m ranger21 compare); fi
