"""JSON with types, commands as text, devices by name, provenance."""
