"""Data modules: images to train on, resumable anywhere, and a labelled probe set."""

from recipes.data.cifar import CIFAR10, CIFAR100
from recipes.data.decoded import DecodedImages
from recipes.data.factors import Factors, FactorsDataset
from recipes.data.fashion_mnist import FashionMNIST
from recipes.data.fashion_studies import FashionKinds, FashionSubset
from recipes.data.hugging_face import HuggingFace
from recipes.data.image_folder import ImageFolder
from recipes.data.in_memory import InMemoryImages
from recipes.data.labelled import LabelledImages
from recipes.data.module import ProbedImages
from recipes.data.places import FactorsPlaces

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "DecodedImages",
    "Factors",
    "FactorsDataset",
    "FactorsPlaces",
    "FashionKinds",
    "FashionMNIST",
    "FashionSubset",
    "HuggingFace",
    "ImageFolder",
    "InMemoryImages",
    "LabelledImages",
    "ProbedImages",
]
