#!/usr/bin/env bash
# The bundled LSSVWM/MiniGrid-MemoryS9-v0, simulator and policy: 1.11 M parameters, 120,041 real frames.
#
# Hardware: a shared x86-64 server, 2 cores, no GPU.
# Seed: 0.
# Cost: 9, 10 and 9 minutes for the model of each round, 17 minutes in dreams, 1 thread.
# The simulator and the policy of the last round, runs/dyna-s9/round-02, are bundled; its horizon became 405.
set -euo pipefail

# Three rounds of Dyna.
lssvwm dyna --env-id MiniGrid-MemoryS9-v0 --out runs/dyna-s9 --rounds 3 --frames-per-round 40000 --explore 0.3 \
    --preset micro --model.steps 1000 --model.lengths 64 --model.head-sequences 1024 --model.head-steps 2000 \
    --model.odometry-steps 2400 --model.eval-every 250 --model.threads 1 --agent.updates 120 \
    --agent.num-dreams 256 --agent.refresh 16 --episodes 100

# Judge it: actions drawn, then the likeliest; and chance.
lssvwm judge --simulator LSSVWM/MiniGrid-MemoryS9-v0 --out benchmarks/records/agents/MemoryS9-policy \
    --num-envs 32 --threads 1
lssvwm judge --simulator LSSVWM/MiniGrid-MemoryS9-v0 --out benchmarks/records/agents/MemoryS9-policy-likeliest \
    --deterministic --num-envs 32 --films 0 --threads 1
lssvwm judge --simulator LSSVWM/MiniGrid-MemoryS9-v0 --out benchmarks/records/agents/MemoryS9-uniform \
    --agent uniform --threads 1

# Plan without a policy: once without a limit of time, once with 0.8 s per decision on two idle cores.
lssvwm judge --simulator LSSVWM/MiniGrid-MemoryS9-v0 --out benchmarks/records/agents/MemoryS9-mcts \
    --agent mcts --max-steps 120 --horizon 16 --imagined-steps 300 --replan-every 2 \
    --action-probs 0.34 0.33 0.33 0.0 0.0 0.0 0.0 --curiosity 0.5 --gamma 0.97 --num-envs 1 --threads 1
lssvwm judge --simulator LSSVWM/MiniGrid-MemoryS9-v0 --out benchmarks/records/agents/MemoryS9-mcts-in-time \
    --agent mcts --episodes 100 --max-steps 120 --horizon 16 --imagined-steps 300 --seconds 0.8 \
    --replan-every 2 --action-probs 0.34 0.33 0.33 0.0 0.0 0.0 0.0 --curiosity 0.5 --gamma 0.97 --num-envs 1 \
    --films 0

# Ask what it remembers: 3 minutes with 1 thread.
lssvwm eval memory --simulator LSSVWM/MiniGrid-MemoryS9-v0 --out benchmarks/records/MiniGrid-MemoryS9-v0
python benchmarks/records_io.py benchmarks/records/MiniGrid-MemoryS9-v0/memory.json
