"""copying.py ROUNDS MEGABYTES CONTESTANTS RESULT: how long the output of `cat FILE` takes to a terminal, to a
pipe and to a file. CONTESTANTS as in shuffled.py; FILE is `big`, which is made here, and the word TTY becomes
-it on a terminal. Each round in another order.

Whoever holds the terminal's other end, or the pipe's, reads as fast as it can, and throws away what it reads.
"""
import fcntl, json, os, random, shlex, sys, termios, time

rounds, megabytes = map(int, sys.argv[1:3])
contestants, result = sys.argv[3:5]
LINE = b"x" * 79 + b"\n"
LINES = megabytes * 10**6 // len(LINE)
commands = {}
for line in open(contestants):
    name, command = line.rstrip("\n").split("\t")
    commands[name] = shlex.split(command)
null = os.open("/dev/null", os.O_RDWR)
buffer = [bytearray(1 << 20)]


def start(words, files, is_terminal):
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            for number, file in enumerate(files):
                os.dup2(file, number)
            if is_terminal:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)
            os.execvp(words[0], words)
        finally:
            os._exit(127)
    return pid


def read_all(reader):
    total = 0
    try:
        while count := os.readv(reader, buffer):
            total += count
    except OSError:
        pass  # EIO: nobody has the terminal open any more
    return total


def took(name, to):
    words = [{"TTY": "-it"}.get(word, word) for word in commands[name] if word != "TTY" or to == "terminal"]
    reader = None
    if to == "terminal":
        reader, out = os.openpty()
        files = [out] * 3
    elif to == "pipe":
        reader, out = os.pipe()
        files = [null, out, 2]
    else:
        out = os.open("copy", os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC)
        files = [null, out, 2]
    for file in [reader, out]:
        if file is not None:
            os.set_inheritable(file, False)
    begin = time.perf_counter()
    pid = start(words, files, to == "terminal")
    os.close(out)
    total = read_all(reader) if reader is not None else 0
    _, status = os.waitpid(pid, 0)
    elapsed = time.perf_counter() - begin
    if reader is not None:
        os.close(reader)
    else:
        total = os.stat("copy").st_size
        os.unlink("copy")
    # A terminal makes CR LF of LF, and script always has one.
    least = LINES * (len(LINE) + (to == "terminal"))
    if status or not least <= total <= LINES * (len(LINE) + 1) + 100:
        sys.exit(f"{name} to a {to}: status {status}, {total} bytes: {shlex.join(words)}")
    return elapsed


with open("big", "wb") as big:
    for _ in range(LINES):
        big.write(LINE)
kinds = ["terminal", "pipe", "file"]
times = {name: {to: [] for to in kinds} for name in commands}
order = [(name, to) for name in commands for to in kinds]
for name, to in order:
    took(name, to)
for number in range(rounds):
    print(f"copying: round {number + 1} of {rounds}", file=sys.stderr)
    random.shuffle(order)
    for name, to in order:
        times[name][to].append(took(name, to))
os.unlink("big")
json.dump({"megabytes": megabytes, "rounds": rounds, "times": times}, open(result, "w"))
