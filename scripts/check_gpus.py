"""Check on a machine with a real GPU what the tests check with a fake one; needs no Airflow.

    python scripts/check_gpus.py

Each trial asks NVML's neighbour nvidia-smi or torch for nothing: it says what CUDA_VISIBLE_DEVICES names, and holds it
for a moment. The script exits with 1, and says why, when GPUs were shared beyond the limit or were not found.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from trialflow.errors import BusyError
from trialflow.settings import Settings
from trialflow.training import JobRequest
from trialflow.training.local import LocalTrainingService
from trialflow.training.local.gpus import GpuWish, find_shortage, list_gpus
from trialflow.training.local.section import LocalSection

COMMAND = 'echo "$CUDA_VISIBLE_DEVICES"; sleep 1'
TRIALS_PER_GPU = 3


def main() -> int:
    """Run the check; gives the exit code."""
    gpus = list_gpus()
    print(f"{len(gpus)} GPUs: {gpus}")
    if not gpus:
        print("no GPU was found; is the driver loaded, and is nvidia-ml-py or nvidia-smi there?")
        return 1
    faults = [find_shortage(GpuWish(len(gpus)), gpus)]
    faults += ["" if find_shortage(GpuWish(len(gpus) + 1), gpus) else "more GPUs than there are were not refused"]
    with tempfile.TemporaryDirectory() as folder:
        for limit in (1, 2):
            most = run_trials(Path(folder) / str(limit), len(gpus), limit)
            print(f"at most {limit} trials a GPU: {most} at once")
            faults += ["" if 1 <= most <= limit else f"{most} trials held one GPU, and {limit} may"]
    print("\n".join(filter(None, faults)) or "All is as it should be.")
    return 1 if any(faults) else 0


def run_trials(folder: Path, gpu_count: int, limit: int) -> int:
    """Run more trials than there is room for; gives how many held the busiest GPU at once."""
    service = LocalTrainingService(Settings(home=folder))
    waiting = [_request(folder, number, limit) for number in range(gpu_count * TRIALS_PER_GPU)]
    live: list[JobRequest[LocalSection]] = []
    most = 0
    while waiting or live:
        try:
            service.submit(waiting[0]) if waiting else time.sleep(0.05)
            live += waiting[:1]
            waiting = waiting[1:]
        except BusyError:
            time.sleep(0.05)
        # After the submission: what lives now has lived beside it.
        live = [request for request in live if service.poll(service.handle(request)).outcome is None]
        most = max(most, *Counter(map(_held, live)).values(), 0)
    return most


def _request(folder: Path, number: int, limit: int) -> JobRequest[LocalSection]:
    section = LocalSection(COMMAND, gpus=1, trials_per_gpu=limit, uses_active_gpu=True)
    place = folder / "trials" / f"t{number}"
    return JobRequest("check", f"t{number}", number, 1, {}, section, "/", str(place))


def _held(request: JobRequest) -> str:
    stdout = Path(request.folder) / "stdout"
    while not stdout.exists() or not stdout.read_text().strip():
        time.sleep(0.01)
    return stdout.read_text().strip()


if __name__ == "__main__":
    sys.exit(main())
