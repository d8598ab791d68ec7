#!/usr/bin/env bash
# The bundled LSSVWM/MiniGrid-DoorKey-6x6-v0, simulator and policy: 1.13 M parameters, 26,170 real frames.
#
# Hardware: a shared x86-64 server, 2 cores, no GPU.
# Seeds: 0, then 1.
# Cost: 21, then 18 minutes for the model, 17 minutes in dreams, 1 thread.
set -euo pipefail

# Record: the second data set begins with the 20,098 frames of the first.
lssvwm collect --env-id MiniGrid-DoorKey-6x6-v0 --out data/door-few --frames 20000
lssvwm collect --env-id MiniGrid-DoorKey-6x6-v0 --out data/door-26k --frames 26000

# Train, then go on with more frames.
lssvwm train --dataset data/door-few --out runs/door-few --steps 2500 --threads 1 --preset micro --horizon 360
lssvwm train --dataset data/door-26k --out runs/door-26k --steps 1200 --head-sequences 2048 \
    --init runs/door-few/simulator/model.safetensors --lr 0.001 --seed 1 --threads 1 --preset micro \
    --horizon 360

# Learn in dreams.
lssvwm imagine --simulator runs/door-26k/simulator --dataset data/door-26k --out runs/door-26k-policy \
    --updates 300 --threads 1

# Judge it: actions drawn, then the likeliest; and chance.
lssvwm judge --simulator LSSVWM/MiniGrid-DoorKey-6x6-v0 --out benchmarks/records/agents/DoorKey-6x6-policy \
    --num-envs 32 --threads 1
lssvwm judge --simulator LSSVWM/MiniGrid-DoorKey-6x6-v0 \
    --out benchmarks/records/agents/DoorKey-6x6-policy-likeliest --deterministic --num-envs 32 --films 0 \
    --threads 1
lssvwm judge --simulator LSSVWM/MiniGrid-DoorKey-6x6-v0 --out benchmarks/records/agents/DoorKey-6x6-uniform \
    --agent uniform --threads 1
