#!/usr/bin/env bash
# The bundled LSSVWM/ObjectRooms-v0: 2.85 M parameters, 639,700 recorded frames.
#
# Hardware: a shared x86-64 server, 2 cores, no GPU.
# Seeds: 0, then 1, then 2 for the trainings; 0 and 1 for the recordings.
# Cost: 87 minutes (1 thread for the first 500 steps, then 2), then 62 and 64 minutes with 1 thread.
# The third simulator, runs/object-rooms-14/simulator, is the one that is bundled. It was trained before simulators had
# memory_frames and a codebook, and was given both afterwards: 1,000, and the 41 patches of object-rooms-long.
set -euo pipefail

# Record: 200,200 frames in episodes of 200, and 439,500 in episodes of 1,500.
lssvwm collect --env-id MiniGrid-ObjectRooms-v0 --out data/object-rooms-train --frames 200000 \
    --episode-length 200
lssvwm collect --env-id MiniGrid-ObjectRooms-v0 --out data/object-rooms-long --frames 400000 --seed 1 \
    --episode-length 1500

# Train on sequences of 128 frames, then go on with 256, then with 512.
lssvwm train --dataset data/object-rooms-train --out runs/object-rooms-12 --lengths 128
lssvwm train --dataset data/object-rooms-train --out runs/object-rooms-13 --steps 700 --lengths 256 \
    --frames-per-step 256 --objective.context-noise 0.2 \
    --init runs/object-rooms-12/simulator/model.safetensors --lr 0.0007 --cooldown 0.5 --eval-every 100 \
    --seed 1 --threads 1
lssvwm train --dataset data/object-rooms-long --out runs/object-rooms-14 --steps 380 --lengths 512 \
    --frames-per-step 512 --objective.context-noise 0.2 \
    --init runs/object-rooms-13/simulator/model.safetensors --lr 0.0007 --cooldown 0.5 --eval-every 60 \
    --seed 2 --threads 1

# Ask what it remembers: 12, 7 and 10 minutes with 1 thread. Records of this size are gzipped.
lssvwm eval memory --simulator LSSVWM/ObjectRooms-v0 --out benchmarks/records/ObjectRooms-v0 --sequences 32
lssvwm eval memory --simulator LSSVWM/ObjectRooms-v0 --out benchmarks/records/ObjectRooms-wander \
    --sequences 128 --walks --continuation --questions 0 --batch 16
lssvwm eval memory --simulator LSSVWM/ObjectRooms-v0 --out benchmarks/records/ObjectRooms-poses --sequences 32 \
    --walks --pose-given --questions 0
python benchmarks/records_io.py benchmarks/records/ObjectRooms-*/memory.json
