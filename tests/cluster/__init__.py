"""A real Kubernetes for the tests, on this machine, without a registry: see `tests.cluster.cluster.Cluster`."""
