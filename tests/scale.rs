//! Hundreds of containers at once. Times are printed, and decide nothing.

mod common;
use common::*;
use std::collections::HashSet;
use std::fs;
use std::time::{Duration, Instant};

/// A detached container that writes to a file of this name, on a volume. (For a --log a husk would
/// stay beside each.)
fn detach(host: &Host, name: &str, logs: &TempDir, script: &str) -> Run {
    let script = format!("exec >/logs/{name} 2>&1; {script}");
    let husk = format!("exec $HUSK run -d -v {}:/logs --name {name} $R sh -c \"$0\"", logs.path());
    run(host.sh_command(&husk).arg(script))
}

/// The mean of these.
fn mean(times: &[Duration]) -> Duration {
    times.iter().sum::<Duration>() / times.len() as u32
}

#[test]
fn hundreds_at_once() {
    const PORTS: usize = 1023; // what a bridge takes
    let count = if in_vm() { 100 } else { 500 }; // an emulated machine is slow and small
    let host = host!();
    let logs = TempDir::new();
    let log = |i: usize| format!("{}/c{i}", logs.path());
    let mut times = vec![];
    for i in 0..count {
        let start = Instant::now();
        let run =
            detach(&host, &format!("c{i}"), &logs, "cat /etc/hosts; exec ping -i 2 10.77.0.1");
        times.push(start.elapsed());
        assert!(run.code == 0, "the {i}th: {run}{}", fs::read_to_string(log(i)).expect("its log"));
    }
    let (first, last) = (mean(&times[1..21]), mean(&times[count - 20..]));
    let ratio = last.as_secs_f64() / first.as_secs_f64();
    println!("a start takes {first:?} at first and {last:?} in the end, {ratio:.2} times as long");

    // Every one gets an answer from the gateway while all are alive.
    until("an answer for each", || {
        let answered =
            |i: &usize| fs::read_to_string(log(*i)).is_ok_and(|text| text.contains("seq="));
        (0..count).filter(answered).count() == count
    });
    assert_eq!(host.inits().len(), count);
    assert_eq!(host.processes().len(), count, "a detached container costs no husk");

    let start = Instant::now();
    let table = host.husk(&["ps"]).ok();
    println!("husk ps lists {count} in {:?}", start.elapsed());
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let (names, addresses): (HashSet<_>, HashSet<_>) = rows.map(|row| (row[0], row[2])).unzip();
    assert_eq!((names.len(), addresses.len()), (count, count), "some are missing, or clash");
    for i in 0..count {
        let own = fs::read_to_string(log(i)).expect("its log");
        let own = own.lines().find(|line| line.starts_with("10.77.")).expect("its address");
        let own = own.split_whitespace().next().expect("its address");
        assert!(names.contains(format!("c{i}").as_str()) && addresses.contains(own), "c{i}");
    }

    // The rest of the bridge's ports are taken by others, all but two.
    let others: String = (count..PORTS - 2)
        .map(|i| format!("link add test{i} master husk0 type veth peer test-{i}\n"))
        .collect();
    let batch = logs.join("batch");
    fs::write(&batch, others).expect("write");
    run(host.command("ip").arg("-batch").arg(&batch)).ok();
    for i in [1022, 1023] {
        let run = detach(&host, &format!("c{i}"), &logs, "sleep 1000");
        assert!(run.code == 0, "the {i}th: {run}");
    }
    host.inside(&[], "true").refused(125, &["husk0", "full"]);
    host.husk(&["run", "-d", rootfs(), "true"]).refused(125, &["husk0", "full"]);
    assert_eq!(host.containers().len(), count + 2);
    assert_eq!(host.inside(&["--network=none"], "echo fine").ok(), "fine");

    let start = Instant::now();
    let names: Vec<_> = (0..count).chain([1022, 1023]).map(|i| format!("c{i}")).collect();
    let names = names.iter().map(String::as_str);
    host.husk(&["stop", "-t", "0"].into_iter().chain(names).collect::<Vec<_>>()).ok();
    println!("husk stop ends them in {:?}", start.elapsed());
    assert!(host.containers().is_empty() && host.processes().is_empty());
    until("their links to go", || host.links() == ["husk0"]);
    assert_eq!(host.inside(&[], "echo fine").ok(), "fine", "with room on the bridge again");
}
