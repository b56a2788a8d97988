from __future__ import annotations

from pathlib import Path

import pytest

from trialflow.training.kubeflow.mounts import find_mount

KEY = "10.0.0.5:/data/nfs/nni"
TABLE = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:40 / /mnt/all rw - nfs4 10.0.0.5:/data rw,vers=4.2,addr=10.0.0.5
41 22 0:41 / /mnt/by\\040name rw - nfs4 filer:/home rw,vers=4.2,addr=10.0.0.6
42 22 0:42 /team /mnt/team rw - nfs 10.0.0.7:/export rw
43 22 0:43 / /mnt/six rw - nfs4 [fd00::1]:/six rw,addr=fd00::1
44 22 0:44 / /mnt/other rw - cifs //10.0.0.5/data/nfs/nni rw
45 22 0:45 / /mnt/root rw - nfs4 10.0.0.8:/ rw
"""


@pytest.mark.parametrize(
    ("key", "setting", "folder"),
    [
        (KEY, "", "/mnt/all/nfs/nni"),
        ("10.0.0.5:/data", "", "/mnt/all"),
        ("10.0.0.5:/data/", "", "/mnt/all"),
        ("10.0.0.5:/database", "", None),
        ("10.0.0.5:/", "", None),
        ("10.0.0.9:/data", "", None),
        ("filer:/home/me", "", "/mnt/by name/me"),
        ("10.0.0.6:/home/me", "", "/mnt/by name/me"),
        ("10.0.0.7:/export/team/nni", "", "/mnt/team/nni"),
        ("10.0.0.7:/export", "", None),
        ("fd00::1:/six", "", "/mnt/six"),
        ("[fd00::1]:/six/a", "", "/mnt/six/a"),
        ("10.0.0.8:/anything", "", "/mnt/root/anything"),
        (KEY, f"{KEY}=/srv/nni", "/srv/nni"),
        (KEY, "10.0.0.5:/data=/srv/data", "/srv/data/nfs/nni"),
        (KEY, f"10.0.0.5:/data=/srv/data; {KEY}=/srv/nni ;", "/srv/nni"),
        (KEY, "other:/data=/srv", "/mnt/all/nfs/nni"),
        (KEY, f"{KEY}=relative", "/mnt/all/nfs/nni"),
        (KEY, "nonsense", "/mnt/all/nfs/nni"),
        ("pvc:team/shared", "pvc:team/shared=/mnt/claim", "/mnt/claim"),
        ("pvc:team/shared", "pvc:other/shared=/mnt/claim", None),
        ("pvc:team/shared", "", None),
    ],
)
def test_a_storage_is_found_where_it_is_mounted(key: str, setting: str, folder: str | None) -> None:
    assert find_mount(key, setting, TABLE).folder == (None if folder is None else Path(folder))


def test_the_last_of_two_mounts_of_one_export_is_the_one_that_is_seen() -> None:
    again = TABLE + "46 22 0:46 / /mnt/again rw - nfs4 10.0.0.5:/data rw\n"
    assert find_mount("10.0.0.5:/data", "", again).folder == Path("/mnt/again")


def test_a_search_in_vain_says_where_it_was_made() -> None:
    search = find_mount("10.0.0.9:/data", "a:/b=/c", "40 22 0:40 / /mnt/all rw - nfs4 10.0.0.5:/data rw\n")
    assert search.looked_at == (
        "TRIALFLOW_STORAGE_MOUNTS (a:/b=/c)",
        "the mount table (NFS in it: 10.0.0.5:/data on /mnt/all)",
    )
    assert find_mount("x:/y", "", "").looked_at == (
        "TRIALFLOW_STORAGE_MOUNTS (not set)",
        "the mount table (NFS in it: none)",
    )
