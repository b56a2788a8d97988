"""The base class of tuners; see NNI's documentation on customized tuners."""

import logging

import nni
from nni.recoverable import Recoverable

__all__ = ["Tuner"]
_logger = logging.getLogger(__name__)


class Tuner(Recoverable):
    """Suggests parameters; a subclass has `generate_parameters`, `receive_trial_result` and `update_search_space`."""

    def generate_parameters(self, parameter_id, **kwargs):
        """Return the parameters of a trial, a dict; raise `nni.NoMoreTrialError` when there are none."""
        raise NotImplementedError("Tuner: generate_parameters not implemented")

    def generate_multiple_parameters(self, parameter_id_list, **kwargs):
        """Return the parameters of several trials; fewer when there are no more."""
        result = []
        for parameter_id in parameter_id_list:
            try:
                result.append(self.generate_parameters(parameter_id, **kwargs))
            except nni.NoMoreTrialError:
                break
        return result

    def receive_trial_result(self, parameter_id, parameters, value, **kwargs):
        """Take in the final metric of a trial, as it was reported."""
        raise NotImplementedError("Tuner: receive_trial_result not implemented")

    def receive_customized_trial_result(self, parameter_id, parameters, value, **kwargs):
        """Take in the final metric of a trial whose parameters are not this tuner's."""
        _logger.info("Customized trial job %s ignored by tuner", parameter_id)

    def _accept_customized_trials(self, accept=True):
        self._accept_customized = accept

    def trial_end(self, parameter_id, success, **kwargs):
        """Hear that a trial has ended."""

    def update_search_space(self, search_space):
        """Take in the search space, the first one and every later one."""
        raise NotImplementedError("Tuner: update_search_space not implemented")

    def import_data(self, data):
        """Take in results of other experiments: a list of dicts with the keys ``parameter`` and ``value``."""

    def _on_exit(self):
        pass

    def _on_error(self):
        pass
