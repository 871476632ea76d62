"""Measurements for a machine with a GPU and without a package index: PyTorch, NumPy and Triton are enough. See ``python -m bench.gpu``."""
