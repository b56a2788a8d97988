"""The base class of advisors; see NNI's documentation on customized advisors."""

from nni import _commands
from nni.recoverable import Recoverable

__all__ = ["MsgDispatcherBase"]


class MsgDispatcherBase(Recoverable):
    """Tuner and assessor in one; a subclass has the handlers, which answer with commands."""

    def __init__(self, command_channel_url=None):
        self.stopping = False

    def send(self, command, data):
        """Send a command with its data, a JSON text."""
        _commands.send(command, data)

    def handle_initialize(self, data):
        """Take in the first search space."""
        raise NotImplementedError("handle_initialize not implemented")

    def handle_request_trial_jobs(self, data):
        """Send ``NewTrialJob`` for this number of trials, now or in a later call."""
        raise NotImplementedError("handle_request_trial_jobs not implemented")

    def handle_update_search_space(self, data):
        """Take in a later search space."""
        raise NotImplementedError("handle_update_search_space not implemented")

    def handle_import_data(self, data):
        """Take in results of other experiments: a list of dicts with the keys ``parameter`` and ``value``."""
        raise NotImplementedError("handle_import_data not implemented")

    def handle_add_customized_trial(self, data):
        """Hear of a trial whose parameters are not this advisor's."""
        raise NotImplementedError("handle_add_customized_trial not implemented")

    def handle_report_metric_data(self, data):
        """Take in a metric: ``parameter_id``, ``trial_job_id``, ``type``, ``sequence`` and ``value``."""
        raise NotImplementedError("handle_report_metric_data not implemented")

    def handle_trial_end(self, data):
        """Hear that a trial has ended: ``trial_job_id``, ``event`` and ``hyper_params``."""
        raise NotImplementedError("handle_trial_end not implemented")
