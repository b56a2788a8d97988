"""The `nni` module for trial code, without NNI: parameters in, metrics out, through files.

Standard library only, so that any container image with a Python (3.6 or later) runs an NNI trial. Of the files beside
this one, trial code has a use for ``utils``; the others are for tuners, assessors and advisors of the user's own.
Where the real NNI is installed, it takes this module's place, unless TRIALFLOW_TRIAL_SDK=own.

Outside of an experiment (no NNI_PLATFORM in the environment) the module works as NNI's does: no parameters are
handed out and metrics are printed, so that trial code can be run by hand.
"""

import json
import os
import sys
import time

# Of the NNI whose interface this is; the real one says 3.0.
__version__ = "3.0+trialflow"
_HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _find_real_nni():
    """Find an installed NNI on the rest of the path."""
    if os.environ.get("TRIALFLOW_TRIAL_SDK") == "own":
        return None
    from importlib.machinery import PathFinder

    rest = [entry for entry in sys.path if os.path.abspath(entry or os.getcwd()) != _HERE]
    spec = PathFinder.find_spec("nni", rest)
    # The real one is a package; a single file is the one by which Trialflow's own is imported outside of trials.
    is_real = spec is not None and spec.loader is not None and spec.submodule_search_locations is not None
    return spec if is_real else None


def _step_aside(spec):
    """Run the real NNI as the module `nni`."""
    from importlib.util import module_from_spec

    module = module_from_spec(spec)
    sys.modules["nni"] = module
    spec.loader.exec_module(module)


class NoMoreTrialError(Exception):
    """Raised by a tuner that has nothing to suggest any more."""

    def __init__(self, ErrorInfo="no more parameters"):  # noqa: N803  # as in NNI
        super().__init__(ErrorInfo)


class _Trial:
    """This process's trial: where its files are and what it has reported."""

    def __init__(self):
        environment = os.environ
        self.platform = environment.get("NNI_PLATFORM")
        self.experiment_id = environment.get("NNI_EXP_ID", "STANDALONE")
        self.trial_id = environment.get("NNI_TRIAL_JOB_ID", "STANDALONE")
        self.sequence_id = int(environment.get("NNI_TRIAL_SEQ_ID", "0"))
        self.folder = environment.get("NNI_SYS_DIR", "")
        self.parameters = None
        self.parameter_id = 0
        self.reported = {"PERIODICAL": 0, "FINAL": 0}

    def read_parameters(self):
        if self.platform is None:
            self.parameters = {}
            return
        path = os.path.join(self.folder, "parameter.cfg")
        while not os.path.exists(path):
            time.sleep(0.2)
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        self.parameters = record["parameters"]
        self.parameter_id = record["parameter_id"]

    def report(self, kind, value):
        sequence = self.reported[kind]
        self.reported[kind] += 1
        if self.platform is None:
            print("nni: {} metric {}: {}".format("final" if kind == "FINAL" else "intermediate", sequence, value))
            return
        record = {
            "parameter_id": self.parameter_id,
            "trial_job_id": self.trial_id,
            "type": kind,
            "sequence": sequence,
            "value": json.dumps(_plain_metric(value)),
        }
        body = json.dumps(record).encode("utf-8") + b"\n"
        if len(body) > 999999:
            raise ValueError(
                f"a metric must not be longer than 999999 bytes as JSON; got {len(body)}. "
                "Report numbers, and write the rest to NNI_OUTPUT_DIR"
            )
        folder = os.path.join(self.folder, ".nni")
        os.makedirs(folder, exist_ok=True)
        # One write per record: appends of several processes do not mix, and a kill leaves at most one record cut.
        with open(os.path.join(folder, "metrics"), "ab", buffering=0) as file:
            file.write(b"ME%06d" % len(body) + body)


def _plain_metric(metric):
    """A metric as JSON has it: numbers for scalars, and beside `default` lists for arrays."""
    if not isinstance(metric, dict):
        return _plain(metric, _plain_number)
    plain = {}
    for key, value in metric.items():
        try:
            plain[key] = _plain(value, _plain_number if key == "default" else _plain_value)
        except (TypeError, ValueError) as error:
            raise TypeError("the metric's key {!r} cannot be written as JSON: {}".format(key, error)) from error
    return plain


def _plain(value, default):
    return json.loads(json.dumps(value, default=default))


def _plain_value(value):
    """A list or a number for numpy's, torch's and tensorflow's arrays and scalars."""
    for method in ("tolist", "numpy", "item"):
        convert = getattr(value, method, None)
        if convert is not None:
            return convert()
    raise TypeError("got {}".format(type(value).__name__))


def _plain_number(value):
    """A Python number for numpy's, torch's and tensorflow's scalars."""
    for method in ("item", "numpy"):
        convert = getattr(value, method, None)
        if convert is not None:
            try:
                converted = convert()
            except (TypeError, ValueError, RuntimeError):
                return _plain_value(value)  # Several numbers are no result; as in NNI, the trial goes on.
            return converted if isinstance(converted, (int, float, bool)) else _plain_number(converted)
    raise TypeError(
        f"a metric must be a number or a dict with the key 'default'; got {type(value).__name__}"
    )


def get_next_parameter():
    """Return this trial's parameters, a dict; empty outside of an experiment."""
    if _trial.parameters is None:
        _trial.read_parameters()
    return _trial.parameters


# NNI's own alias, which its documentation uses.
get_next_parameters = get_next_parameter


def get_current_parameter(tag=None):
    """Return the parameters again, or the one named ``tag``."""
    parameters = get_next_parameter()
    return parameters if tag is None else parameters[tag]


def report_intermediate_result(metric):
    """Report a number, or a dict with the key ``default``, while the trial runs."""
    _trial.report("PERIODICAL", metric)


def report_final_result(metric):
    """Report a number, or a dict with the key ``default``, as the result of the trial."""
    _trial.report("FINAL", metric)


def get_experiment_id():
    """Return the experiment's id, a string."""
    return _trial.experiment_id


def get_trial_id():
    """Return the trial's id, a string of 5 characters."""
    return _trial.trial_id


def get_sequence_id():
    """Return the trial's number, counted from 0."""
    return _trial.sequence_id


def dump(value, **options):
    """Return a value as JSON text."""
    return json.dumps(value, **options)


def load(text, **options):
    """Return the value of a JSON text."""
    return json.loads(text, **options)


_SEARCH_FUNCTIONS = (
    "choice", "randint", "uniform", "quniform", "loguniform", "qloguniform", "normal", "qnormal", "lognormal",
    "qlognormal", "function_choice",
)  # fmt: skip


def _describe_missing(name):
    """Say what to do about a part of NNI that is not here."""
    if name[len("nni.") :] in _SEARCH_FUNCTIONS:
        return "{} stands in annotations only; take the value from nni.get_next_parameter()".format(name)
    if name.lower() == "nni.experiment":
        return "{} starts experiments, where Trialflow is installed; no trial has it".format(name)
    return (
        "{} is a part of NNI that Trialflow's module nni does not have. Do without it, or install NNI where this "
        "runs (pip install nni): then that one is used".format(name)
    )


def __getattr__(name):
    """Give the modules that NNI's `import nni` brings along, or say what is missing (from Python 3.7 on)."""
    if name in ("trial", "utils"):
        __import__("nni." + name)
        return sys.modules["nni." + name]
    raise AttributeError(_describe_missing("nni." + name))


class _MissingParts:
    """The last of Python's finders: a module of NNI that none has found is missing here, for a reason."""

    @staticmethod
    def find_spec(name, path=None, target=None):  # noqa: ARG004  # as Python calls it
        if name.startswith("nni."):
            raise ModuleNotFoundError(_describe_missing(name))


_real = _find_real_nni()
if _real is not None:
    _step_aside(_real)
else:
    _trial = _Trial()
    sys.meta_path.append(_MissingParts)
    from nni.utils import ClassArgsValidator  # noqa: F401  # NNI has it here, too.
