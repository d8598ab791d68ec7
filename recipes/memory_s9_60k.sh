#!/usr/bin/env bash
# MemoryS9 from 60,103 real frames. Three rounds were asked for; it was stopped after two, when it had won all.
#
# Hardware: a shared x86-64 server, 2 cores, no GPU. Other work ran on the same cores.
# Seed: 0.
# Cost: 28 and 20 minutes for the model of each round, 27 minutes in dreams, 1 thread.
set -euo pipefail

# Rounds of Dyna.
lssvwm dyna --env-id MiniGrid-MemoryS9-v0 --out runs/dyna-s9-90k --rounds 3 --frames-per-round 30000 \
    --explore 0.2 --preset micro --model.steps 1200 --model.lengths 64 --model.head-sequences 2048 \
    --model.head-steps 2000 --model.odometry-steps 2400 --model.eval-every 600 --model.threads 1 \
    --agent.updates 150 --agent.num-dreams 256 --agent.refresh 16 --episodes 100

# Judge.
lssvwm judge --simulator runs/dyna-s9-90k/round-01/model/simulator \
    --out benchmarks/records/agents/MemoryS9-60k-policy \
    --policy runs/dyna-s9-90k/round-01/agent/policy.safetensors --max-steps 405 --num-envs 32 --threads 1
