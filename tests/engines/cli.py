#!/usr/bin/python3
"""podman or a dockerd of its own, called on the command line as their users do.

cli.py ENGINE RUNTIME DIR ROOTFS: ENGINE is podman or docker, RUNTIME the OCI runtime under test,
DIR an empty directory, ROOTFS a busybox. To be run as cri.py is. Prints a line for each operation,
and their count.
"""

import atexit
import concurrent.futures
import glob
import json
import os
import subprocess
import sys
import time

import images
from machine import (
    CGROUP2, CONTROLLERS, IS_PURE, has_capability, nodes, rare_device, read, read_if_any, write,
)
from report import PATIENCE, equal, finish, holds, operation, shell, until

ENGINE, RUNTIME, DIR, ROOTFS = sys.argv[1:]
IS_PODMAN = ENGINE == "podman"
PARENT = f"/engines-{os.getpid()}"

PODMAN = ["podman", "--root", DIR + "/root", "--runroot", DIR + "/state", "--runtime", RUNTIME,
          "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--tmpdir", DIR + "/tmp"]
DOCKER = ["docker", "-H", f"unix://{DIR}/docker.sock"]
DOCKERD = ["dockerd", "--config-file", DIR + "/daemon.json", "-H", f"unix://{DIR}/docker.sock",
           "--data-root", DIR + "/root", "--exec-root", DIR + "/state", "--pidfile", DIR + "/pid",
           "--add-runtime", "tested=" + RUNTIME, "--default-runtime", "tested",
           "--cgroup-parent", PARENT,
           "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
           "--bip", "10.88.8.1/24", "--exec-opt", "native.cgroupdriver=cgroupfs"]
COMMAND = PODMAN if IS_PODMAN else DOCKER

# What podman asks for is more than what a machine without CAP_SYS_RESOURCE may give.
LIMITS = ["--ulimit", "nofile=999:999", "--ulimit", "nproc=9999:9999"]
RUN = ["--network", "none"]
if IS_PODMAN:
    RUN += ["--cgroup-parent", PARENT] + ([] if has_capability(24) else LIMITS)


def engine(*words, code=0, input=None):
    """The engine's output; `code` is the exit status that it must have."""
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, input=input,
                          timeout=120 * PATIENCE)
    assert done.returncode == code, f"{words}: {done.returncode}: {done.stdout} {done.stderr}"
    return done.stdout.strip() if code == 0 else done.stdout.strip() + done.stderr.strip()


def once(script, *options, code=0, input=None):
    """A container from its start to its end: its output."""
    return engine("run", "--rm", *RUN, *options, "box", "sh", "-c", script, code=code, input=input)


class Container:
    """One that stays, until it is told to end."""

    STAYS = "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done"
    count = 0

    def __init__(self, *options, script=STAYS):
        Container.count += 1
        self.name = f"c{Container.count}"
        engine("run", "-d", "--name", self.name, *RUN, *options, "box", "sh", "-c", script)

    def exec(self, *words, **more):
        return engine("exec", *words, **more)

    def says(self, script):
        return engine("exec", self.name, "sh", "-c", script)

    def state(self, field):
        return engine("inspect", "-f", "{{.State." + field + "}}", self.name)

    def logs(self):
        return engine("logs", self.name)

    def is_up(self):
        until("its first word", lambda: "up" in self.logs())
        return self

    def remove(self):
        engine("rm", "-f", self.name)


def prepare():
    for path in ("/run", "/var/lib", "/dev/shm", DIR):
        shell(f"mount -t tmpfs tmpfs {path}")
    shell(f"mkdir {DIR}/sys && mount -t sysfs sysfs {DIR}/sys")
    os.mkdir(DIR + "/shared")
    with open(DIR + "/image.tar", "wb") as file:
        file.write(images.layer(ROOTFS))
    if not IS_PODMAN:
        write(DIR + "/daemon.json", "{}")
        log = open(DIR + "/log", "w")
        daemon = subprocess.Popen(DOCKERD, stdout=log, stderr=log)
        atexit.register(daemon.kill)
        is_up = lambda: subprocess.run([*DOCKER, "version"], capture_output=True).returncode == 0
        until("dockerd", is_up)
        return daemon


NODES = nodes()
daemon = prepare()

# ---- run -----------------------------------------------------------------------------------------


@operation("import: an image from a tar")
def _():
    engine("import", DIR + "/image.tar", "box")


@operation("info: the runtime under test")
def _():
    template = "{{.Host.OCIRuntime.Path}}" if IS_PODMAN else "{{.DefaultRuntime}}"
    equal(engine("info", "-f", template), RUNTIME if IS_PODMAN else "tested")


@operation("run: output, errors, exit status")
def _():
    equal(once("echo out"), "out")
    equal(once("echo err >&2; exit 9", code=9), "err")


@operation("run: a missing command is 127")
def _():
    holds(engine("run", "--rm", *RUN, "box", "nosuch", code=127), "nosuch")


@operation("run: what can't be run is 126")
def _():
    engine("run", "--rm", *RUN, "box", "/etc", code=126)


@operation("run: standard input")
def _():
    equal(once("cat", "-i", input="through a pipe\n"), "through a pipe")


@operation("run: a terminal")
def _():
    holds(once("tty; test -t 0 && test -t 1 && echo all; ls -l /dev/console", "-t"), "/dev/pts/0",
          "all", "/dev/console")


@operation("run: environment, working directory, hostname")
def _():
    equal(once("echo $OWN; pwd; hostname", "-e", "OWN=a b", "-w", "/tmp", "-h", "oak"),
          "a b\n/tmp\noak")


@operation("run: an entrypoint")
def _():
    equal(engine("run", "--rm", *RUN, "--entrypoint", "echo", "box", "a", "b"), "a b")


@operation("run: much output")
def _():
    equal(len(once("head -c 300000 /dev/zero | tr '\\0' x")), 300000)


@operation("run: users by number and name, and their groups")
def _():
    equal(once("id -u; id -g", "-u", "7:8"), "7\n8")
    equal(once("id -u; id -g; echo $HOME", "-u", "oak"), "1234\n2345\n/home/oak")
    holds(once("id -G", "-u", "7:8", "--group-add", "9").split(), "9")


@operation("run: a user writes to its standard output by name")
def _():
    equal(once("echo by name > /dev/stdout", "-u", "7"), "by name")
    holds(once("echo by name > /dev/stdout", "-t", "-u", "7"), "by name")
    it = Container("-u", "7", script="echo up > /dev/stdout").is_up()
    it.remove()


@operation("run: create, then start")
def _():
    engine("create", "--name", "made", *RUN, "box", "sh", "-c", "echo made; exit 4")
    equal(engine("inspect", "-f", "{{.State.Status}}", "made"), "created")
    holds(engine("start", "-a", "made", code=4), "made")
    holds(engine("start", "-a", "made", code=4), "made")
    engine("rm", "made")


@operation("run: eight at once")
def _():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(once, f"echo {n}") for n in range(8)]
        equal([it.result() for it in asked], [str(n) for n in range(8)])


# ---- a container that stays ----------------------------------------------------------------------

one = None


@operation("run -d: it runs, and logs")
def _():
    global one
    one = Container().is_up()
    equal((one.state("Status"), one.logs()), ("running", "up"))


@operation("ps: it is there")
def _():
    holds(engine("ps", "--format", "{{.Names}} {{.Status}}"), one.name + " Up")


@operation("top: its processes")
def _():
    holds(engine("top", one.name), "exit 7")


@operation("exec: output, exit status")
def _():
    equal(one.says("echo $((6*7))"), "42")
    one.exec(one.name, "sh", "-c", "exit 9", code=9)


@operation("exec: a missing command, and one that can't be run")
def _():
    # dockerd of this version says 126 to both.
    holds(one.exec(one.name, "nosuch", code=127 if IS_PODMAN else 126), "nosuch")
    one.exec(one.name, "/etc", code=126)


@operation("exec: user, environment, working directory")
def _():
    equal(one.exec("-u", "7:8", "-e", "A=b", "-w", "/tmp", one.name, "sh", "-c",
                   "id -u; id -g; echo $A; pwd"), "7\n8\nb\n/tmp")


@operation("exec: standard input")
def _():
    equal(one.exec("-i", one.name, "cat", input="into it\n"), "into it")


@operation("exec: a terminal")
def _():
    holds(one.exec("-t", one.name, "tty"), "/dev/pts/")


@operation("exec: privileged")
def _():
    held = one.exec("--privileged", one.name, "grep", "CapEff", "/proc/self/status").split()[1]
    assert int(held, 16) >> 12 & 1, held


@operation("exec -d: in the background")
def _():
    one.exec("-d", one.name, "sh", "-c", "sleep 0.2; echo x > /tmp/later")
    until("its file", lambda: one.says("cat /tmp/later 2>/dev/null || true") == "x")


@operation("cp: into it and out of it")
def _():
    write(DIR + "/note", "a note\n")
    engine("cp", DIR + "/note", one.name + ":/tmp/note")
    equal(one.says("cat /tmp/note"), "a note")
    engine("cp", one.name + ":/tmp/note", DIR + "/back")
    equal(read(DIR + "/back"), "a note\n")


@operation("pause and unpause")
def _():
    engine("pause", one.name)
    equal(one.state("Status"), "paused")
    engine("unpause", one.name)
    equal(one.says("echo awake"), "awake")


@operation("kill: a signal that it does not listen to")
def _():
    engine("kill", "-s", "WINCH", one.name)
    equal(one.state("Running"), "true")


@operation("restart: the same container, another process")
def _():
    before = one.state("Pid")
    engine("restart", "-t", "30", one.name)
    assert one.state("Pid") != before
    equal(one.says("echo again"), "again")
    until("its second word", lambda: one.logs() == "up\nup")


@operation("stop: its own exit status")
def _():
    engine("stop", "-t", "60", one.name)
    equal((one.state("Status"), one.state("ExitCode")), ("exited", "7"))


@operation("start: what was stopped")
def _():
    engine("start", one.name)
    equal(one.says("cat /tmp/note"), "a note")


@operation("kill: and wait")
def _():
    engine("kill", one.name)
    equal(engine("wait", one.name), "137")


@operation("exec: into what has ended is refused")
def _():
    code = 255 if IS_PODMAN else 1
    holds(one.exec(one.name, "true", code=code), "not running" if not IS_PODMAN else "running")


@operation("rm: what has ended")
def _():
    engine("rm", one.name)
    holds(engine("inspect", one.name, code=125 if IS_PODMAN else 1).lower(), "no such")


@operation("attach: input and output")
def _():
    script = "echo up; while read line; do echo got $line; [ $line = end ] && exit 3; done"
    it = Container("-i", script=script).is_up()
    attached = subprocess.Popen([*COMMAND, "attach", it.name], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
    attached.stdin.write("word\n")
    attached.stdin.flush()
    equal(attached.stdout.readline(), "got word\n")
    attached.stdin.write("end\n")
    attached.stdin.close()
    attached.wait(timeout=60)
    equal(engine("wait", it.name), "3")
    it.remove()


@operation("rm -f: fifteen that run, one after the other")
def _():
    for _ in range(15):
        Container().remove()


@operation("run --rm -d: it goes by itself")
def _():
    engine("run", "--rm", "-d", "--name", "short", *RUN, "box", "sleep", "0.3")
    until("its end", lambda: "short" not in engine("ps", "-a", "--format", "{{.Names}}"))


# ---- what it may ---------------------------------------------------------------------------------

SECCOMP = "grep '^Seccomp:' /proc/self/status"
CAPABILITIES = "grep -E 'Cap(Prm|Eff|Bnd)' /proc/self/status"


@operation("capabilities: dropped and added")
def _():
    equal(once(CAPABILITIES, "--cap-drop", "ALL").split()[1::2], ["0000000000000000"] * 3)
    held = once(CAPABILITIES, "--cap-drop", "ALL", "--cap-add", "NET_ADMIN").split()[1::2]
    equal(held, ["0000000000001000"] * 3)


@operation("no new privileges")
def _():
    script = "grep NoNewPrivs /proc/self/status"
    equal(once(script, "--security-opt", "no-new-privileges"), "NoNewPrivs:\t1")


@operation("seccomp: default, unconfined, a profile of one's own")
def _():
    equal(once(SECCOMP), "Seccomp:\t2")
    equal(once(SECCOMP, "--security-opt", "seccomp=unconfined"), "Seccomp:\t0")
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}
    write(DIR + "/profile.json", json.dumps(profile))
    option = ["--security-opt", f"seccomp={DIR}/profile.json"]
    holds(once("mkdir /tmp/x 2>&1 || true", *option), "No space left")


@operation("privileged")
def _():
    holds(once(SECCOMP + "; mount -t tmpfs none /mnt 2>/dev/null || mount -t tmpfs none /tmp; "
               "echo mounted", "--privileged"), "Seccomp:\t0", "mounted")


@operation("read-only root, and a tmpfs in it")
def _():
    script = "touch /x 2>&1 | grep -c Read-only; touch /tmp/x && grep -c ' /tmp tmpfs' /proc/mounts"
    equal(once(script, "--read-only", "--tmpfs", "/tmp:size=1m"), "1\n1")


@operation("masked and read-only paths")
def _():
    script = "cat /proc/keys /proc/timer_list 2>/dev/null; (echo h > /proc/sysrq-trigger) " \
             "2>/dev/null || echo held; touch /proc/sys/kernel/domainname 2>/dev/null || echo held"
    equal(once(script), "held\nheld")


@operation("volumes: to write to, to read only, one of the engine's own")
def _():
    once("echo inside > /mnt/note", "-v", DIR + "/shared:/mnt")
    equal(read(DIR + "/shared/note"), "inside\n")
    script = "cat /mnt/note; touch /mnt/x 2>&1 | grep -c Read-only"
    equal(once(script, "-v", DIR + "/shared:/mnt:ro"), "inside\n1")
    once("echo kept > /mnt/note", "-v", "own:/mnt")
    equal(once("cat /mnt/note", "-v", "own:/mnt"), "kept")
    engine("volume", "rm", "own")


@operation("devices: one of the host, by another name")
def _():
    equal(once("head -c 2 /dev/nought | od -An -tx1", "--device", "/dev/zero:/dev/nought"), "00 00")


@operation("devices: their letters")
def _():
    device = rare_device()
    script = "(: </dev/its) 2>/dev/null && echo may read; (: >/dev/its) 2>/dev/null && " \
             "echo may write; true"
    for letters, expected in {"r": "may read", "rw": "may read\nmay write"}.items():
        equal(once(script, "--device", f"{device}:/dev/its:{letters}"), expected)


@operation("devices: others can't be opened")
def _():
    number = os.stat(rare_device()).st_rdev
    script = f"mknod /tmp/its c {os.major(number)} {os.minor(number)}; (: </tmp/its) 2>/dev/null " \
             "&& echo open || echo held"
    equal(once(script), "held")


@operation("devices: a rule lets one be opened, to read")
def _():
    device = rare_device()
    number = os.stat(device).st_rdev
    inside = device.replace("/dev", "/hostdev")
    script = f"(: <{inside}) 2>/dev/null && echo open; (: >{inside}) 2>/dev/null || echo held"
    volume = "/dev:/hostdev:dev" if IS_PODMAN else "/dev:/hostdev"
    rule = f"c {os.major(number)}:{os.minor(number)} r"
    equal(once(script, "-v", volume, "--device-cgroup-rule", rule), "open\nheld")


@operation("sysctls, /dev/shm's size, ulimits")
def _():
    equal(once("cat /proc/sys/kernel/msgmax", "--sysctl", "kernel.msgmax=9000"), "9000")
    holds(once("df -k /dev/shm | tail -n 1", "--shm-size", "3m").split(), "3072")
    equal(once("ulimit -Sn; ulimit -Hn", "--ulimit", "nofile=66:77"), "66\n77")


@operation("OOM score")
def _():
    equal(once("cat /proc/self/oom_score_adj", "--oom-score-adj", "500"), "500")


# ---- namespaces ----------------------------------------------------------------------------------


@operation("namespaces: the host's")
def _():
    options = [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts")]
    for option, kind in options:
        equal(once(f"readlink /proc/self/ns/{kind}", option, "host"),
              os.readlink(f"/proc/self/ns/{kind}"))
    options = RUN[2:] + ["--network", "host"]
    equal(engine("run", "--rm", *options, "box", "readlink", "/proc/self/ns/net"),
          os.readlink("/proc/self/ns/net"))


@operation("namespaces: another container's")
def _():
    it = Container("--ipc", "shareable").is_up()
    kinds = [("--pid", "pid"), ("--ipc", "ipc"), ("--network", "net")]
    for option, kind in kinds:
        options = RUN if option != "--network" else RUN[2:]
        found = engine("run", "--rm", *options, option, "container:" + it.name, "box", "readlink",
                       f"/proc/self/ns/{kind}")
        equal(found, os.readlink(f"/proc/{it.state('Pid')}/ns/{kind}"))
    it.remove()


@operation("namespaces: cgroup, of its own and the host's")
def _():
    mine = os.readlink("/proc/self/ns/cgroup")
    assert once("readlink /proc/self/ns/cgroup", "--cgroupns", "private") != mine
    equal(once("readlink /proc/self/ns/cgroup", "--cgroupns", "host"), mine)


if IS_PODMAN:

    @operation("namespaces: ids of its own, and a volume below a closed directory")
    def _():
        shell(f"mkdir -p -m 700 {DIR}/closed && mkdir -m 777 {DIR}/closed/in")
        options = ["--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000", "-v",
                   DIR + "/closed/in:/mnt"]
        holds(once("id -u; cat /proc/self/uid_map; echo x > /mnt/x", *options).split(), "100000")
        equal(os.stat(DIR + "/closed/in/x").st_uid, 100000)

    @operation("namespaces: ids of another container")
    def _():
        it = Container("--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000").is_up()
        found = once("cat /proc/self/uid_map", "--userns", "container:" + it.name)
        equal(found.split(), ["0", "100000", "1000"])
        # podman may not be done with the other one, and then meets EBUSY: with runc just as often.
        remove = [*COMMAND, "rm", "-f", it.name]
        until("its removal", lambda: subprocess.run(remove, capture_output=True).returncode == 0)

else:

    @operation("run: a working directory that is made")
    def _():
        equal(once("pwd", "-w", "/made/for/it"), "/made/for/it")

    @operation("network: an address on dockerd's bridge")
    def _():
        script = "ip -o -4 addr show dev eth0 && ping -c 1 -W 5 10.88.8.1 >/dev/null && echo there"
        holds(engine("run", "--rm", "box", "sh", "-c", script), "10.88.8.", "there")

    @operation("healthy: by its own check")
    def _():
        it = Container("--health-cmd", "test -e /tmp", "--health-interval", "1s")
        until("its health", lambda: it.state("Health.Status") == "healthy")
        it.remove()


# ---- limits and statistics -----------------------------------------------------------------------


def limit_of(container, file, old):
    """What the kernel holds it to: by cgroup 2 or, where that has no such controller, by 1."""
    lines = read(f"/proc/{container.state('Pid')}/cgroup").splitlines()
    places = {line.split(":")[1]: line.split(":")[2] for line in lines}
    for name, place in places.items():
        places[name] = os.path.normpath("/" + place)  # it may be outside of this cgroup namespace
    path = CGROUP2 + places[""] + "/" + file
    if not os.path.exists(path):
        controller = old.split(".")[0]
        path = f"/sys/fs/cgroup/{controller}{places.get(controller, '')}/{old}"
    return read(path).strip()


def is_held(options, file, old, expected, controller):
    """The limit holds or, where nothing can hold it, is refused in words that say why."""
    try:
        it = Container(*options)
    except AssertionError as refused:
        assert controller not in CONTROLLERS, refused
        holds(str(refused), controller, "no", "controller")
        engine("rm", "-f", f"c{Container.count}")
    else:
        holds(expected, limit_of(it, file, old))
        it.remove()


@operation("limits: memory")
def _():
    is_held(["--memory", "32m"], "memory.max", "memory.limit_in_bytes", [str(32 << 20)], "memory")


@operation("limits: CPU time")
def _():
    is_held(["--cpu-quota", "50000", "--cpu-period", "100000"], "cpu.max", "cpu.cfs_quota_us",
            ["50000 100000", "50000"], "cpu")


@operation("limits: CPU shares")
def _():
    is_held(["--cpu-shares", "512"], "cpu.weight", "cpu.shares", ["20", "59", "512"], "cpu")


@operation("limits: processes")
def _():
    is_held(["--pids-limit", "55"], "pids.max", "pids.max", ["55"], "pids")


@operation("update: of a running container")
def _():
    it = Container()
    memory = ["--memory", "48m"] + ([] if IS_PODMAN else ["--memory-swap", "96m"])
    try:
        engine("update", *memory, it.name)
    except AssertionError as refused:
        assert "memory" not in CONTROLLERS, refused
        holds(str(refused), "memory", "controller")
    else:
        equal(limit_of(it, "memory.max", "memory.limit_in_bytes"), str(48 << 20))
    it.remove()


@operation("stats: what it uses")
def _():
    it = Container()
    template = "{{.Name}} {{.MemUsage}}" if IS_PODMAN else "{{.Name}} {{.MemUsage}} {{.PIDs}}"
    try:
        found = engine("stats", "--no-stream", "--format", template, it.name)
    except AssertionError as refused:
        # On a hybrid machine podman looks for them in cgroup 1, which not every runtime uses.
        assert not IS_PURE, refused
        holds(str(refused), "cgroup deleted")
        it.remove()
        return
    holds(found, it.name)
    if "memory" in CONTROLLERS:
        used = found.split()[1]
        assert used != "0B" and not used.endswith(("GB", "GiB")), found
    it.remove()


@operation("memory: too much of it is killed, and said so")
def _():
    script = "sleep 0.3; x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo no limit"
    try:
        it = Container("--memory", "16m", "--memory-swap", "16m", script=script)
    except AssertionError as refused:
        assert "memory" not in CONTROLLERS, refused
        holds(str(refused), "memory", "controller")
        engine("rm", "-f", f"c{Container.count}")
        return
    equal(engine("wait", it.name), "137")
    if IS_PURE:
        until("the reason", lambda: it.state("OOMKilled") == "true", 10)
    it.remove()


# ---- the end -------------------------------------------------------------------------------------


@operation("nothing has changed on the host's own devices")
def _():
    equal(nodes(), NODES)


@operation("nothing is left: containers, processes, cgroups")
def _():
    for name in engine("ps", "-a", "-q").split():
        engine("rm", "-f", name)
    shims = lambda: [path for path in glob.glob("/proc/[0-9]*/cmdline")
                     if DIR in read_if_any(path) and ("shim" in read_if_any(path) or
                                                      "conmon" in read_if_any(path))]
    until("their end", lambda: not shims(), 10)
    left = glob.glob(f"{CGROUP2}{PARENT}/*/")
    equal([path for path in left if not path.endswith("/conmon/")], [])  # that is podman's own


if daemon:
    daemon.terminate()
    daemon.wait(timeout=60)
    shell("ip link del docker0 2>/dev/null || true")
for left in glob.glob("/sys/fs/cgroup/*" + PARENT) + glob.glob("/sys/fs/cgroup" + PARENT):
    subprocess.run(["find", left, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
finish(ENGINE)
