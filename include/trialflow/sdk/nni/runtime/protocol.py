"""Where NNI 2.x has the commands of advisors."""

from nni._commands import CommandType, send

__all__ = ["CommandType", "send"]
