"""Files, figures, progress bars and run folders: what knows nothing of world models."""
