//! `husk ps`: the list of living containers, and what the kernel knows of each.

use crate::cgroups::{self, first_process};
use crate::containers::{self, living};
use crate::ports;
use crate::step::{Result, cat, plain, print};
use std::path::Path;

/// A line of `husk ps`: when the container was started; its name, what has a fixed width, its ports
/// and its command.
type Row = (u64, [String; 4]);

/// `husk ps`: the youngest first.
pub fn ps(names_only: bool) -> Result<u8> {
    cgroups::check_proc()?;
    let titles =
        ["CONTAINER", "PID      ADDRESS        MEMORY     CPU      AGE ", "PORTS", "COMMAND"];
    let mut rows: Vec<Row> = living()?.iter().filter_map(|dir| row(dir)).collect();
    if names_only {
        rows.sort();
        let names: Vec<String> = rows.iter().rev().map(|row| format!("{}\n", row.1[0])).collect();
        print(&names.concat())?;
        return Ok(0);
    }
    rows.push((u64::MAX, titles.map(String::from)));
    rows.sort();
    let width =
        |column: usize| rows.iter().map(|row| row.1[column].len()).max().unwrap_or_default();
    let (wide, ports_wide) = (width(0), width(2));
    let mut text = String::new();
    for (_, [name, rest, ports, command]) in rows.iter().rev() {
        text.push_str(&format!("{name:wide$}  {rest}  {ports:ports_wide$}  {command}\n"));
    }
    print(&text)?;
    Ok(0)
}

fn row(dir: &Path) -> Option<Row> {
    let pid = first_process(dir)?.pid;
    let start = start_time(pid)?;
    let uptime = cat("/proc/uptime").ok()?;
    let uptime: u64 = uptime.split('.').next()?.parse().ok()?;
    let age = age(uptime.saturating_sub(start / 100));
    let memory = memory(dir);
    let cpu = cpu_time(dir);
    let ip = address(pid).unwrap_or("-".into());
    let command = cat(format!("/proc/{pid}/cmdline")).ok()?.replace('\0', " ");
    let command: String = command.chars().take(40).collect();
    let command = plain(&command);
    let ports = match ports::show(&containers::published(dir)) {
        text if text.is_empty() => "-".into(),
        text => text,
    };
    let rest = format!("{pid:<7}  {ip:13}  {memory:9}  {cpu:7}  {age:4}");
    let name = dir.file_name()?.to_string_lossy().into();
    Some((start, [name, rest, ports, command.trim_end().into()]))
}

/// proc_pid_stat(5): field 22 is the start, in ticks since boot. Field 2, in parentheses, is a name
/// and may hold anything.
fn start_time(pid: i32) -> Option<u64> {
    let stat = cat(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split(' ').nth(20)?.parse().ok()
}

/// In the largest unit of which there are at least two.
fn age(seconds: u64) -> String {
    for (unit, letter) in [(86400, 'd'), (3600, 'h'), (60, 'm')] {
        if seconds >= 2 * unit {
            return format!("{}{letter}", seconds / unit);
        }
    }
    format!("{seconds}s")
}

fn memory(dir: &Path) -> String {
    let bytes = cat(dir.join("memory.current")).unwrap_or_default();
    match bytes.trim().parse::<f64>() {
        Ok(bytes) => format!("{:.1}M", bytes / 1048576.0),
        Err(_) => "-".into(), // no memory controller
    }
}

/// In seconds. Each cgroup has this file, whatever controllers there are.
fn cpu_time(dir: &Path) -> String {
    let stat = cat(dir.join("cpu.stat")).unwrap_or_default();
    let line = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
    match line.and_then(|text| text.parse::<f64>().ok()) {
        Some(microseconds) => format!("{:.2}s", microseconds / 1e6),
        None => "-".into(),
    }
}

/// Each of the namespace's own addresses stands before "/32 host LOCAL".
fn address(pid: i32) -> Option<String> {
    let routes = cat(format!("/proc/{pid}/net/fib_trie")).ok()?;
    for text in routes.split("/32 host LOCAL") {
        let ip = text.split_whitespace().last().unwrap_or_default();
        if ip.starts_with("10.77.") && ip != "10.77.0.1" {
            return Some(ip.into());
        }
    }
    None
}
