"""What the scripts want to know of the machine that they run on."""

import os
import re


def read(path):
    with open(path) as file:
        return file.read()


def read_if_any(path):
    """For files of processes, which may end meanwhile."""
    try:
        return read(path)
    except OSError:
        return ""


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def cgroup2():
    for line in read("/proc/self/mountinfo").splitlines():
        if " - cgroup2 " in line:
            return line.split()[4]
    raise AssertionError("no cgroup2 is mounted")


CGROUP2 = cgroup2()
CONTROLLERS = read(CGROUP2 + "/cgroup.controllers").split()
IS_PURE = CGROUP2 == "/sys/fs/cgroup"


def has_capability(number):
    held = re.search(r"CapEff:\s*(\w+)", read("/proc/self/status")).group(1)
    return bool(int(held, 16) >> number & 1)


def rare_device():
    """One that root may open, and that is not among those which every container may use."""
    return next(it for it in ("/dev/fuse", "/dev/loop-control") if os.path.exists(it))


def nodes():
    """Mode and owner of devices of the host's own, which no container may change."""
    found = {}
    for path in ("/dev/null", "/dev/zero", "/dev/tty"):
        its = os.stat(path)
        found[path] = (its.st_mode, its.st_uid, its.st_gid)
    return found
