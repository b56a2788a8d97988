"""Where NNI 3.0 has the commands of advisors."""

from nni._commands import CommandType

__all__ = ["CommandType"]
