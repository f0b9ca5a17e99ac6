"""Questions of seeing, as BLINK and MMVP ask them, generated: the answers follow from what was drawn."""

from visenv.datasets.perceptual.dataset import PairsDataset, PerceptualDataset, make, make_pairs

__all__ = ["PairsDataset", "PerceptualDataset", "make", "make_pairs"]
