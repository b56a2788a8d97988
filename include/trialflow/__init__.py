"""Trialflow: NNI hyper-parameter experiments, orchestrated by Airflow.

This package is the domain: what an experiment, a trial and their storage mean. It never imports Airflow.
"""

__version__ = "0.1.0"
