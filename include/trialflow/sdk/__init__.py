"""What is put on a trial's PYTHONPATH: the `nni` that trial code imports. Standard library only, Python 3.6 and up."""

from pathlib import Path

SDK_FOLDER = Path(__file__).resolve().parent
