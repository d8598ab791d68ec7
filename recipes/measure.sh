#!/usr/bin/env bash
# What costs, speeds and small memories are measured by. The records go to benchmarks/records.
#
# Hardware: a shared x86-64 server, 2 cores, no GPU.
# Seed: 0.
set -euo pipefail

# Speed: what docs/speed.md is made of.
python benchmarks/speed_card.py --histories 10 100 1000 10000 --rounds 4
python benchmarks/beside_the_real.py --simulators LSSVWM/MiniGrid-MemoryS9-v0 LSSVWM/ObjectRooms-v0 \
    LSSVWM/MemoryMaze-9x9-v0 --rounds 3 --seconds 4
python benchmarks/speed_against.py --commit 4c08ef3
python benchmarks/trade_off.py

# Costs, long dreams and smaller memories: what docs/results.md is made of.
python benchmarks/cost_curves.py
python benchmarks/long_dream.py --threads 1
python benchmarks/long_dream.py --simulator LSSVWM/MemoryMaze-9x9-v0 --name long-dream-maze --worlds 2 --threads 1
python benchmarks/state_size.py --threads 1 --sequences 16

# What a perfect simulator would promise.
python benchmarks/perfect_promises.py \
    --worlds LSSVWM/MiniGrid-MemoryS9-v0 LSSVWM/MiniGrid-Dynamic-Obstacles-6x6-v0
