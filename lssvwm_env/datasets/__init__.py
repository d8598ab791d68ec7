"""Datasets in and out: collected, imported, exported, checked."""
