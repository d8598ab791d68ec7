"""Learning in dreams, and by turns of dreams and real life."""
