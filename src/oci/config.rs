//! config.json: reading it, and what is refused.

use super::{fail, is_nothing, log, mount_options};
use crate::step::{Result, attempt, error};
use oci_spec::runtime::{Capability, Spec};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Not supported: a container without it would be weaker, or other, than its author thinks.
const REFUSED: [&str; 2] = ["/vm", "/linux/intelRdt"];

/// The bundle's config.json, as it is and by its types.
pub fn read_config(bundle: &Path) -> Result<(Value, Spec)> {
    let path = bundle.join("config.json");
    let (config, spec) = read_json::<Spec>(&path.to_string_lossy())?;
    let is_set = |field: &str| config.pointer(field).is_some_and(|value| !is_nothing(value));
    for field in REFUSED {
        if is_set(field) {
            return fail(format!("config.json: {field}: not supported"));
        }
    }
    if let Some(how) = config["linux"]["rootfsPropagation"].as_str()
        && !how.is_empty()
        && mount_options::propagation(how).is_none()
    {
        return fail(format!(
            "linux.rootfsPropagation: {how}: expected private, slave, shared or unbindable"
        ));
    }
    if spec.process().is_none() || spec.root().is_none() || !spec.version().starts_with("1.") {
        return fail("config.json: expected ociVersion 1.x, process and root");
    }
    Ok((config, spec))
}

/// The file as it is, and by the types of runtime-spec, which find what is malformed.
pub fn read_json<T: DeserializeOwned>(path: &str) -> Result<(Value, T)> {
    let text = attempt(path, fs::read(path))?;
    let json = serde_json::from_slice(&text);
    let mut json: Value = json.map_err(|why| error(format!("{path}: {why}")))?;
    forget_new_capabilities(path, &mut json);
    let flags = take_scheduler_flags(&mut json);
    let mut track = serde_path_to_error::Track::new();
    let fields = serde_path_to_error::Deserializer::new(&json, &mut track);
    let unknown =
        |field: serde_ignored::Path| log::warn(format!("{path}: {field}: unknown, ignored"));
    let typed = match serde_ignored::deserialize(fields, unknown) {
        Ok(typed) => typed,
        Err(why) => return fail(format!("{path}: {}: {why}", track.path())),
    };
    if let Some((place, flags)) = flags
        && let Some(there) = json.pointer_mut(place)
    {
        *there = flags;
    }
    Ok((json, typed))
}

/// The types have other names for them, so `scheduler_flags` looks here.
fn take_scheduler_flags(json: &mut Value) -> Option<(&'static str, Value)> {
    for place in ["/process/scheduler/flags", "/scheduler/flags"] {
        if let Some(flags) = json.pointer_mut(place) {
            return Some((place, flags.take()));
        }
    }
    None
}

pub fn scheduler_flags(process: &Value) -> Vec<String> {
    let Some(flags) = process["scheduler"]["flags"].as_array() else { return vec![] };
    flags.iter().filter_map(Value::as_str).map(str::to_string).collect()
}

/// A capability may be a newer kernel's: runtime-spec has it warned of, not refused.
fn forget_new_capabilities(path: &str, json: &mut Value) {
    let is_known = |name: &Value| {
        let is_known = Capability::deserialize(name).is_ok();
        if !is_known {
            log::warn(format!("{path}: {name}: unknown, ignored"));
        }
        is_known
    };
    for place in ["/capabilities", "/process/capabilities"] {
        let Some(Value::Object(sets)) = json.pointer_mut(place) else { continue };
        for set in sets.values_mut() {
            if let Value::Array(names) = set {
                names.retain(is_known);
            }
        }
    }
}
