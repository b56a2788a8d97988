"""Reading experiment files: one format in, one `ExperimentSpec` out, every problem named at once."""

from trialflow.config.paths import AllowedRoots
from trialflow.config.reader import ParsedExperiment, parse_experiment
from trialflow.config.source import Source, read_source

__all__ = ["AllowedRoots", "ParsedExperiment", "Source", "parse_experiment", "read_source"]
