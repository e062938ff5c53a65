# shellcheck shell=bash
# The site and its Python, for the jobs: $PYTHON, else .venv/bin/python, else what a module, a container or conda gives.
# shellcheck disable=SC1090
if [ -n "${RANGER21_SITE:-}" ]; then . "$RANGER21_SITE"; fi
python=${PYTHON:-.venv/bin/python}
if [ -z "$(command -v "$python")" ]; then
    if [ -n "${PYTHON:-}" ]; then
        echo "error: PYTHON=$PYTHON is not there on $HOSTNAME: name a Python, or unset it."
        exit 1
    fi
    python=python3
fi
