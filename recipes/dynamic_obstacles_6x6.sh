#!/usr/bin/env bash
# The bundled LSSVWM/MiniGrid-Dynamic-Obstacles-6x6-v0, simulator and policy: 1.11 M parameters, 60,237 real frames.
#
# Hardware: a shared x86-64 server, 2 cores, no GPU.
# Seed: 0.
# Cost: 16 minutes for the model, 9 minutes in dreams, 1 thread.
set -euo pipefail

# Record, and train.
lssvwm collect --env-id MiniGrid-Dynamic-Obstacles-6x6-v0 --out data/dynamic-obstacles-6x6-train \
    --frames 60000 --workers 1
lssvwm train --dataset data/dynamic-obstacles-6x6-train --out runs/dynamic-obstacles-6x6 --steps 1200 \
    --threads 1 --preset micro --horizon 144 --denoising-steps 8

# Learn in dreams.
lssvwm imagine --simulator runs/dynamic-obstacles-6x6/simulator --dataset data/dynamic-obstacles-6x6-train \
    --out runs/dynamic-obstacles-6x6-policy --updates 150 --threads 1

# Judge it: actions drawn, then the likeliest; and chance.
lssvwm judge --simulator LSSVWM/MiniGrid-Dynamic-Obstacles-6x6-v0 \
    --out benchmarks/records/agents/Dynamic-Obstacles-6x6-policy --num-envs 32 --threads 1
lssvwm judge --simulator LSSVWM/MiniGrid-Dynamic-Obstacles-6x6-v0 \
    --out benchmarks/records/agents/Dynamic-Obstacles-6x6-policy-likeliest --deterministic --num-envs 32 \
    --films 0 --threads 1
lssvwm judge --simulator LSSVWM/MiniGrid-Dynamic-Obstacles-6x6-v0 \
    --out benchmarks/records/agents/Dynamic-Obstacles-6x6-uniform --agent uniform --threads 1
