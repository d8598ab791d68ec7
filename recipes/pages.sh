#!/usr/bin/env bash
# Make the pages of results of the records. Nothing is measured.
set -euo pipefail

# docs/results.md, docs/agents.md and docs/speed.md, with docs/tables and docs/img.
python benchmarks/results.py
python benchmarks/agent_results.py
python benchmarks/dream_savings.py
python benchmarks/speed_results.py
