"""What an advisor sends; the process that hosts it takes the commands from here."""

from collections import deque
from enum import Enum

outbox = deque()  # type: ignore[var-annotated]


class CommandType(Enum):
    """NNI's commands between its manager and an advisor."""

    # to the advisor
    Initialize = b"IN"
    RequestTrialJobs = b"GE"
    ReportMetricData = b"ME"
    UpdateSearchSpace = b"SS"
    ImportData = b"FD"
    AddCustomizedTrialJob = b"AD"
    TrialEnd = b"EN"
    Terminate = b"TE"
    Ping = b"PI"
    # from the advisor
    Initialized = b"ID"
    NewTrialJob = b"TR"
    SendTrialJobParameter = b"SP"
    NoMoreTrialJobs = b"NO"
    KillTrialJob = b"KI"


def send(command, data):
    """Send a command with its data, a JSON text."""
    outbox.append((CommandType(command), data))
