"""How steps are run: precision, threads, recorded steps, and noise that is a function of (key, frame)."""
