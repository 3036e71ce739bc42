//! `list` and `ps`: as tables or as JSON.

use super::cgroup::all_pids;
use super::options::Given;
use super::state::{self, Home};
use super::{fail, show};
use crate::step::{Result, attempt, print};
use nix::unistd::{Uid, User};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

fn is_json(given: &Given) -> bool {
    given.get("format") == Some("json")
}

pub fn list(_: Home, given: &Given) -> Result<u8> {
    let homes = state::all(false);
    if given.is("quiet") {
        let lines: Vec<String> =
            homes.iter().map(|home| format!("{}\n", home.text("id"))).collect();
        print(&lines.concat())?;
        return Ok(0);
    }
    if is_json(given) {
        let mut reports = vec![];
        for home in &homes {
            let mut report = home.report(home.status());
            report["owner"] = owner(home).into();
            reports.push(report);
        }
        return show(&Value::Array(reports));
    }
    let titles = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_string);
    let mut rows = vec![titles];
    for home in &homes {
        let status = home.status();
        let pid = home.report(status)["pid"].to_string();
        let (id, bundle, created) = (home.text("id"), home.text("bundle"), home.text("created"));
        rows.push([id, &pid, status, bundle, created, &owner(home)].map(str::to_string));
    }
    print(&table(&rows))?;
    Ok(0)
}

fn owner(home: &Home) -> String {
    let uid = fs::metadata(&home.path).map_or(0, |meta| meta.uid());
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => format!("#{uid}"),
    }
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, word) in row.iter().enumerate() {
            line += &format!("{word:width$}  ", width = width(column));
        }
        text += line.trim_end();
        text += "\n";
    }
    text
}

/// The lines of ps(1) that are about the container's processes.
pub fn ps(home: Home, given: &Given) -> Result<u8> {
    let pids = all_pids(&home.cgroup()?);
    if is_json(given) {
        return show(&json!(pids));
    }
    let mut words: Vec<&str> = given.words[2..].iter().map(String::as_str).collect();
    if words.is_empty() {
        words.push("-ef");
    }
    let output = attempt("ps", Command::new("ps").args(&words).output())?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return fail(format!("ps {}: {}", words.join(" "), why.trim()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let titles = lines.next().unwrap_or_default();
    let Some(column) = titles.split_whitespace().position(|title| title == "PID") else {
        return fail("ps: expected a column PID");
    };
    let mut kept = format!("{titles}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            kept += &format!("{line}\n");
        }
    }
    print(&kept)?;
    Ok(0)
}
