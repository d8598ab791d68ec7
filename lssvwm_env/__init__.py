"""A trained video world model that is a Gymnasium environment."""
