"""The simulator: its folder, where it is found, and how it is shared."""
