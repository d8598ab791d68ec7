#!/usr/bin/env bash
# PPO on the real environment, without a model.
#
# Hardware: a shared x86-64 server, 2 cores, no GPU.
# Seeds: as below. Cost: 1 to 71 minutes each, 1 thread; docs/tables/agents.md has them all.
set -euo pipefail

# Two trainings of a million steps were stopped when they had won all.
python benchmarks/model_free.py --env-id MiniGrid-DoorKey-6x6-v0 --steps 1010000 --seed 0
python benchmarks/model_free.py --env-id MiniGrid-DoorKey-6x6-v0 --steps 348160 --seed 1
python benchmarks/model_free.py --env-id MiniGrid-DoorKey-6x6-v0 --steps 348160 --seed 2
python benchmarks/model_free.py --env-id MiniGrid-DoorKey-6x6-v0 --steps 307200 --seed 3
python benchmarks/model_free.py --env-id MiniGrid-Dynamic-Obstacles-6x6-v0 --steps 204800 --seed 0
python benchmarks/model_free.py --env-id MiniGrid-Dynamic-Obstacles-6x6-v0 --steps 204800 --seed 1
python benchmarks/model_free.py --env-id MiniGrid-Dynamic-Obstacles-6x6-v0 --steps 102400 --eval-every 4096 \
    --seed 2
python benchmarks/model_free.py --env-id MiniGrid-Dynamic-Obstacles-6x6-v0 --steps 102400 --eval-every 4096 \
    --seed 3
python benchmarks/model_free.py --env-id MiniGrid-LavaCrossingS9N1-v0 --steps 1010000 --seed 0
python benchmarks/model_free.py --env-id MiniGrid-LavaCrossingS9N1-v0 --steps 204800 --seed 1
python benchmarks/model_free.py --env-id MiniGrid-LavaCrossingS9N1-v0 --steps 204800 --seed 2
python benchmarks/model_free.py --env-id MiniGrid-MemoryS13-v0 --steps 1220000 --eval-every 61440 --seed 0
python benchmarks/model_free.py --env-id MiniGrid-MemoryS9-v0 --steps 400000 --seed 0
python benchmarks/model_free.py --env-id MiniGrid-MemoryS9-v0 --steps 1300000 --recurrent --eval-every 61440 \
    --seed 0
