//! husk-oci where no link can make it one, after `cargo install --features oci`: calls the husk
//! beside it by that name.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let husk = match env::current_exe() {
        Ok(path) => path.with_file_name("husk"),
        Err(error) => {
            eprintln!("husk-oci: /proc/self/exe: {error}");
            return ExitCode::FAILURE;
        }
    };
    let error = Command::new(&husk).arg0("husk-oci").args(env::args_os().skip(1)).exec();
    eprintln!("husk-oci: {}: {error} (it is to be beside husk)", husk.display());
    ExitCode::FAILURE
}
