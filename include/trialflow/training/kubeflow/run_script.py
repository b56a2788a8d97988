"""The shell script that a replica runs: POSIX sh, and of the image only the programs in `_BODY`'s first line."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from trialflow.training.kubeflow.manifest import CODE, INDEX_VARIABLE, SDK, TRIAL, WORK

if TYPE_CHECKING:
    from trialflow.training.base import JobRequest
    from trialflow.training.kubeflow.section import KubeflowSection, Role

# With this code, and without a word in the file `exit`, a replica says that its pod was ended from outside, or another
# pod that has run it before.
LOST_EXIT_CODE = 75
# A process that the command left behind may hold its output open; nobody waits longer for it.
_OUTPUT_WAIT_SECONDS = 5

_BODY = f"""
# Needs cat, chmod, cp, mkdir, mkfifo, sleep and tee.
# Airflow's worker deletes the experiment some day, and may be neither this pod's user nor root: it can only if every
# folder that is made here is open to it. Others who write to the storage can then change what lies there, but the
# replica's folder is open to them as it is; nothing outside of it is ours to open.
umask 000
index=${{{INDEX_VARIABLE}:-${{HOSTNAME##*-}}}}
out={TRIAL}/output/$role-$index
work={WORK}
if [ ! -w "$out" ]; then
  echo "trialflow: $out cannot be written to; check replica index and rights on the storage" >&2
  exit 1
fi
# A pod that was replaced after its replica had ended repeats what it said; one that was replaced before says so.
if [ -s "$out/exit" ]; then exit "$(cat "$out/exit")"; fi
if ! mkdir "$out/started" 2>/dev/null; then
  echo "trialflow: this replica was started before, by a pod that is gone" >&2
  exit {LOST_EXIT_CODE}
fi
export NNI_PLATFORM=local MULTI_PHASE=false
export NNI_SYS_DIR="$out" NNI_OUTPUT_DIR="$out" NNI_CODE_DIR="$work/code"
export PYTHONPATH="{SDK}${{PYTHONPATH:+:$PYTHONPATH}}"
mkdir -p "$work/code" "$work/tmp" "$work/home" || exit 1
if [ ! -w "${{TMPDIR:-/tmp}}" ]; then export TMPDIR="$work/tmp"; fi
if [ ! -w "${{HOME:-/}}" ]; then export HOME="$work/home"; fi
cp {TRIAL}/parameter.cfg "$out/parameter.cfg" && cp -R {CODE}/. "$work/code" && cd "$work/code" || exit 1

# Output goes to the storage and to the pod's log.
mkfifo "$work/stdout" "$work/stderr" || exit 1
tee "$out/stdout" <"$work/stdout" &
tees=$!
tee "$out/stderr" <"$work/stderr" >&2 &
tees="$tees $!"
sh -c "$command" >"$work/stdout" 2>"$work/stderr" &
child=$!
# The first process of a container ignores what it has not asked for.
lost= patience={_OUTPUT_WAIT_SECONDS}
trap 'lost=1; patience=3; kill -TERM "$child" 2>/dev/null' TERM INT
wait "$child"
code=$?
while kill -0 "$child" 2>/dev/null; do
  wait "$child"
  code=$?
done
# What a command says that was told to end is not its own word.
if [ -n "$lost" ]; then code={LOST_EXIT_CODE}; else echo "$code" >"$out/exit"; fi
(sleep "$patience"; kill $tees) >/dev/null 2>&1 &
wait $tees
# For what was copied or made with a mode of its own; a pod that is killed leaves it at that.
chmod -R a+rwX "$out" 2>/dev/null
exit "$code"
"""


def make_run_script(request: JobRequest[KubeflowSection], role: Role, trial_sdk: str) -> str:
    """The script of a role's replicas.

    Args:
        request: The attempt.
        role: The role.
        trial_sdk: ``auto`` or ``own``, see the setting of this name.
    """
    environment = {
        "NNI_EXP_ID": request.experiment_id,
        "NNI_TRIAL_JOB_ID": request.trial_id,
        "NNI_TRIAL_SEQ_ID": str(request.number),
        "TRIALFLOW_TRIAL_SDK": trial_sdk,
        # As NNI did; with GPUs, the device plugin says which.
        **({} if role.gpus else {"CUDA_VISIBLE_DEVICES": ""}),
    }
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    variables = f"role={shlex.quote(role.name)}\ncommand={shlex.quote(role.command)}\n"
    return f"#!/bin/sh\n{variables}{exports}{_BODY}"
