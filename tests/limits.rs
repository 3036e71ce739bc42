//! The budget: cgroup files as seen from outside, and what happens to a container that exceeds it.
//! Most of it needs controllers on cgroup2, which "hybrid" machines have not: the virtual one does.

mod common;
use common::*;
use std::fs;

/// The container's cgroup file, while it runs.
fn file(host: &Host, name: &str) -> String {
    let path = host.containers()[0].join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim_end().to_string()
}

fn end(host: &Host, running: Running) -> Run {
    let name = host.containers()[0].file_name().expect("a name").to_os_string();
    host.husk(&["stop", "-t", "0", name.to_str().expect("UTF-8")]).ok();
    running.wait()
}

#[test]
fn a_missing_controller_is_named() {
    let host = host!();
    let mut tried = 0;
    for (option, value, controller) in [
        ("-m", "64m", "memory"),
        ("--cpus", "0.5", "cpu"),
        ("--pids-limit", "20", "pids"),
        ("--cgroup", "io.weight=50", "io"),
    ] {
        if !host.has_controller(controller) {
            host.husk(&["run", option, value, rootfs(), "true"]).refused(125, &[controller]);
            tried += 1;
        }
    }
    if tried == 0 {
        skip!(host, "this kernel has every controller on cgroup2");
    }
    host.inside(&[], "echo without limits").ok();
}

#[test]
fn limits_become_files() {
    let host = host!();
    for controller in ["memory", "cpu", "pids"] {
        if !host.has_controller(controller) {
            skip!(host, "cgroup2 has no {controller} controller here");
        }
    }
    for (options, name, value) in [
        (&["-m", "64m"][..], "memory.max", "67108864"),
        (&["-m", "64M"], "memory.max", "67108864"),
        (&["--memory=1g"], "memory.max", "1073741824"),
        (&["--memory", "8192k"], "memory.max", "8388608"),
        (&["-m", "67108864"], "memory.max", "67108864"),
        (&["-m", "67108864b"], "memory.max", "67108864"),
        (&["--cpus", "0.2"], "cpu.max", "20000 100000"),
        (&["--cpus=1.5"], "cpu.max", "150000 100000"),
        (&["--cpus", "2"], "cpu.max", "200000 100000"),
        (&["--pids-limit", "20"], "pids.max", "20"),
        (&["--cgroup", "memory.high=32M"], "memory.high", "33554432"),
        (&["--cgroup=cpu.weight=50"], "cpu.weight", "50"),
        (&["-m", "64m", "--cgroup", "memory.max=32M"], "memory.max", "33554432"),
    ] {
        let running = host.stays(options, "true");
        assert_eq!(file(&host, name), value, "{name} with {options:?}");
        let swap = host.containers()[0].join("memory.swap.max");
        if name == "memory.max" && swap.exists() {
            assert_eq!(file(&host, "memory.swap.max"), "0", "swap with {options:?}");
        }
        end(&host, running);
    }
}

#[test]
fn memory() {
    let host = host!();
    if !host.has_controller("memory") {
        skip!(host, "cgroup2 has no memory controller here");
    }
    let grab =
        ["run", "-m", "64m", rootfs(), "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"];
    let run = host.husk(&grab);
    assert_eq!(run.code, 137, "{run}");
    let within =
        ["run", "-m", "64m", rootfs(), "dd", "if=/dev/zero", "of=/dev/null", "bs=16M", "count=1"];
    assert_eq!(host.husk(&within).code, 0);
    // A child of PID 1 is killed, and PID 1 can tell.
    let run = host
        .inside(&["-m", "64m"], "dd if=/dev/zero of=/dev/null bs=200M count=1; echo $?; exit 5");
    assert!(run.code == 137 || (run.code == 5 && run.out == "137\n"), "{run}");
    // Files of the container are memory too: a full root says so or is killed, and the host lives.
    let run = host.inside(&["-m", "64m"], "dd if=/dev/zero of=/big bs=1M count=500");
    assert!(run.code == 137 || run.err.contains("No space left on device"), "{run}");
    // Too little for husk's own first steps in there: it is killed before the word to go on, or after.
    let run = host.husk(&["run", "-m", "1", rootfs(), "true"]);
    assert!(run.code == 137 || (run.code == 125 && run.err.contains("too small")), "{run}");
    host.assert_clean();
}

#[test]
fn cpu() {
    let host = host!();
    if !host.has_controller("cpu") {
        skip!(host, "cgroup2 has no cpu controller here");
    }
    // The kernel's own accounts of the container, against its own clock.
    let busy = "while :; do :; done & true";
    let running = host.stays(&["--cpus", "0.2"], busy);
    let used = || {
        let stat = file(&host, "cpu.stat");
        let field = |name| stat.lines().find_map(|line| line.strip_prefix(name)).expect("cpu.stat");
        (field("usage_usec ").parse::<f64>().expect("a number"), field("nr_throttled ").to_string())
    };
    let (start, (before, _)) = (std::time::Instant::now(), used());
    std::thread::sleep(std::time::Duration::from_secs(6));
    let ((after, throttled), wall) = (used(), start.elapsed().as_micros() as f64);
    let share = (after - before) / wall;
    assert_ne!(throttled, "0", "never held back");
    assert!((0.15..=0.25).contains(&share), "{share} of a processor instead of 0.2");
    end(&host, running);
}

#[test]
fn pids() {
    let host = host!();
    if !host.has_controller("pids") {
        skip!(host, "cgroup2 has no pids controller here");
    }
    let count = "for i in $(seq 50); do sleep 1000 & done 2>/dev/null";
    let run = host.inside(&["--pids-limit", "20"], count);
    assert!(run.code != 0 || run.err.contains("fork"), "50 processes under a limit of 20: {run}");

    let bomb = "bomb() { bomb | bomb & }; bomb 2>/dev/null; trap '' TERM";
    let running = host.stays(&["--pids-limit", "40"], bomb);
    until("the bomb is at its limit", || {
        let denied = file(&host, "pids.events");
        denied != "max 0"
    });
    let now: u32 = file(&host, "pids.current").parse().expect("a number");
    assert!(now <= 40, "{now} processes");
    assert_eq!(end(&host, running).code, 137);
    host.assert_clean();
}
