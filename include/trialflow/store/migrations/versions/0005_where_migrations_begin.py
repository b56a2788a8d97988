"""The tables as they were before there were migrations."""

revision = "0005"
down_revision = None


def upgrade() -> None:
    """Nothing leads here: a store of this version tells it by its table ``trialflow_schema``."""
