"""The test cluster by hand.

    python -m tests.cluster up | down | build

``up`` prints the variable for kubectl on its output, and everything else on its error stream. The cluster's folder is
TRIALFLOW_CLUSTER_HOME, by default ``.trialflow/cluster`` in the checkout. Where TRIALFLOW_TEST_KUBECONFIG names another
cluster, ``up`` starts none, for the tests use that one.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

from tests.cluster.build import BuildError, locked, prepare, say
from tests.cluster.cluster import ClusterError
from tests.cluster.own import OwnCluster
from tests.cluster.sandbox import SandboxError

_DEFAULT_HOME = Path(__file__).resolve().parents[2] / ".trialflow" / "cluster"


def main() -> None:
    """The command line of this module."""
    command = sys.argv[1] if len(sys.argv) == 2 else ""
    home = Path(os.environ.get("TRIALFLOW_CLUSTER_HOME") or _DEFAULT_HOME)
    commands = {"up": up, "down": down, "build": build}
    if command not in commands:
        raise SystemExit(__doc__)
    home.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked(home.with_name(f"{home.name}.lock")):
            commands[command](home)
    except (BuildError, ClusterError, SandboxError) as error:
        raise SystemExit(str(error)) from error


def build(_home: Path) -> None:
    """Make whatever a cluster is made of."""
    prepare()


def up(home: Path) -> None:
    """Start the cluster of a folder, unless it runs or another one is given, and tell how to use it."""
    given = Path(os.environ.get("TRIALFLOW_TEST_KUBECONFIG") or home / "kubeconfig").resolve()
    if home.resolve() not in given.parents:
        say(f"TRIALFLOW_TEST_KUBECONFIG names a cluster, which is used instead; unset it to start one in {home}")
        print(f"export KUBECONFIG={shlex.quote(str(given))}")
        return
    prepare()
    began = time.monotonic()
    cluster = OwnCluster.open(home)
    if cluster is None or not cluster.is_running:
        if cluster:
            cluster.remove()
        cluster = OwnCluster.make(home)
    cluster.up()
    say(f"ready after {time.monotonic() - began:.1f} s: {', '.join(cluster.parts)}")
    say(f"logs: {cluster.home / 'logs'}; image: {cluster.image}; to end it: make cluster-down")
    print(f"export KUBECONFIG={cluster.kubeconfig}")


def down(home: Path) -> None:
    """End the cluster of a folder and remove it."""
    cluster = OwnCluster.open(home)
    if cluster:
        cluster.remove()


if __name__ == "__main__":
    main()
