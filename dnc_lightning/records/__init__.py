"""A run on disk: what callbacks write, and every report reads."""
