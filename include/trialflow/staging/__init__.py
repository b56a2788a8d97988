"""Staging: the experiment's code, copied once to where its trials can read it."""

from trialflow.staging.base import CodeFile, CodeStorage
from trialflow.staging.folder import FolderStorage
from trialflow.staging.scan import scan_code

__all__ = ["CodeFile", "CodeStorage", "FolderStorage", "scan_code"]
