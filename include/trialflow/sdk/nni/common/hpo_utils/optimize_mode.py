"""Whether a smaller or a larger metric is better."""

from nni.utils import OptimizeMode

__all__ = ["OptimizeMode"]
