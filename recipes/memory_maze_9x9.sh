#!/usr/bin/env bash
# The bundled LSSVWM/MemoryMaze-9x9-v0: 1.67 M parameters, 70,000 recorded frames of 70 mazes.
#
# Hardware: a shared x86-64 server, 2 cores, no GPU. Needs the extra `memory-maze`.
# Seed: 0.
# The bundled one learned from episodes recorded at commit a05f9c8, when `roam` did not seek targets yet.
# Cost: 12 minutes with 2 processes to record, 107 minutes with 1 thread to train.
set -euo pipefail

lssvwm collect --env-id MemoryMaze/9x9-v0 --out data/memory-maze --frames 64000 --episode-length 1000
lssvwm train --dataset data/memory-maze --out runs/memory-maze --steps 1100 --lengths 128 --retraced 0.5 \
    --odometry-steps 2000 --render-steps 1600 --head-sequences 256 --objective.pure-noise 0.8 \
    --objective.context-noise 0.2 --eval-every 200 --starts 32 --start-frames 32 --threads 1

# Judge it on mazes of the test split: 96 frames after 192, and the two protocols of the paper.
lssvwm collect --env-id MemoryMaze/9x9-v0 --split test --out data/memory-maze-test --frames 16000 \
    --episode-length 1000
lssvwm eval recall --simulator LSSVWM/MemoryMaze-9x9-v0 --dataset data/memory-maze-test --sequences 16 \
    --protocol reasoning --context 192 --horizon 96 --out runs/recall/memory-maze/short
lssvwm eval recall --simulator LSSVWM/MemoryMaze-9x9-v0 --dataset data/memory-maze-test --sequences 8 \
    --protocol retrieval --out runs/recall/memory-maze/retrieval
lssvwm eval recall --simulator LSSVWM/MemoryMaze-9x9-v0 --dataset data/memory-maze-test --sequences 8 \
    --protocol reasoning --out runs/recall/memory-maze/reasoning
lssvwm compare --simulator lssvwm_env/bundled/MemoryMaze-9x9-v0 --dataset data/memory-maze-test \
    --sequences 16 --out runs/compare/memory-maze --card
