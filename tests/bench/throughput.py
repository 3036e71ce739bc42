"""throughput.py STARTS AT_A_TIME ROUNDS CONTESTANTS RESULT: how many starts in a second, where so many run
at a time. Each round in another order, as in shuffled.py.
"""
import json, os, random, shlex, sys, time

starts, width, rounds = map(int, sys.argv[1:4])
contestants, result = sys.argv[4:6]
commands = {}
for line in open(contestants):
    name, command = line.rstrip("\n").split("\t")
    commands[name] = shlex.split(command)
null = os.open("/dev/null", os.O_RDWR)
actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in range(3)]


def in_a_second(name):
    begin = time.perf_counter()
    begun = running = 0
    while begun < starts or running:
        while begun < starts and running < width:
            # Some need a name of their own.
            words = [word.replace("NUMBER", str(begun)) for word in commands[name]]
            os.posix_spawnp(words[0], words, os.environ, file_actions=actions)
            begun, running = begun + 1, running + 1
        _, status = os.wait()
        running -= 1
        if status:
            sys.exit(f"{name}: status {status}")
    return starts / (time.perf_counter() - begin)


rates = {name: [] for name in commands}
order = list(commands)
for number in range(rounds):
    print(f"throughput: round {number + 1} of {rounds}", file=sys.stderr)
    random.shuffle(order)
    for name in order:
        rates[name].append(in_a_second(name))
        time.sleep(1)  # the kernel takes namespaces apart
json.dump(rates, open(result, "w"))
