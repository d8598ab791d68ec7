"""Planners: they search for actions in imagined worlds."""
