"""JSON with types, commands as text, devices by name, processes, signals, provenance."""
