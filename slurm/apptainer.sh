#!/bin/bash
# Python inside an Apptainer image: export RANGER21_IMAGE=/path/image.sif PYTHON=$PWD/slurm/apptainer.sh (docs/cluster.md)
exec apptainer exec --nv --bind "$PWD" ${RANGER21_HOME:+--bind "$RANGER21_HOME"} "${RANGER21_IMAGE:?}" python3 "$@"
