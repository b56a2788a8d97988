"""Trials as jobs of the training operator, on a fake cluster that runs the real run scripts as processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trialflow.testing import TrainingServiceContract
from trialflow.training import JobRequest, TrainingService

from .kubeflow_lab import Lab, make_running_lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with make_running_lab(tmp_path) as lab:
        yield lab


@pytest.fixture
def service(lab: Lab) -> TrainingService:
    return lab.service


@pytest.fixture
def make_request(lab: Lab) -> Callable[[str], JobRequest]:
    return lab.request


class TestKubeflowTrainingService(TrainingServiceContract):
    """The contract, on a fake cluster."""
