"""Where samples come from: generated scenes, annotated photographs, and loaders of published sets."""
