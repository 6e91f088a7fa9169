"""Microlith: put a trained neural network, working and proven, on a microcontroller."""

__version__ = "0.1.0"
