"""What does a simulator remember? Walks, revisits, continuations, questions."""
