#!/usr/bin/env bash
# Dynamic-Obstacles from 4,004 real frames, by a script; and from 4,050 in two rounds of Dyna, which unlearn.
#
# Hardware: a shared x86-64 server, 2 cores, no GPU. Other work ran on the same cores.
# Seed: 0.
# Cost: 9 minutes for the model, 16 minutes in dreams, 1 thread. The rounds: 8 and 7 minutes for the model, 27 and 16 in
# dreams.
set -euo pipefail

# Record, and train. With 2,000 steps the loss on held-out episodes rises again after 750.
lssvwm collect --env-id MiniGrid-Dynamic-Obstacles-6x6-v0 --out data/dyn-few --frames 4000 --workers 1
lssvwm train --dataset data/dyn-few --out runs/dyn-few --preset micro --steps 700 --lengths 64 --threads 1 \
    --horizon 144 --denoising-steps 8

# Learn in dreams.
lssvwm imagine --simulator runs/dyn-few/simulator --dataset data/dyn-few --out runs/dyn-few-policy \
    --updates 200 --denoising-steps 4 --threads 1

# Judge.
lssvwm judge --simulator runs/dyn-few/simulator \
    --out benchmarks/records/agents/Dynamic-Obstacles-6x6-few-policy \
    --policy runs/dyn-few-policy/policy.safetensors --num-envs 32 --threads 1

# Rounds of Dyna.
lssvwm dyna --env-id MiniGrid-Dynamic-Obstacles-6x6-v0 --out runs/dyna-dyn --preset micro --rounds 2 \
    --frames-per-round 2000 --explore 0.2 --episode-length 100 --episodes 100 --model.steps 500 \
    --model.lengths 64 --model.odometry-steps 2400 --model.head-sequences 1024 --model.head-steps 2000 \
    --model.threads 1 --model.eval-every 250 --agent.updates 200 --agent.num-dreams 256 --agent.refresh 16 \
    --denoising-steps 4
