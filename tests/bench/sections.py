"""sections.py ROUNDS ROOTFS RESULT: where the time of a start goes, in husk and in walk.c.

husk's --explain writes a line just before each step: into a socket that has the kernel note when each
line was sent, and by whom, while nobody reads. That costs a microsecond or two for each line.
"""
import json, os, re, socket, statistics, struct, sys, time

rounds, rootfs, result = int(sys.argv[1]), sys.argv[2], sys.argv[3]
SO_TIMESTAMPNS = 35
null = os.open("/dev/null", os.O_RDWR)


def spawn(command, out, err):
    start = time.time_ns()
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate([null, out, err])]
    status = os.waitpid(os.posix_spawn(command[0], command, os.environ, file_actions=actions), 0)[1]
    if status:
        sys.exit(f"{command}: status {status}")
    return start, time.time_ns()


def told(ours):
    """The lines, each with who wrote it, parent or child, and when."""
    lines, parent = [], None
    while True:
        try:
            text, notes, _, _ = ours.recvmsg(8192, 512)
        except BlockingIOError:
            return lines
        if not text:
            return lines
        notes = {kind: data for _, kind, data in notes}
        seconds, nanoseconds = struct.unpack("qq", notes[SO_TIMESTAMPNS])
        pid = struct.unpack("iii", notes[socket.SCM_CREDENTIALS])[0]
        parent = parent or pid
        lines.append(("p" if pid == parent else "c", text.decode().strip(), seconds * 10**9 + nanoseconds))


def husk():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    start, end = spawn(["./husk", "run", "--explain", "rootfs", "/bin/true"], null, theirs.fileno())
    theirs.close()
    ours.setblocking(False)
    begun, slow, last = {"start": start, "end": end}, {}, {}
    for who, text, at in told(ours):
        title = re.match(r"(\d)\. ", text)
        if title:
            begun.setdefault(title[1], at)
        if " ip link add " in text:
            begun["n"] = at
        if text.endswith("sendto (the child may go on)"):
            begun["g"] = at
        # A step lasts until the same process's next. Behind some of them it waits for the other.
        before = last.get(who)
        if before and not re.match(r"\d\. ", before[0]) and not (who == "p" and "g" in begun and at > begun["g"]):
            name = re.sub(r"\b[0-9a-f]{8}\b|husk\d+|fd/\d+|\b\d{3,}\b|10\.77\.\d+\.\d+", "N", before[0])
            slow[name] = slow.get(name, 0) + at - before[1]
        last[who] = (text, at)
    return begun, slow


def bare():
    reader, writer = os.pipe()
    start, end = spawn(["./walk", "-t", rootfs], writer, 2)
    os.close(writer)
    begun = {"start": start, "end": end}
    with os.fdopen(reader) as lines:
        for line in lines:
            _, section, at = line.split()
            begun[section] = int(at)
    return begun


def took(runs):
    pairs = [("start", "1"), ("1", "2"), ("2", "3"), ("n", "g"), ("3", "4"), ("4", "5"), ("5", "6"), ("6", "7"),
             ("7", "end"), ("start", "end")]
    return {a + b: statistics.median((run[b] - run[a]) / 1e3 for run in runs if a in run and b in run)
            for a, b in pairs}


ours, theirs, steps = [], [], {}
husk()
for number in range(rounds):
    begun, slow = husk()
    ours.append(begun)
    for name, lasted in slow.items():
        steps.setdefault(name, []).append(lasted / 1e3)
    theirs.append(bare())
    time.sleep(0.003)
steps = {name: statistics.median(lasted) for name, lasted in steps.items() if len(lasted) > rounds / 2}
json.dump({"husk": took(ours), "bare": took(theirs), "steps": steps}, open(result, "w"))
