"""The state-space memory: scans, their state, and the geometry of places that addresses it."""
