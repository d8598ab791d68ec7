#!/usr/bin/env bash
# The study of memories: one model per idea, at equal parameters and training frames.
#
# Hardware: a shared x86-64 server, 2 cores, no GPU.
# Seeds: 0 and 1.
# Cost: benchmarks/records/study-costs.json has the CPU seconds of a step of each model.
# Records that exist are not made again; remove benchmarks/records/study first to make them anew.
set -euo pipefail

lssvwm collect --env-id MiniGrid-ObjectRooms-v0 --out data/object-rooms-train --frames 200000 \
    --episode-length 200

# 300 steps of 64 frames each, all variants but those of the longer trainings.
python benchmarks/memory_study.py --seeds 0 1 \
    --variants ours window full-attention mamba2 mamba2-convolution blocks-1 paper-blocks patches no-maps \
        all-4 overlap convolution window-0 window-2 window-4 no-curriculum plateau diffusion-forcing \
        diffusion-forcing-longer no-clean-prefix no-context-noise cut-gradients-8 cut-gradients \
        cut-gradients-32 moments recall truncation perceptual adamw

# 600 steps.
python benchmarks/memory_study.py --steps 600 \
    --variants ours full-attention moments convolution perceptual convolution-moments convolution-perceptual
python benchmarks/memory_study.py --steps 600 --seeds 0 1 \
    --variants ours convolution-moments-perceptual winner winner-curriculum

# What a training step of each takes.
python benchmarks/study_costs.py
