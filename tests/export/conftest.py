"""Megatron's own reader."""

import warnings
from typing import Any

import pytest


@pytest.fixture(scope="session")
def indexed() -> Any:
    """The module of megatron-core; its import warns of packages for GPUs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("megatron.core.datasets.indexed_dataset")
