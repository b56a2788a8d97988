"""Showing an experiment: results, logs, notices, and the views of other tools."""
