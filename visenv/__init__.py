"""visenv: segmentation, detection and counting as environments in which an agent calls vision experts."""
