//! `events`: what a container uses, from the files of its cgroup, in the form of runc's events.

use super::fail;
use super::options::Given;
use super::state::Home;
use crate::step::{Result, cat, error, print};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::thread;
use std::time::Duration;

pub fn events(home: Home, given: &Given) -> Result<u8> {
    if home.status() == "stopped" {
        return fail("container not running");
    }
    let seconds = given.get("interval").unwrap_or("5").trim_end_matches('s').parse::<u64>();
    let seconds = seconds.map_err(|why| error(format!("--interval: {why}")))?;
    let dir = home.cgroup()?;
    loop {
        let data = statistics(&dir);
        let event = json!({"type": "stats", "id": home.text("id"), "data": data});
        print(&format!("{event}\n"))?;
        if given.is("stats") {
            return Ok(0);
        }
        thread::sleep(Duration::from_secs(seconds.max(1)));
        if home.status() == "stopped" {
            return Ok(0);
        }
    }
}

/// What this kernel does not count is 0.
fn statistics(dir: &Path) -> Value {
    let cpu = pairs(dir, "cpu.stat");
    let memory = pairs(dir, "memory.stat");
    let number = |name: &str| number(dir, name);
    let of = |map: &Map<String, Value>, key: &str| map.get(key).cloned().unwrap_or(json!(0));
    let nanoseconds = |key: &str| json!(of(&cpu, key).as_u64().unwrap_or(0) * 1000);
    let usage = json!({
        "usage": number("memory.current"),
        "limit": number("memory.max"),
        "max": number("memory.peak"),
        "failcnt": of(&pairs(dir, "memory.events"), "max"),
    });
    let swap = json!({"usage": number("memory.swap.current"), "limit": number("memory.swap.max")});
    json!({
        "cpu": {
            "usage": {
                "total": nanoseconds("usage_usec"),
                "kernel": nanoseconds("system_usec"),
                "user": nanoseconds("user_usec"),
            },
            "throttling": {
                "periods": of(&cpu, "nr_periods"),
                "throttledPeriods": of(&cpu, "nr_throttled"),
                "throttledTime": nanoseconds("throttled_usec"),
            },
        },
        "memory": {
            "cache": of(&memory, "file"),
            "usage": usage,
            "swap": swap,
            "raw": memory,
        },
        "pids": {"current": number("pids.current"), "limit": number("pids.max")},
        "blkio": {"ioServiceBytesRecursive": io(dir)},
    })
}

/// A file of one number. No limit is the largest one.
fn number(dir: &Path, name: &str) -> Value {
    let text = cat(dir.join(name)).unwrap_or_default();
    match text.trim() {
        "max" => json!(u64::MAX),
        text => json!(text.parse::<u64>().unwrap_or(0)),
    }
}

/// A file of lines with a name and a number.
fn pairs(dir: &Path, name: &str) -> Map<String, Value> {
    let mut map = Map::new();
    for line in cat(dir.join(name)).unwrap_or_default().lines() {
        if let Some((key, value)) = line.split_once(' ') {
            map.insert(key.into(), json!(value.parse::<u64>().unwrap_or(0)));
        }
    }
    map
}

/// io.stat: a device, and what was read from it and written to it.
fn io(dir: &Path) -> Vec<Value> {
    let mut all = vec![];
    for line in cat(dir.join("io.stat")).unwrap_or_default().lines() {
        let mut words = line.split(' ');
        let device = words.next().unwrap_or_default();
        let (major, minor) = device.split_once(':').unwrap_or_default();
        for word in words {
            let operation = match word.split_once('=') {
                Some(("rbytes", value)) => ("Read", value),
                Some(("wbytes", value)) => ("Write", value),
                _ => continue,
            };
            all.push(json!({
                "major": major.parse::<u64>().unwrap_or(0),
                "minor": minor.parse::<u64>().unwrap_or(0),
                "op": operation.0,
                "value": operation.1.parse::<u64>().unwrap_or(0),
            }));
        }
    }
    all
}
