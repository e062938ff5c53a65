# shellcheck shell=bash
# The site and its Python, for the jobs: $PYTHON, else .venv/bin/python, else what a module, a container or conda gives.
# shellcheck disable=SC1090
if [ -n "${RANGER21_SITE:-}" ]; then . "$RANGER21_SITE"; fi
# shellcheck disable=SC2034
python=${PYTHON:-.venv/bin/python}
[ -n "$(command -v "$python")" ] || python=python3
