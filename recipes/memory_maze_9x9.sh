#!/usr/bin/env bash
# The bundled LSSVWM/MemoryMaze-9x9-v0: 1.75 M parameters, 64,000 recorded frames of 64 mazes.
#
# Hardware: a shared x86-64 server, 2 cores, no GPU. Needs the extra `memory-maze`.
# Seed: 0.
# Cost: 12 minutes with 2 processes to record, COST minutes with 1 thread to train.
set -euo pipefail

lssvwm collect --env-id MemoryMaze/9x9-v0 --out data/memory-maze --frames 64000 --episode-length 1000
lssvwm train --dataset data/memory-maze --out runs/memory-maze --preset tiny --steps 1100 --lengths 128 \
    --frames-per-step 128 --retraced 0.5 --objective.context-noise 0.2 --objective.pure-noise 0.8 \
    --odometry-steps 2000 --render-steps 1600 --eval-every 200 --starts 32 --start-frames 32 --threads 1

# Judge it on 16 mazes of the test split: the paper's two protocols, and 96 frames after 192.
lssvwm collect --env-id MemoryMaze/9x9-v0 --split test --out data/memory-maze-test --frames 16000 \
    --episode-length 1000
lssvwm eval recall --simulator LSSVWM/MemoryMaze-9x9-v0 --dataset data/memory-maze-test --sequences 16 \
    --protocol reasoning --context 192 --horizon 96 --out runs/recall/memory-maze/short
lssvwm eval recall --simulator LSSVWM/MemoryMaze-9x9-v0 --dataset data/memory-maze-test --sequences 16 \
    --protocol retrieval --out runs/recall/memory-maze/retrieval
lssvwm eval recall --simulator LSSVWM/MemoryMaze-9x9-v0 --dataset data/memory-maze-test --sequences 16 \
    --protocol reasoning --out runs/recall/memory-maze/reasoning
