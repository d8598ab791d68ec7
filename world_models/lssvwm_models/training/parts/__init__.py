"""The parts of a world model that are trained by themselves."""
