"""Policies and critics, and the bundled ones."""
