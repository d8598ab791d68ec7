#!/usr/bin/env bash
# The bundled LSSVWM/MiniGrid-LavaCrossingS9N1-v0, simulator and policy: 1.11 M parameters, 12,037 real frames.
#
# Hardware: a shared x86-64 server, 2 cores, no GPU.
# Seed: 0.
# Cost: 20 minutes for the model, 25 minutes in dreams, 1 thread.
set -euo pipefail

# Record, and train.
lssvwm collect --env-id MiniGrid-LavaCrossingS9N1-v0 --out data/lava-few --frames 12000
lssvwm train --dataset data/lava-few --out runs/lava-few --steps 2500 --threads 1 --preset micro --horizon 324

# Learn in dreams.
lssvwm imagine --simulator runs/lava-few/simulator --dataset data/lava-few --out runs/lava-few-policy \
    --threads 1

# Judge it: actions drawn, then the likeliest; and chance.
lssvwm judge --simulator LSSVWM/MiniGrid-LavaCrossingS9N1-v0 \
    --out benchmarks/records/agents/LavaCrossingS9N1-policy --num-envs 32 --threads 1
lssvwm judge --simulator LSSVWM/MiniGrid-LavaCrossingS9N1-v0 \
    --out benchmarks/records/agents/LavaCrossingS9N1-policy-likeliest --deterministic --num-envs 32 --films 0 \
    --threads 1
lssvwm judge --simulator LSSVWM/MiniGrid-LavaCrossingS9N1-v0 \
    --out benchmarks/records/agents/LavaCrossingS9N1-uniform --agent uniform --threads 1
