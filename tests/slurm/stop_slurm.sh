#!/usr/bin/env bash
# End the Slurm that start_slurm.sh began: stop_slurm.sh [FOLDER].
set -u
folder=${1:-/tmp/nnpkit-slurm}
export SLURM_CONF=$folder/slurm.conf
scancel --state=RUNNING,PENDING --user="$(id -un)" 2>/dev/null
for name in slurmd slurmctld; do
    [ -f "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" 2>/dev/null
done
exit 0
