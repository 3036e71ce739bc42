//! What --help shows, of all verbs or of one.

use super::options::{OPTIONS, Opt};
use super::{VERBS, Verb};

pub fn of(verb: &str) -> String {
    match VERBS.iter().find(|one| one.name == verb) {
        Some(verb) => of_one(verb),
        None => of_all(),
    }
}

fn of_all() -> String {
    let mut text = "Usage: husk-oci [OPTION]... VERB [OPTION]... [WORD]...\n\n".to_string();
    text += "An OCI runtime, as docker, podman and containerd call it. Verbs:\n\n";
    for Verb { name, about, .. } in &VERBS {
        text += &format!("  {name:9} {about}\n");
    }
    text += "\nOptions, which may also stand behind the verb:\n\n";
    text += &options("");
    text + "\nhusk-oci VERB --help shows the options of a verb.\n"
}

fn of_one(verb: &Verb) -> String {
    let Verb { name, words, about, .. } = verb;
    let mut text = format!("Usage: husk-oci {name} [OPTION]... {words}");
    text = format!("{}\n\n{about}\n", text.trim_end());
    let own = options(name);
    if !own.is_empty() {
        text += &format!("\nOptions:\n\n{own}");
    }
    text + "\nhusk-oci --help shows the options that all verbs have.\n"
}

fn options(verb: &str) -> String {
    let mut text = String::new();
    for option in OPTIONS.iter().filter(|option| option.is_of(verb)) {
        let Opt { name, letter, value, about, .. } = option;
        let short = if *letter == '-' { "    ".into() } else { format!("-{letter}, ") };
        let words = format!("--{name} {value}");
        text += &format!("  {short}{words:28} {about}\n");
    }
    text
}
