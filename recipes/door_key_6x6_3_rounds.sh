#!/usr/bin/env bash
# DoorKey from 6,813 real frames (two rounds) and from 10,235 (three).
#
# Hardware: a shared x86-64 server, 2 cores, no GPU. Other work ran on the same cores.
# Seed: 0.
# Cost: 32, 23 and 21 minutes for the model of each round, 40 minutes in dreams after two and 60 after three, 1 thread.
set -euo pipefail

# Rounds of Dyna.
lssvwm dyna --env-id MiniGrid-DoorKey-6x6-v0 --out runs/dyna-door3 --rounds 3 --frames-per-round 3400 \
    --explore 0.2 --episode-length 128 --preset micro --model.steps 1400 --model.lengths 64 \
    --model.head-sequences 2048 --model.head-steps 2000 --model.odometry-steps 2400 --model.eval-every 350 \
    --model.threads 1 --agent.updates 200 --agent.num-dreams 256 --agent.refresh 16 --episodes 100

# Judge.
lssvwm judge --simulator runs/dyna-door3/round-01/model/simulator \
    --out benchmarks/records/agents/DoorKey-6x6-7k-policy \
    --policy runs/dyna-door3/round-01/agent/policy.safetensors --max-steps 360 --num-envs 32 --threads 1
lssvwm judge --simulator runs/dyna-door3/round-02/model/simulator \
    --out benchmarks/records/agents/DoorKey-6x6-3-rounds-policy \
    --policy runs/dyna-door3/round-02/agent/policy.safetensors --max-steps 360 --num-envs 32 --threads 1
