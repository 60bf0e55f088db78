"""Scores of a dual encoder as pure functions of its embeddings."""
