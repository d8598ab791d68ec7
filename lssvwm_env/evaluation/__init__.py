"""Simulators beside their real environments: how true are dreams, and how long do they remember?

`fidelity.py` counts, `compare.py` is the command with its pictures, and `memory/` is the memory suite.
"""
