"""The first process of the sandbox, run by its path in the sandbox's own namespaces.

    python holder.py HOME PROGRAMS

Makes the sandbox's view of the file system, says so by creating HOME/sandbox.ready, then waits for the processes that
nobody else waits for. When it dies, the kernel ends every other process of the sandbox, and with the last of them all
mounts and networks go. Only the standard library: nothing of the checkout is on its path.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

RUN = Path("/run")
# The kubelet sets them for the whole machine unless it finds these values, so it is shown what it wants to see.
SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
# Programs write below these paths whatever they are told: here it goes to memory, and with the sandbox.
SCRATCH = ("/var/lib", "/var/log")


def main() -> None:
    """See the module."""
    home, programs = Path(sys.argv[1]), Path(sys.argv[2])
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", RUN)
    for scratch in (*SCRATCH, os.path.realpath("/sbin")):
        cover(Path(scratch))
    for name, value in SYSCTLS.items():
        show(RUN / "sysctl" / name, value + "\n", Path("/proc/sys") / name)
    show(RUN / "hosts", (home / "config" / "hosts").read_text(), Path("/etc/hosts"))
    helper = Path("/sbin/mount.nfs")
    helper.unlink(missing_ok=True)
    helper.write_text((home / "config" / "mount.nfs").read_text())
    helper.chmod(0o755)
    for name, folder in (("home", home), ("programs", programs)):
        (RUN / name).mkdir()
        mount("--bind", folder, RUN / name)
    mount("--make-rshared", "/")
    (home / "sandbox.ready").touch()
    clear_away()


def mount(*arguments: object) -> None:
    """Call mount(8)."""
    subprocess.run(["mount", *map(str, arguments)], check=True)


def cover(folder: Path) -> None:
    """Let writes below the folder go to memory, where only the sandbox sees them."""
    upper, work = (RUN / "cover" / part / folder.name for part in ("upper", "work"))
    for path in (upper, work):
        path.mkdir(parents=True)
    mount("-t", "overlay", "-o", f"lowerdir={folder},upperdir={upper},workdir={work}", "overlay", folder)


def show(file: Path, content: str, place: Path) -> None:
    """Let the sandbox see a file with this content at another file's place."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    if place.exists():
        mount("--bind", file, place)


def clear_away() -> None:
    """Wait for orphans, for ever."""
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            signal.sigtimedwait([signal.SIGCHLD], 1)


if __name__ == "__main__":
    main()
