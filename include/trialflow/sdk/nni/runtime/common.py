"""Where NNI 2.x keeps helpers of its own processes."""

import logging

__all__ = ["enable_multi_thread", "init_logger", "multi_thread_enabled"]


def init_logger(*args, **kwargs):
    """Do nothing: logging is set up before a class is made."""


def enable_multi_thread():
    """Do nothing: a class is called by one thread."""
    logging.getLogger(__name__).warning("a class is called by one thread")


def multi_thread_enabled():
    """Tell whether a class is called by several threads."""
    return False
