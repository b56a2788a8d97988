"""Where NNI 1.x keeps helpers of its own processes."""

from nni.runtime.common import enable_multi_thread, init_logger, multi_thread_enabled

__all__ = ["enable_multi_thread", "init_logger", "multi_thread_enabled"]
