"""Simulators beside their real environments."""
