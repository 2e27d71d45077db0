"""A Ray cluster of several nodes on this machine, in a process of its own whose nodes can be killed and added.

``python ray_nodes.py NODES`` starts it, prints its address, and obeys lines of standard input: ``kill N`` and ``add``.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import psutil

RAY = importlib.util.find_spec("ray") is not None
MEMORY = 80 * 2**20
"""Bytes of a node's object store."""
SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
    "RAY_TMPDIR": tempfile.gettempdir(),  # names of sockets must be short
}
QUICK_DEATHS = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 5,
}
"""A node that was killed is missed after seconds."""


class Nodes:
    """The running cluster: its address, and what can be done to its nodes."""

    def __init__(self, process):
        self._process = process
        self.address = self._answer()["address"]

    def kill(self, number):
        """Kill a node with all its processes; 0 is the first beside the head."""
        self._tell(f"kill {number}")

    def add(self):
        self._tell("add")

    def _tell(self, command):
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self):
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"the cluster ended (exit code {self._process.wait(60)})")


@contextmanager
def nodes(number, env):
    """Start a cluster of a head with one CPU and so many more nodes of one CPU.

    Args:
        number: nodes beside the head.
        env: the environment of its workers.
    """
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__)), str(number)],
        env={**env, **SETTINGS},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield Nodes(process)
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def workers_of(log):
    """Return the processes of workers that write to a log of calls."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if process.info["cmdline"] and process.info["cmdline"][0].startswith("ray::Worker")
        if (process.info["environ"] or {}).get("AFTERTUNE_CALL_LOG") == str(log)
    ]


def _main(number):
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 1, "object_store_memory": MEMORY}
    cluster = Cluster(
        initialize_head=True,
        head_node_args={**options, "_system_config": QUICK_DEATHS, "include_dashboard": False},
    )
    # The head is there now, for drivers to connect to. Nobody waits for the others: on a busy machine that takes longer
    # than Ray allows.
    options["wait"] = False
    others = [cluster.add_node(**options) for _ in range(number)]
    _say({"address": cluster.address})
    for line in sys.stdin:
        command, _, which = line.strip().partition(" ")
        if command == "kill":
            cluster.remove_node(others.pop(int(which)), allow_graceful=False)
        elif command == "add":
            others.append(cluster.add_node(**options))
        _say({"nodes": len(others)})
    cluster.shutdown()


def _say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    os.chdir("/")
    _main(int(sys.argv[1]))
