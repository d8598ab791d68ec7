#!/usr/bin/env bash
# DoorKey from 10,027 real frames, in two rounds.
#
# Hardware: a shared x86-64 server, 2 cores, no GPU. Other work ran on the same cores.
# Seed: 0.
# Cost: 19 and 18 minutes for the model of each round, 31 minutes in dreams, 1 thread.
set -euo pipefail

# Rounds of Dyna.
lssvwm dyna --env-id MiniGrid-DoorKey-6x6-v0 --out runs/dyna-door --rounds 2 --frames-per-round 5000 \
    --explore 0.2 --episode-length 128 --preset micro --model.steps 2000 --model.lengths 64 \
    --model.head-sequences 2048 --model.head-steps 2000 --model.odometry-steps 2400 --model.eval-every 500 \
    --model.threads 1 --agent.updates 250 --agent.num-dreams 256 --agent.refresh 16 --episodes 100

# Judge.
lssvwm judge --simulator runs/dyna-door/round-01/model/simulator \
    --out benchmarks/records/agents/DoorKey-6x6-10k-policy \
    --policy runs/dyna-door/round-01/agent/policy.safetensors --max-steps 360 --num-envs 32 --threads 1
