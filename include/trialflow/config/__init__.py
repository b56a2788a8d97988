"""Reading experiment files: either of NNI's formats in, one `ExperimentSpec` out, every problem named at once."""

from trialflow.config.convert import Conversion, convert
from trialflow.config.formats import Format
from trialflow.config.paths import AllowedRoots
from trialflow.config.reader import ParsedExperiment, parse_experiment
from trialflow.config.source import Source, read_source

__all__ = [
    "AllowedRoots",
    "Conversion",
    "Format",
    "ParsedExperiment",
    "Source",
    "convert",
    "parse_experiment",
    "read_source",
]
