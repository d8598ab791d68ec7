"""JSON with types, commands as text, provenance."""
