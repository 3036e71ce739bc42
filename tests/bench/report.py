"""report.py VERSIONS LOAD: the tables of what bench.sh has measured, in Markdown."""
import datetime, json, os, platform, statistics, sys, textwrap

NONE = " --network none"
C = "the same calls in C"
BWRAP, UNSHARE = "bwrap --unshare-all", "unshare -mpnuiCf --mount-proc"
versions, load = sys.argv[1:3]


def read(name):
    return json.load(open(name)) if os.path.exists(name) else {}


def lines_of(name):
    return open(name).read().splitlines() if os.path.exists(name) else []


def say(text):
    print("\n" + textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False))


def table(*titles):
    print("\n| " + " | ".join(titles) + " |")
    print("| --- |" + " ---: |" * (len(titles) - 1))


starts, execs, rates = read("starts.json"), read("execs.json"), read("throughput.json")
scale, sections, copying = read("scale.json"), read("sections.json"), read("copying.json")


def median(of, name):
    return statistics.median(of[name]["elapsed"])


def least(of, name):
    return min(of[name]["elapsed"])


def machine():
    info = open("/proc/cpuinfo").read()
    models = [line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")]
    memory = int(open("/proc/meminfo").readline().split()[1]) / 2**20
    virtual = " virtual" if "hypervisor" in info else ""
    say(f"{datetime.date.today()}, a{virtual} machine with {os.cpu_count()} cores of {(models or [platform.machine()])[0]}, "
        f"{memory:.0f} GiB, Linux {platform.release()}, load at the start {load}; {versions}.")


def start_times():
    table("`/bin/true` in the same root file system", "median", "min", "× husk", "CPU time", "peak memory", "sets up")
    husk = median(starts, "husk")
    facts = dict(line.split("\t", 1) for line in lines_of("facts"))
    for name in starts:
        memory, _, what = facts.get(name, "\t").partition("\t")
        print(f"| {name} | {median(starts, name) * 1e3:.2f} ms | {least(starts, name) * 1e3:.2f} ms "
              f"| {median(starts, name) / husk:.2f} | {statistics.median(starts[name]['cpu']) * 1e3:.2f} ms "
              f"| {memory} | {what} |")
    table("`/bin/true` in a container that runs", "median", "min", "× husk", "CPU time")
    for name in execs:
        print(f"| {name} | {median(execs, name) * 1e3:.2f} ms | {least(execs, name) * 1e3:.2f} ms "
              f"| {median(execs, name) / median(execs, 'husk exec'):.2f} "
              f"| {statistics.median(execs[name]['cpu']) * 1e3:.2f} ms |")
    table("400 starts, 4 at a time", "in a second", "× husk")
    for name in rates:
        rate = statistics.median(rates[name])
        print(f"| {name} | {rate:.0f} | {rate / statistics.median(rates['husk']):.2f} |")


def copies():
    titles = [title for to in ["terminal", "pipe", "file"] for title in [f"to a {to}", "× cat"]]
    table(f"`cat` of {copying['megabytes']} MB, medians of {copying['rounds']}", *titles)
    middle = {name: {to: statistics.median(took) for to, took in times.items()}
              for name, times in copying["times"].items()}
    for name, times in middle.items():
        cells = [f"{took * 1e3:.0f} ms | {took / middle['cat'][to]:.2f}" for to, took in times.items()]
        print(f"| {name} | {' | '.join(cells)} |")


def many():
    points = [str(point) for point in scale["points"]]
    table("`husk run` of the ... container alive, 50 ms after another has ended", "median", "× the 1st",
          "with `--network none`", "× the 1st")
    middle = {kind: {point: statistics.median(run[kind][point] for run in scale["runs"]) for point in points}
              for kind in ["bridge", "none"]}
    for point in points:
        cells = [f"{middle[kind][point] * 1e3:.2f} ms | {middle[kind][point] / middle[kind]['1']:.2f}"
                 for kind in ["bridge", "none"]]
        print(f"| {int(point):,}. | {' | '.join(cells)} |")
    last = points[-1]
    each = ", ".join(f"{run['bridge'][last] / run['bridge']['1']:.2f}" for run in scale["runs"])
    say(f"The {last}th start, × the 1st, in each of {len(scale['runs'])} runs: {each}.")
    table("a living container", "husk processes", "RssAnon of each", "Rss of each")
    anonymous, resident = scale["waiting"]
    print(f"| in the foreground | 1 | {anonymous:.0f} KiB | {resident:.0f} KiB |")
    print(f"| detached | {scale['left']:.0f} | - | - |")
    say(f"The kernel and `sleep` itself take {scale['kernel']:.0f} KiB per container (change of MemAvailable).")


def where_time_goes():
    rows = [("start1", "its own start, the command line"), ("12", "1. cgroup"),
            ("23", "2. clone, until the child is in its namespaces"), ("34", "3. hostname"),
            ("45", "4. root file system"),
            ("ng", "5. network, the parent's part (while 4 goes on)"), ("56", "5. network, waiting for the parent, the child's part"),
            ("67", "6. lock-down"), ("7end", "7. exec, /bin/true, its end, 8. clean-up"), ("startend", "all")]
    table("where the time goes, medians", "husk", "bare system calls")
    for key, title in rows:
        print(f"| {title} | {sections['husk'][key]:.0f} µs | {sections['bare'][key]:.0f} µs |")
    say("The longest steps of husk, by the lines of `--explain` (a step lasts until the same process's next):")
    table("step", "median")
    longest = sorted(((lasted, name) for name, lasted in sections["steps"].items()), reverse=True)
    for lasted, name in longest[:10]:
        print(f"| `{name.replace('|', '/')[:100]}` | {lasted:.0f} µs |")


def rate(name):
    return statistics.median(rates[name])


def bars():
    """What husk is to reach: a sentence, the ratio or value, the bar, and whether more is better."""
    def in_500(_=None):
        last = str(scale["points"][-1])
        return max(run["bridge"][last] / run["bridge"]["1"] for run in scale["runs"])

    compared = [
        ("start with the bridge, × the base", lambda: median(starts, "husk") / median(starts, "base"), 0.95),
        ("start with `--network none`, × the base",
         lambda: median(starts, "husk" + NONE) / median(starts, "base" + NONE), 0.98),
        (f"start with the bridge, × `{BWRAP}`", lambda: median(starts, "husk") / median(starts, BWRAP), 0.88),
        (f"start with `--network none`, × `{UNSHARE}`",
         lambda: median(starts, "husk" + NONE) / median(starts, UNSHARE), 1.15),
        ("start with the bridge, × `crun run`, minimums", lambda: least(starts, "husk") / least(starts, "crun"), 0.50),
        ("start with the bridge, × the same calls in C", lambda: median(starts, "husk") / median(starts, C), 1.10),
        ("start with `--network none`, × the same calls in C",
         lambda: median(starts, "husk" + NONE) / median(starts, C + NONE), 1.10),
        ("`husk exec`, × `crun exec`", lambda: median(execs, "husk exec") / median(execs, "crun exec"), 0.65),
        ("`husk-oci run`, × `crun run`, minimums", lambda: least(starts, "husk-oci") / least(starts, "crun"), 0.50),
        ("`husk-oci exec`, × `crun exec`", lambda: median(execs, "husk-oci exec") / median(execs, "crun exec"), 0.60),
        ("starts in a second with the bridge, × bwrap's", lambda: rate("husk") / rate(BWRAP), -0.82),
        ("starts in a second with `--network none`, × bwrap's", lambda: rate("husk" + NONE) / rate(BWRAP), -1.05),
        ("the last start alive, × the 1st, worst run", in_500, 1.40),
        ("RssAnon of a waiting husk, KiB", lambda: scale["waiting"][0], 300),
        ("Rss of a waiting husk, MiB", lambda: scale["waiting"][1] / 1024, 1.40),
    ]
    table("bar", "is", "shall be", "")
    for what, ask, bar in compared:
        try:
            value = ask()
        except KeyError as missing:
            print(f"| {what} | not measured: no {missing.args[0]} | {'≥' if bar < 0 else '≤'} {abs(bar):g} | |")
            continue
        is_met = value >= -bar if bar < 0 else value <= bar
        print(f"| {what} | {value:.2f} | {'≥' if bar < 0 else '≤'} {abs(bar):g} | {'met' if is_met else '**missed**'} |")


machine()
bars()
for reason in lines_of("left-out"):
    say("Left out: " + reason)
start_times()
copies()
many()
where_time_goes()
