"""CPU time and peak memory of processes, from /proc."""
import os
import resource
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of a process and of its children that have ended."""
    with open(f"/proc/{pid}/stat") as file:
        # The name of the program, in parentheses, may contain spaces.
        fields = file.read().rsplit(")", 1)[1].split()
    return sum(int(ticks) for ticks in fields[11:15]) / TICKS


def reset_peak(pid):
    with open(f"/proc/{pid}/clear_refs", "w") as file:
        file.write("5")


def peak_bytes(pid):
    """Peak resident memory since the start, or since `reset_peak`."""
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no VmHWM")


def run(command, **options):
    """Runs a command to its end. Returns its exit code, wall time, CPU seconds and peak memory in bytes."""
    begin = time.monotonic()
    process = subprocess.Popen(command, **options)
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        # This program is being ended.
        process.kill()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    assert isinstance(usage, resource.struct_rusage)
    return process.returncode, time.monotonic() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
