"""shuffled.py ROUNDS CONTESTANTS RESULT: times commands against each other, and writes what each took.

CONTESTANTS has a line for each: a name, a tab, and its command as a shell reads it. All are started the
same way, and each round in another order: in a fixed one each would always follow the same neighbour,
and the kernel goes on taking a network namespace apart when its process has ended: PAUSE is how many
seconds it gets for that.
"""
import json, os, random, shlex, sys, time

rounds, contestants, result = int(sys.argv[1]), sys.argv[2], sys.argv[3]
commands = {}
for line in open(contestants):
    name, command = line.rstrip("\n").split("\t")
    commands[name] = shlex.split(command)
pause = float(os.environ.get("PAUSE", "0.003"))
null = os.open("/dev/null", os.O_RDWR)
actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in range(3)]


def took(name):
    start = time.perf_counter()
    words = commands[name]
    pid = os.posix_spawnp(words[0], words, os.environ, file_actions=actions)
    _, status, used = os.wait4(pid, 0)
    elapsed = time.perf_counter() - start
    if status:
        sys.exit(f"{name}: status {status}: {shlex.join(words)}")
    return elapsed, used.ru_utime + used.ru_stime


times = {name: {"elapsed": [], "cpu": []} for name in commands}
for name in commands:
    took(name)
order = list(commands)
for number in range(rounds):
    if number % 50 == 0:
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    random.shuffle(order)
    for name in order:
        elapsed, cpu = took(name)
        times[name]["elapsed"].append(elapsed)
        times[name]["cpu"].append(cpu)
        time.sleep(pause)
json.dump(times, open(result, "w"))
