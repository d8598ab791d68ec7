#!/usr/bin/env bash
# The bundled LSSVWM/MiniGrid-MemoryS13-v0, simulator and policy: 1.11 M parameters, 120,103 real frames.
#
# Hardware: a shared x86-64 server, 2 cores, no GPU.
# Seed: 0.
# Cost: 9, 8 and 8 minutes for the model of each round, 4 for its heads, 7 minutes in dreams, 1 thread.
set -euo pipefail

# Three rounds of Dyna, which do not win: their data are what counts.
lssvwm dyna --env-id MiniGrid-MemoryS13-v0 --out runs/dyna-s13 --rounds 3 --frames-per-round 40000 \
    --explore 0.3 --preset micro --model.steps 1000 --model.lengths 64 --model.head-sequences 1024 \
    --model.head-steps 2000 --model.odometry-steps 2400 --model.eval-every 250 --model.threads 1 \
    --agent.updates 120 --agent.num-dreams 256 --agent.refresh 16 --episodes 100

# The heads and the dead reckoning anew, on four times as many sequences; then a policy that learns from nothing.
lssvwm train --dataset runs/dyna-s13/round-02/data --out runs/s13-heads --steps 0 --head-sequences 4096 \
    --init runs/dyna-s13/round-02/model/simulator/model.safetensors --threads 1 --preset micro --horizon 845
lssvwm imagine --simulator runs/s13-heads/simulator --dataset runs/dyna-s13/round-02/data \
    --out runs/s13-heads-policy --updates 150 --threads 1

# Judge it: actions drawn, then the likeliest; and chance.
lssvwm judge --simulator LSSVWM/MiniGrid-MemoryS13-v0 --out benchmarks/records/agents/MemoryS13-policy \
    --num-envs 32 --threads 1
lssvwm judge --simulator LSSVWM/MiniGrid-MemoryS13-v0 \
    --out benchmarks/records/agents/MemoryS13-policy-likeliest --deterministic --num-envs 32 --films 0 \
    --threads 1
lssvwm judge --simulator LSSVWM/MiniGrid-MemoryS13-v0 --out benchmarks/records/agents/MemoryS13-uniform \
    --agent uniform --threads 1
