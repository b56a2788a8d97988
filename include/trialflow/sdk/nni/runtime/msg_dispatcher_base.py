"""Where NNI 2.x and 3.0 have the base class of advisors."""

from nni.msg_dispatcher_base import MsgDispatcherBase

__all__ = ["MsgDispatcherBase"]
