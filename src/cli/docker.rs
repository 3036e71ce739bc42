//! docker's other options: what is a line or two is here. The rest is refused with what to do
//! instead.

use super::values;
use super::words::Line;
use crate::caller::is_rootless;
use crate::cli::{Asked, add_volume, process_option, variable};
use crate::devices;
use crate::mounts::{Source, Volume};
use crate::paths::c_string;
use crate::ports::Port;
use crate::step::{Error, Result, attempt, error};
use crate::{Container, sysctl};
use std::ffi::OsStr;
use std::fs;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;

pub fn run_option(c: &mut Container, asked: &mut Asked, line: &mut Line) -> Result<()> {
    match line.option.as_str() {
        "--init" => {
            line.flag()?;
            c.init = true;
        }
        "--tmpfs" => {
            let value = line.value("DIR[:OPTIONS]")?;
            let volume = values::tmpfs(&value).map_err(|expected| line.bad(&value, expected))?;
            add_volume(c, line, &value, volume)?;
        }
        "--shm-size" => {
            let size = line.read("SIZE (64m)", values::size)?;
            let source = Source::Tmpfs(format!("nosuid,nodev,noexec,mode=1777,size={size}"));
            let volume = Volume { source, target: "/dev/shm".into(), read_only: false };
            add_volume(c, line, OsStr::new(&size), volume)?;
        }
        "--sysctl" => {
            let expected = "NAME=VALUE, NAME one of net.*, fs.mqueue.*, kernel.{sem,msg*,shm*}";
            c.sysctls.push(line.read(expected, sysctl::parse)?);
        }
        "--group-add" => asked.groups.push(line.read("GROUP", account)?),
        "--entrypoint" => asked.entrypoint = Some(c_string(line.value("COMMAND")?)),
        "--stop-signal" => {
            c.stop_signal = line.read("SIGNAL (INT, SIGINT or 2)", values::signal)?
        }
        "--env-file" => env_file(asked, line)?,
        _ => network_option(c, line)?,
    }
    Ok(())
}

fn network_option(c: &mut Container, line: &mut Line) -> Result<()> {
    match line.option.as_str() {
        "-p" | "--publish" => publish(c, line)?,
        "--add-host" => c.hosts.push(line.read("NAME:IP", values::host)?),
        "--dns" => {
            let server = line.read("IP", |text| text.parse::<IpAddr>().ok())?;
            c.resolv_conf.push(format!("nameserver {server}"));
        }
        "--dns-search" => resolv_conf(c, line, "search")?,
        "--dns-option" | "--dns-opt" => resolv_conf(c, line, "options")?,
        _ => process_option(c, line)?,
    }
    Ok(())
}

fn publish(c: &mut Container, line: &mut Line) -> Result<()> {
    let expected = "[IP:]PORT:PORT[/udp], and no IP of 127.0.0.0/8 (see docs/recipes.md)";
    let port = line.read(expected, Port::parse)?;
    if c.ports.iter().any(|other| port.collides_with(other)) {
        return Err(error(format!("--publish {port}: expected it once, not twice")));
    }
    c.ports.push(port);
    Ok(())
}

fn account(text: &str) -> Option<String> {
    (!text.is_empty() && values::is_account(text)).then(|| text.into())
}

fn resolv_conf(c: &mut Container, line: &mut Line, word: &str) -> Result<()> {
    let is_word = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    let value = line.read("one word", |text| is_word(text).then(|| text.to_string()))?;
    c.resolv_conf.push(format!("{word} {value}"));
    Ok(())
}

/// Lines such as --env takes; comments begin with #.
fn env_file(asked: &mut Asked, line: &mut Line) -> Result<()> {
    let file = line.value("FILE")?;
    let shown = format!("{} {}", line.option, file.display());
    let text = attempt(&shown, fs::read(&file))?;
    for (number, pair) in text.split(|byte| *byte == b'\n').enumerate() {
        let pair = pair.trim_ascii_start();
        if pair.is_empty() || pair[0] == b'#' {
            continue;
        }
        let bad = |expected| error(format!("{shown}: line {}: expected {expected}", number + 1));
        asked.file_env.extend(variable(OsStr::from_bytes(pair)).map_err(bad)?);
    }
    Ok(())
}

/// What can only be said when all options are known.
pub fn check(c: &Container) -> Result<()> {
    if !c.ports.is_empty() && !c.bridge {
        return Err(error("--publish: expected --network bridge, and root"));
    }
    let of_network = c.sysctls.iter().find(|(file, _)| sysctl::is_network(file));
    if let Some((file, _)) = of_network.filter(|_| c.shares_network()) {
        return Err(error(format!("--sysctl {file}: expected a network of the container's own")));
    }
    Ok(())
}

// ---- what husk does not have --------------------------------------------------------------------

/// docker's options, and what to do instead.
const OPTIONS: &[(&str, &str)] = &[
    ("--annotation", "--name NAME is all that tells them apart"),
    ("--attach", "without -d husk is attached, with -d nobody ever is"),
    ("--blkio-weight", "--cgroup io.weight=NUMBER"),
    ("--cgroup-parent", "start husk in that cgroup, and in a cgroup namespace of its own"),
    ("--cgroupns", "a container always has its own view"),
    ("--cidfile", "ID=$(husk run -d ...), or --name NAME"),
    ("--cpu-period", "--cpus NUMBER"),
    ("--cpu-quota", "--cpus NUMBER"),
    ("--cpu-shares", "--cgroup cpu.weight=NUMBER (100 is usual)"),
    ("--detach-keys", "a container goes on without husk only if it was started with -d"),
    ("--device-cgroup-rule", "--device SRC[:DST][:rwm]"),
    ("--device-read-bps", "--cgroup io.max=..."),
    ("--device-read-iops", "--cgroup io.max=..."),
    ("--device-write-bps", "--cgroup io.max=..."),
    ("--device-write-iops", "--cgroup io.max=..."),
    ("--disable-content-trust", "ROOTFS is a directory, see rootfs-scripts/"),
    ("--domainname", "-h NAME, with the domain in it"),
    ("--expose", "the host and other containers reach every port"),
    ("--gpus", "--device /dev/nvidia0 or /dev/dri, and the driver's libraries by -v"),
    ("--health-cmd", "husk exec CONTAINER COMMAND, from a timer"),
    ("--ip", "the address is leased: husk ps shows it"),
    ("--ip6", "containers have IPv4 only"),
    ("--ipc", "a container always has its own; a volume shares files"),
    ("--isolation", "namespaces are all there is"),
    ("--kernel-memory", "--memory counts the kernel's, too"),
    ("--label", "--name NAME is all that tells them apart"),
    ("--label-file", "--name NAME is all that tells them apart"),
    ("--link", "containers reach each other by address, see husk ps"),
    ("--log-driver", "see docs/recipes.md for logs"),
    ("--log-opt", "see docs/recipes.md for logs"),
    ("--mac-address", "it is made of the address"),
    ("--memory-swap", "--cgroup memory.swap.max=SIZE (with --memory there is none)"),
    ("--memory-swappiness", "with --memory nothing is swapped out"),
    ("--mount", "-v SRC:DST[:ro], or --tmpfs DIR"),
    ("--net", "--network MODE"),
    ("--network-alias", "containers reach each other by address, see husk ps"),
    ("--no-healthcheck", "there are no health checks"),
    ("--oom-kill-disable", "--cgroup memory.high=SIZE slows down what --memory would end"),
    ("--oom-score-adj", "--memory SIZE ends what takes too much"),
    ("--pid", "a container always has its own processes: husk exec joins them"),
    ("--platform", "ROOTFS decides; foreign programs need binfmt_misc on the host"),
    ("--privileged", "--cap-add ALL gives all of root's rights, --device a device"),
    ("--publish-all", "-p PORT:PORT for each"),
    ("--pull", "ROOTFS is a directory, see rootfs-scripts/"),
    ("--quiet", "husk says nothing when all is well"),
    ("--restart", "systemd does that, see docs/recipes.md"),
    ("--runtime", "husk is one"),
    ("--security-opt", "no-new-privileges is always so, --cap-add opens system calls, too"),
    ("--sig-proxy", "signals are always passed on"),
    ("--stop-timeout", "husk stop -t SECONDS"),
    ("--userns", "run husk as an ordinary user: that is rootless"),
    ("--uts", "a container always has its own host name, see -h"),
    ("--volume-driver", "mount it on the host, then -v SRC:DST"),
    ("--volumes-from", "give the same -v again"),
    ("-P", "-p PORT:PORT for each"),
    ("-a", "without -d husk is attached, with -d nobody ever is"),
    ("-c", "--cgroup cpu.weight=NUMBER (100 is usual)"),
    ("-l", "--name NAME is all that tells them apart"),
];

/// docker's commands, likewise.
const VERBS: &[(&str, &str)] = &[
    ("attach", "husk exec CONTAINER sh"),
    ("build", "rootfs-scripts/ has ways to make a ROOTFS"),
    ("commit", "husk exec CONTAINER tar, see docs/recipes.md"),
    ("cp", "husk exec CONTAINER tar, see docs/recipes.md"),
    ("create", "husk run"),
    ("export", "husk exec CONTAINER tar, see docs/recipes.md"),
    ("images", "a ROOTFS is a directory, see rootfs-scripts/"),
    ("inspect", "husk ps, and the container's /proc/PID"),
    ("logs", "see docs/recipes.md for logs"),
    ("pause", "husk kill -s STOP CONTAINER, for its first process"),
    ("pull", "rootfs-scripts/ has ways to get a ROOTFS"),
    ("restart", "husk stop, then husk run"),
    ("rm", "nothing is left of a container that has ended"),
    ("start", "husk run: nothing is left of a container that has ended"),
    ("stats", "husk ps"),
    ("top", "husk exec CONTAINER ps"),
    ("unpause", "husk kill -s CONT CONTAINER"),
    ("volume", "a volume is a directory of the host's: -v SRC:DST"),
    ("wait", "husk run without -d waits, see docs/recipes.md"),
];

fn instead(table: &[(&str, &'static str)], wanted: &str) -> Option<&'static str> {
    let (_, text) = table.iter().find(|(name, _)| *name == wanted)?;
    Some(text)
}

pub fn refuse_option(line: &Line) -> Error {
    let option = &line.option;
    match instead(OPTIONS, option) {
        Some(text) => error(format!("{option} is not in husk: {text}")),
        None => error(format!("unknown option {option}: see husk --help")),
    }
}

pub fn refuse_verb(verb: &str) -> Error {
    match instead(VERBS, verb) {
        Some(text) => error(format!("{verb} is not in husk: {text}")),
        None => error("expected run, exec, ps, stop or kill: see husk --help"),
    }
}

/// --device: the node is shared as a volume is, and the cgroup's program limits what may be done.
pub fn device_option(c: &mut Container, line: &mut Line) -> Result<()> {
    let (source, target, access) = line.read("SRC[:DST][:rwm], absolute paths", values::device)?;
    if is_rootless() && access != devices::ALL {
        return Err(error("--device: letters other than rwm need root"));
    }
    for device in devices::find(&source, &target, access)? {
        let source = Source::Device(device.source.clone(), device.number);
        let target = device.target.clone();
        c.volumes.push(Volume { source, target, read_only: true });
        c.devices.push(device);
    }
    Ok(())
}
