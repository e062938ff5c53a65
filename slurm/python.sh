# shellcheck shell=bash
# Set up the site and Python of a job: $PYTHON, else .venv/bin/python, else python3 of a module, container or conda.
# Also choose what to run: the files of a clone if the job is submitted from one, else the installed package.
# shellcheck disable=SC1090,SC2034,SC2154
if [ -n "${RANGER21_SITE:-}" ]; then . "$RANGER21_SITE"; fi
python=${PYTHON:-$home/.venv/bin/python}
if [ -z "$(command -v "$python")" ]; then
    if [ -n "${PYTHON:-}" ]; then
        echo "error: PYTHON=$PYTHON does not exist on $HOSTNAME. Set it to an existing Python, or unset it."
        exit 1
    fi
    python=python3
fi
needed='import sys, importlib.util as u; print(*[n for n in ("torch", "hydra") if not u.find_spec(n)])'
if ! lacking=$("$python" -c "$needed") || [ -n "$lacking" ]; then
    echo "error: $(command -v "$python") on $HOSTNAME lacks ${lacking:-Python}. Set PYTHON=/path/to/env/bin/python, make" \
        ".venv in $(cd "$home" && pwd), or load a module in a site file (slurm/sites/generic.sh)."
    exit 1
fi
train=("$home/train.py") compare=("$home/scripts/compare.py")
if [ "$home" = . ]; then train=(train.py) compare=(scripts/compare.py); fi
if [ ! -e "${train[0]}" ] || [[ "$home" == */ranger21/top ]]; then # an installed package
    train=(-m ranger21 train) compare=(-m ranger21 compare)
fi
