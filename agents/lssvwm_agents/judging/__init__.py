"""Agents in the real environment, and how well they did."""
