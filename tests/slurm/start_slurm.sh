#!/usr/bin/env bash
# Start a Slurm of one node, this machine, for tests: start_slurm.sh [FOLDER]. Needs root and Debian's packages
# slurm-wlm and munge, which it installs where apt-get may do so. stop_slurm.sh ends it.
#
# No systemd: munged, slurmctld and slurmd are started by hand; processes are tracked by group and not by cgroup.
set -euo pipefail
folder=${1:-/tmp/nnpkit-slurm}
say() { printf '== %s\n' "$*"; }

[ "$(id -u)" = 0 ] || { echo "error: this needs root" >&2; exit 77; }
missing=()
command -v slurmctld >/dev/null || missing+=(slurm-wlm)
command -v munged >/dev/null || missing+=(munge)
if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || { echo "error: please install ${missing[*]}" >&2; exit 77; }
    say "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

mkdir -p "$folder"/{state,spool,log} /run/munge /var/lib/munge /var/log/munge /etc/munge
if [ ! -s /etc/munge/munge.key ]; then
    head -c 1024 /dev/urandom >/etc/munge/munge.key
fi
chown -R munge: /run/munge /var/lib/munge /var/log/munge /etc/munge
chmod 400 /etc/munge/munge.key
chmod 755 /run/munge
munge -n 2>/dev/null | unmunge >/dev/null 2>&1 || runuser -u munge -- munged --force || munged --force

node=$(hostname -s)
cores=$(nproc --all)
memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
cat >"$folder/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=2,sched_min_interval=0
NodeName=$node NodeAddr=127.0.0.1 CPUs=$cores RealMemory=$memory State=UNKNOWN
PartitionName=test Nodes=$node Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
CONF
export SLURM_CONF=$folder/slurm.conf
slurmctld -c
slurmd -c
for _ in $(seq 60); do
    if sinfo -h -o %T 2>/dev/null | grep -q -E 'idle|mixed|allocated'; then
        say "slurm is up: export SLURM_CONF=$folder/slurm.conf"
        exit 0
    fi
    scontrol update NodeName="$node" State=RESUME 2>/dev/null || true
    sleep 0.5
done
echo "error: slurm did not come up; see $folder/log" >&2
tail -n 20 "$folder"/log/*.log >&2
exit 1
