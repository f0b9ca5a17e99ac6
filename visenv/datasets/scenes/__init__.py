"""Generated scenes: drawn objects on drawn backgrounds, and questions about them whose answers are known exactly."""
