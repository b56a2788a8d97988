"""Staging: the experiment's code, copied once to where its trials can read it."""

from trialflow.staging.files import CodeFile
from trialflow.staging.folder import FolderStorage
from trialflow.staging.scan import scan_code

__all__ = ["CodeFile", "FolderStorage", "scan_code"]
