"""Where NNI 2.x keeps helpers of its own processes."""

__all__ = ["enable_multi_thread", "init_logger", "multi_thread_enabled"]


def init_logger(*args, **kwargs):
    """Do nothing: logging is set up before a class is made."""


_state = {"multi_thread": False}


def enable_multi_thread():
    """Note that a tuner is asked in several threads; the process that hosts it does so for ``multiThread: true``."""
    _state["multi_thread"] = True


def multi_thread_enabled():
    """Tell whether a tuner is asked in several threads."""
    return _state["multi_thread"]
