"""A new hospital uses a finished run: it adapts, judges, writes a model, and predicts."""
