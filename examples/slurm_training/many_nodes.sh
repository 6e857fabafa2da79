#!/bin/bash
#SBATCH --job-name=nnpkit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=1
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append

export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
srun nnpkit train train.yaml --resume
# 138 is 128 + SIGUSR1: the time was over, the training is not
[ $? -eq 138 ] && scontrol requeue "$SLURM_JOB_ID"
