"""Data modules that hold their images in memory and offer a labelled probe set."""

from recipes.data.factors import Factors, FactorsDataset
from recipes.data.fashion_mnist import FashionMNIST
from recipes.data.in_memory import InMemoryImages

__all__ = ["Factors", "FactorsDataset", "FashionMNIST", "InMemoryImages"]
