"""Expert sets: ``classical`` (pixels only, no weights), ``oracle`` and ``noisy`` (given a source of truth)."""
