#!/usr/bin/env bash
# The bundled LSSVWM/FirstPerson-ObjectRooms-v0: 1.76 M parameters, 60,200 recorded frames of 301 layouts.
#
# Hardware: a shared x86-64 server, 2 cores, no GPU.
# Seed: 0.
# Cost: 1 minute with 2 processes to record, 98 minutes with 1 thread to train.
set -euo pipefail

lssvwm collect --env-id FirstPerson/MiniGrid-ObjectRooms-v0 --out data/first-person-rooms --frames 60000 \
    --episode-length 200
lssvwm train --dataset data/first-person-rooms --out runs/first-person-rooms --steps 1150 --lengths 128 \
    --odometry-steps 1000 --render-steps 1600 --objective.pure-noise 0.8 --objective.context-noise 0.2 \
    --eval-every 200 --starts 32 --start-frames 32 --threads 1

# Judge it on layouts of the test split: walls and objects by age, counted in the pictures.
lssvwm collect --env-id FirstPerson/MiniGrid-ObjectRooms-v0 --split test --out data/first-person-rooms-test \
    --frames 16000 --episode-length 1000
lssvwm compare --simulator lssvwm_env/bundled/FirstPerson-ObjectRooms-v0 \
    --dataset data/first-person-rooms-test --sequences 16 --context 512 --horizon 96 \
    --out runs/compare/first-person-rooms --card
