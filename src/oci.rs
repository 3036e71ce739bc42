//! The appendix: husk as docker, podman and Kubernetes start it. What they add to a container is a
//! JSON file (config.json, in a "bundle" beside the root file system) and verbs that start and end
//! it step by step: the runtime-spec of the Open Container Initiative. Built with the feature `oci`
//! and called as husk-oci, the program does exactly what that file says, by the walk's functions.

use super::{Cgroup, *};
use capctl::{CapSet, CapState, ambient, bounding};
use lexopt::{Arg, ValueExt};
use nix::pty;
use oci_spec::runtime::*;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{collections::BTreeSet, io::Seek, os::unix::net::UnixListener};
use std::{path, process::Stdio, slice, str::FromStr, sync::OnceLock, time::SystemTime};

const NONE: Option<&str> = None;
const PATIENCE: Duration = Duration::from_secs(10);

// ---- the command line ---------------------------------------------------------------------------

/// For all verbs, with "=" if they take a value. `-x` is short for the first that begins with an x.
const OPTIONS: &str = "bundle= process= pid-file= console-socket= preserve-fds= detach env= tty \
    cwd= force all quiet resources= root= rootless log= log-format= format= systemd-cgroup debug \
    no-pivot no-new-keyring help version";

type Verb = fn(&mut Home, &Given) -> Result<u8>;

/// Each verb with its words, and what stands behind it.
const VERBS: [(&str, Verb); 14] = [
    ("spec", spec),
    ("create ID", create),
    ("run ID", create),
    ("start CONTAINER", |home, _| start(home)),
    ("state CONTAINER", |home, _| show(&home.report(home.status()))),
    ("kill CONTAINER [SIGNAL]", kill),
    ("delete CONTAINER", delete),
    ("exec CONTAINER COMMAND...", exec),
    ("ps CONTAINER", |home, _| show(&json!(all_pids(&home.cgroup()?)))),
    ("list", list),
    ("pause CONTAINER", |home, _| freeze(home, "running", "1")),
    ("resume CONTAINER", |home, _| freeze(home, "paused", "0")),
    ("update CONTAINER", update),
    ("features", |_, _| print(FEATURES)),
];

const FEATURES: &str = r#"{"ociVersionMin": "1.0.0", "ociVersionMax": "1.2.0", "linux": {
    "namespaces": ["user", "mount", "pid", "uts", "ipc", "network", "cgroup"],
    "cgroup": {"v2": true}, "seccomp": {"enabled": true}, "apparmor": {"enabled": true},
    "selinux": {"enabled": true}}, "hooks": ["prestart", "createRuntime", "createContainer",
    "startContainer", "poststart", "poststop"]}
"#;

/// Options as they were given, and the words between and behind them.
#[derive(Default)]
struct Given {
    options: Vec<(&'static str, String)>,
    words: Vec<String>,
}

impl Given {
    fn take(mut line: lexopt::Parser) -> Result<Given, lexopt::Error> {
        let mut given = Given::default();
        while let Some(arg) = line.next()? {
            let known = OPTIONS.split(' ').find(|known| match arg {
                Arg::Long(name) => known.trim_end_matches('=') == name,
                Arg::Short(letter) => known.starts_with(letter),
                Arg::Value(_) => false,
            });
            if let Some(known) = known {
                let name = known.trim_end_matches('=');
                let value = if known == name { "".into() } else { line.value()?.string()? };
                given.options.push((name, value));
                continue;
            }
            let Arg::Value(word) = arg else { return Err(arg.unexpected()) };
            given.words.push(word.string()?);
            if given.words.len() == 2 && given.words[0] == "exec" {
                for word in line.raw_args()? {
                    given.words.push(word.string()?); // options too are the command's
                }
            }
        }
        Ok(given)
    }

    fn all(&self, option: &str) -> impl DoubleEndedIterator<Item = &str> {
        self.options.iter().filter(move |(name, _)| *name == option).map(|(_, value)| &**value)
    }

    fn get(&self, option: &str) -> Option<&str> {
        self.all(option).next_back()
    }

    fn is(&self, option: &str) -> bool {
        self.get(option).is_some()
    }

    fn in_foreground(&self) -> bool {
        self.words[0] != "create" && !self.is("detach")
    }
}

fn require(is_good: bool, why: impl Display) -> Result<()> {
    if is_good { Ok(()) } else { Err(error(why)) }
}

/// Where state is kept, and the log.
static ROOT: OnceLock<PathBuf> = OnceLock::new();
static LOG: OnceLock<File> = OnceLock::new();

/// In runc's JSON form, which conmon and containerd's shim read.
fn log(level: &str, why: impl Display) {
    let line = json!({"level": level, "msg": why.to_string(), "time": now()});
    let _ = LOG.get().map(|mut file| file.write_all(format!("{line}\n").as_bytes()));
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

fn show(json: &Value) -> Result<u8> {
    print(&format!("{json:#}\n"))
}

pub fn main() -> ExitCode {
    ExitCode::from(command().unwrap_or_else(|Error(_, why)| {
        log("error", &why);
        let line = format!("husk-oci: {}\n", why.replace(char::is_control, "?"));
        let _ = io::stderr().write_all(line.as_bytes());
        1
    }))
}

fn command() -> Result<u8> {
    let given = Given::take(lexopt::Parser::from_env()).map_err(error)?;
    let own = || env::var("XDG_RUNTIME_DIR").unwrap_or(format!("/tmp/husk-{}", unistd::geteuid()));
    let default = || if *ROOTLESS { own() + "/husk" } else { "/run/husk".into() };
    let _ = ROOT.set(given.get("root").map_or_else(default, str::to_string).into());
    if let Some(path) = given.get("log") {
        let file = attempt("--log", File::options().append(true).create(true).open(path))?;
        let _ = LOG.set(file);
    }
    if given.is("version") {
        return print(concat!("husk-oci version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.2.0\n"));
    } else if given.is("help") {
        let verbs = VERBS.map(|(usage, _)| format!("husk-oci {usage}\n")).concat();
        return print(&format!("{verbs}options: {OPTIONS}\n"));
    }
    // See `is_alone`: this would be the host's own file.
    require(unistd::getpid().as_raw() != 1, "can't be a container's first process")?;
    let verb = given.words.first().map_or("", |verb| verb);
    let known = VERBS.iter().find(|(usage, _)| usage.split(' ').next() == Some(verb));
    let unknown = || error(format!("{verb:?}: unknown verb: see husk-oci --help"));
    let (usage, act) = known.ok_or_else(unknown)?;
    let (count, most) = (given.words.len(), usage.split(' ').count());
    let is_good = count >= most.min(2) && (count <= most || usage.ends_with("..."));
    require(is_good, format!("expected {usage}"))?;
    let Some(id) = given.words.get(1) else { return act(&mut Home::default(), &given) };
    let mut home = Home::open(id, matches!(verb, "start" | "delete"))?;
    let is_good = !home.state.is_null() || !usage.contains("CONTAINER") || given.is("force");
    require(is_good, format!("container does not exist: {id}"))?;
    act(&mut home, &given)
}

// ---- what is known of a container ---------------------------------------------------------------

/// All that is known of a container. What lasts is config.json and what the kernel does not know
/// better: a file below --root, which is empty until the container is complete. The rest is for the
/// process that `create` or `exec` starts.
#[derive(Default)]
struct Home {
    path: PathBuf,
    state: Value,
    lock: Option<File>,
    spec: Spec,
    linux: Linux,
    process: Process,
    console: Option<UnixStream>, // where the other end of its terminal goes
    new: c_int,                  // namespaces to make
    joined: c_int,               // namespaces to join, and what to join them by
    doors: Vec<(c_int, OwnedFd)>,
    lent: Option<OwnedFd>,       // our pidfd, if we make its network
    start: Option<UnixListener>, // whence `start` comes, after `create`
    closed: c_uint,              // the first file descriptor that the command does not get
}

impl Home {
    /// Only one command at a time creates, starts or deletes a container.
    fn open(id: &str, is_locked: bool) -> Result<Home> {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        let is_good = !id.is_empty() && id.chars().all(is_legal) && !matches!(id, "." | "..");
        let root = ROOT.get().filter(|_| is_good);
        let path = root.ok_or_else(|| error(format!("invalid container ID {id:?}")))?.join(id);
        let lock = File::open(&path).ok().filter(|_| is_locked);
        lock.as_ref().map_or(Ok(()), |lock| attempt("flock", lock.lock()))?;
        let state = fs::read(&path).unwrap_or_default();
        let state = serde_json::from_slice(&state).unwrap_or_default();
        Ok(Home { path, state, lock, ..Home::default() })
    }

    fn make(&mut self) -> Result<()> {
        require(!self.path.exists(), "container with given ID already exists")?;
        let root = self.path.parent().unwrap_or(&self.path);
        attempt(root.display(), fs::DirBuilder::new().recursive(true).mode(0o700).create(root))?;
        let make = || File::options().write(true).create_new(true).mode(0o600).open(&self.path);
        let file = step!(make(), "touch {}", self.path.display())?;
        attempt("flock", file.lock())?;
        self.lock = Some(file);
        Ok(())
    }

    /// Now there is a container, which others may enter when it is unlocked.
    fn publish(&self) -> Result<()> {
        let Some(mut file) = self.lock.as_ref() else { return Ok(()) };
        let written = file.write_all(self.state.to_string().as_bytes());
        step!(written, "write {}", self.path.display())?;
        let inode = |meta: io::Result<fs::Metadata>| meta.map_or(0, |meta| meta.ino());
        let is_there = inode(file.metadata()) == inode(fs::metadata(&self.path));
        require(is_there, "the container has been deleted meanwhile")
    }

    fn unlock(&self) -> Result<()> {
        self.lock.as_ref().map_or(Ok(()), |lock| attempt("flock", lock.unlock()))
    }

    /// The socket that is there from `create` to `start`, whose name is no container's: by a
    /// directory that stays open, for its path may be too long for a socket.
    fn start_path(&self) -> PathBuf {
        static DIR: LazyLock<Option<File>> = LazyLock::new(|| File::open(ROOT.get()?).ok());
        let dir = DIR.as_ref().map_or("/nonexistent".into(), by_number);
        let inode = fs::metadata(&self.path).map_or(0, |meta| meta.ino());
        dir.join(format!("start:{inode}"))
    }

    /// Checks what is to run, and how.
    fn prepare(&mut self, spec: Spec, process: Process, given: &Given) -> Result<()> {
        let is_good = !list_of(process.args()).is_empty() && process.cwd().is_absolute();
        require(is_good, "process: expected args, and an absolute path as cwd")?;
        // In the foreground it has the caller's own.
        let is_wanted = process.terminal() == Some(true);
        let path = given.get("console-socket").filter(|_| is_wanted);
        let is_good = path.is_some() || !is_wanted || given.in_foreground();
        require(is_good, "process.terminal: expected --console-socket, for nobody attends it")?;
        let connect = |path| step!(UnixStream::connect(path), "connect {path}");
        self.console = path.map(connect).transpose()?;
        let preserved = given.get("preserve-fds").unwrap_or("0").parse::<u16>();
        self.closed = 3 + c_uint::from(preserved.map_err(error)?);
        self.linux = spec.linux().clone().unwrap_or_default();
        (self.spec, self.process) = (spec, process);
        Ok(())
    }

    fn has_hooks(&self) -> bool {
        !is_nothing(&self.state["config"]["hooks"])
    }

    /// Is the namespace another than the caller's?
    fn has(&self, flag: c_int) -> bool {
        (self.new | self.joined) & flag != 0
    }

    fn join(&self, mask: c_int) -> Result<()> {
        for (flags, door) in self.doors.iter().filter(|(flags, _)| flags & mask != 0) {
            let flags = CloneFlags::from_bits_retain(flags & mask);
            step!(setns(door, flags), "nsenter {flags:?}")?;
        }
        Ok(())
    }

    fn text(&self, key: &str) -> &str {
        self.state[key].as_str().unwrap_or_default()
    }

    fn cgroup(&self) -> Result<PathBuf> {
        let dir = self.state["cgroup"].as_str().map(PathBuf::from);
        dir.ok_or_else(|| error("the container has no cgroup"))
    }

    /// The container's first process, if that is still the one that `create` has started.
    fn first(&self) -> Option<(Pid, OwnedFd)> {
        let pid = self.state["pid"].as_i64()? as i32;
        let pidfd = pidfd_open(pid).ok()?;
        let is_same = start_time(pid)? == self.text("startTime");
        is_same.then_some((Pid::from_raw(pid), pidfd))
    }

    fn status(&self) -> &'static str {
        let events = || self.cgroup().and_then(|dir| read(dir.join("cgroup.events")));
        match self.first() {
            None => "stopped",
            Some(_) if self.start_path().exists() => "created",
            Some(_) if events().is_ok_and(|events| events.contains("frozen 1")) => "paused",
            Some(_) => "running",
        }
    }

    /// What `state` prints and hooks are given. A child that runs hooks does not know its number.
    fn report(&self, status: &str) -> Value {
        let mut state = self.state.clone();
        let pid = if status == "stopped" { Some(0) } else { state["pid"].as_i64() };
        state["pid"] = pid.unwrap_or(unistd::getpid().as_raw().into()).into();
        state["status"] = status.into();
        state.as_object_mut().map(|state| state.remove("config"));
        state
    }
}

fn all_pids(dir: &Path) -> Vec<i32> {
    cgroups_below(dir).iter().flat_map(|child| all_pids(child)).chain(pids(dir)).collect()
}

/// Field 22 of proc_pid_stat(5); none for a zombie, which is as good as gone.
fn start_time(pid: i32) -> Option<String> {
    let stat = read(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(") ")?.1;
    (!fields.starts_with(['Z', 'X'])).then(|| fields.split(' ').nth(19).map(str::to_string))?
}

// ---- config.json --------------------------------------------------------------------------------

/// Not supported: a container without it would be weaker, or other, than its author thinks.
const REFUSED: &str = "/vm /linux/intelRdt /linux/timeOffsets /linux/seccomp/listenerPath";

/// Not supported, and only missed.
const IGNORED: &str = "/process/ioPriority /process/scheduler /process/execCPUAffinity \
    /linux/mountLabel /linux/personality /linux/memoryPolicy /linux/netDevices \
    /linux/resources/network /linux/resources/rdma /linux/resources/memory/kernel \
    /linux/resources/memory/kernelTCP /linux/resources/memory/swappiness \
    /linux/resources/memory/disableOOMKiller /linux/resources/cpu/realtimeRuntime \
    /linux/resources/cpu/realtimePeriod";

/// Absent, or what means the same.
fn is_nothing(value: &Value) -> bool {
    ["null", "false", "0", "-1", "\"\"", "[]", "{}"].contains(&&*value.to_string())
}

/// The file as it is, and by the types of runtime-spec, which find what is malformed.
fn read_json<T: DeserializeOwned>(path: &str) -> Result<(Value, T)> {
    let text = attempt(path, fs::read(path))?;
    let json = serde_json::from_slice(&text);
    let mut json: Value = json.map_err(|why| error(format!("{path}: {why}")))?;
    let warn = |what: &dyn Display| log("warning", format!("{path}: {what}: unknown, ignored"));
    // A capability may be a newer kernel's: runtime-spec has it warned of, not refused.
    let is_known = |name: &Value| Capability::deserialize(name).inspect_err(|_| warn(name)).is_ok();
    for place in ["/capabilities", "/process/capabilities"] {
        let sets = json.pointer_mut(place).and_then(Value::as_object_mut).into_iter().flatten();
        sets.filter_map(|(_, set)| set.as_array_mut()).for_each(|set| set.retain(is_known));
    }
    let mut track = serde_path_to_error::Track::new();
    let typed = serde_path_to_error::Deserializer::new(&json, &mut track);
    let typed = serde_ignored::deserialize(typed, |field| warn(&field));
    let typed = typed.map_err(|why| error(format!("{path}: {}: {why}", track.path())))?;
    Ok((json, typed))
}

fn list_of<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

// ---- cgroup -------------------------------------------------------------------------------------

/// systemd's form of a path is SLICE:PREFIX:NAME, and a slice "a-b.slice" is in "a.slice".
fn make_cgroup(home: &Home, limits: &[(String, String)]) -> Result<Option<Cgroup>> {
    let default = || format!("husk-oci/{}", home.text("id")).into();
    let path = home.linux.cgroups_path().clone().unwrap_or_else(default);
    let relative = match path.to_string_lossy().split(':').collect::<Vec<_>>()[..] {
        [slice, prefix, name] => {
            let parts: Vec<&str> = slice.trim_end_matches(".slice").split('-').collect();
            let slices = (1..=parts.len()).map(|n| format!("{}.slice", parts[..n].join("-")));
            slices.collect::<PathBuf>().join(format!("{prefix}-{name}.scope"))
        }
        _ => path.iter().filter(|part| *part != "/" && *part != "..").collect(),
    };
    let husk = match husk_cgroup() {
        Err(_) if *ROOTLESS && !limits.iter().any(is_limit) => return Ok(None),
        husk => husk?,
    };
    let dir = husk.with_file_name(relative);
    step!(fs::create_dir_all(&dir), "mkdir -p {}", dir.display())?;
    let events = read(dir.join("cgroup.events"))?;
    let is_free = !events.contains("populated 1") && !events.contains("frozen 1");
    require(is_free, format!("container's cgroup is not empty, or frozen: {}", dir.display()))?;
    set_limits(&dir, limits).inspect_err(|_| remove_cgroup(&dir))?;
    open_cgroup(dir).map(Some)
}

/// Nothing of the walk's sweeps these cgroups, so the lock is of no use here.
fn open_cgroup(dir: PathBuf) -> Result<Cgroup> {
    let open = || attempt(dir.display(), File::open(&dir));
    Ok(Cgroup { fd: open()?, lock: open()?, dir })
}

/// What podman and containerd ask for where their user did not ask for anything is none.
fn is_limit((file, value): &(String, String)) -> bool {
    let defaults = [("pids.max", "2048"), ("cpu.weight", "39")];
    !value.starts_with("max") && !defaults.contains(&(file, value))
}

/// The walk's own hands controllers down in one place only, and its limits are all asked for.
fn set_limits(dir: &Path, limits: &[(String, String)]) -> Result<()> {
    for limit @ (file, value) in limits {
        let path = dir.join(file);
        let controller = format!("+{}", file.split('.').next().unwrap_or_default());
        let above: Vec<&Path> = dir.ancestors().skip(1).collect();
        for above in above.iter().rev().filter(|_| !path.exists()) {
            let _ = echo(&controller, above.join("cgroup.subtree_control"));
        }
        if path.exists() || is_limit(limit) {
            echo(value, path).map_err(|Error(_, why)| error(format!("linux.resources: {why}")))?;
        }
    }
    Ok(())
}

/// Where in `resources`, and what that is on cgroup 2: a file, and what to write to it.
const KNOBS: &str = "\
memory/limit memory.max=NUMBER  memory/reservation memory.low=NUMBER
memory/swap memory.swap.max=NUMBER  pids/limit pids.max=NUMBER
cpu/quota cpu.max=NUMBER  cpu/burst cpu.max.burst=NUMBER  cpu/shares cpu.weight=NUMBER
cpu/idle cpu.idle=NUMBER  cpu/cpus cpuset.cpus=NUMBER  cpu/mems cpuset.mems=NUMBER
hugepageLimits/limit hugetlb.SIZE.max=NUMBER
blockIO/weight io.weight=NUMBER  blockIO/weightDevice/weight io.weight=DEVICE NUMBER
blockIO/throttleReadBpsDevice/rate io.max=DEVICE rbps=NUMBER
blockIO/throttleWriteBpsDevice/rate io.max=DEVICE wbps=NUMBER
blockIO/throttleReadIOPSDevice/rate io.max=DEVICE riops=NUMBER
blockIO/throttleWriteIOPSDevice/rate io.max=DEVICE wiops=NUMBER";

fn limits(resources: &Value) -> Result<Vec<(String, String)>> {
    let mut found = vec![];
    for knob in KNOBS.lines().flat_map(|line| line.split("  ")) {
        let (field, knob) = knob.split_once(' ').unwrap_or_default();
        let (place, key) = field.rsplit_once('/').unwrap_or_default();
        let there = resources.pointer(&format!("/{place}")).into_iter();
        for item in there.flat_map(|it| it.as_array().map_or(slice::from_ref(it), Vec::as_slice)) {
            let device = format!("{}:{}", item["major"], item["minor"]);
            let size = item["pageSize"].as_str().unwrap_or_default();
            let knob = knob.replace("DEVICE", &device).replace("SIZE", size);
            let value = translated(key, item);
            found.extend(value.and_then(|value| limit("cgroup", &knob.replace("NUMBER", &value))));
        }
    }
    for (file, value) in resources["unified"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let invalid = || error(format!("linux.resources.unified.{file}: not allowed"));
        found.push(limit("cgroup", &format!("{file}={value}")).ok_or_else(invalid)?);
    }
    Ok(found)
}

/// From the numbers of cgroup 1, in which runtime-spec counts, to those of cgroup 2.
fn translated(key: &str, item: &Value) -> Option<String> {
    let number = |key: &str| item[key].as_i64().unwrap_or(0);
    Some(match (key, number(key)) {
        ("cpus" | "mems", _) => item[key].as_str().filter(|list| !list.is_empty())?.into(),
        (_, 0) if item["pageSize"].is_null() => return None,
        (_, i64::MIN..0) => "max".into(),
        ("quota", quota) if number("period") > 0 => format!("{quota} {}", number("period")),
        // There it is memory and swap together, here swap alone.
        ("swap", both) => (both - number("limit").max(0)).max(0).to_string(),
        ("shares", shares) => (1 + (shares.max(2) - 2) * 9999 / 262_142).to_string(),
        ("weight", weight) => (1 + (weight.max(10) - 10) * 9999 / 990).to_string(),
        (_, number) => number.to_string(),
    })
}

// ---- create, start, run -------------------------------------------------------------------------

/// Only children enter these, when the caller has.
const FOR_CHILDREN: c_int = CLONE_NEWUSER | CLONE_NEWPID;

fn namespaces(home: &mut Home) -> Result<()> {
    for namespace in list_of(home.linux.namespaces()) {
        let (typ, flag) = (namespace.typ(), namespace.typ() as c_int);
        let path = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty());
        let is_good = path.is_none() || flag & (CLONE_NEWNS | CLONE_NEWUSER) == 0;
        let is_good = is_good && typ != LinuxNamespaceType::Time && !home.has(flag);
        require(is_good, format!("linux.namespaces: {typ}: twice, or not supported"))?;
        if let Some(path) = path {
            home.joined |= flag;
            home.doors.push((flag, attempt(path.display(), File::open(path))?.into()));
        } else {
            home.new |= flag;
        }
    }
    // A network takes longest: we make it beside the child's mounts, as the walk does, unless there
    // are hooks, which must find us in our own.
    let is_lent = home.new & (CLONE_NEWNET | CLONE_NEWUSER) == CLONE_NEWNET && !home.has_hooks();
    // To enter where a process is that is not dumpable takes this, see `launch`.
    let caps = CapState::get_current().map(|caps| caps.effective).unwrap_or_default();
    if is_lent && !*ROOTLESS && caps.has(capctl::Cap::SYS_PTRACE) {
        home.lent = Some(attempt("pidfd_open", pidfd_open(unistd::getpid().as_raw()))?);
    }
    require(home.new & CLONE_NEWNS != 0, "linux.namespaces: expected mount")
}

fn create(home: &mut Home, given: &Given) -> Result<u8> {
    let is_run = given.words[0] == "run";
    let bundle = given.get("bundle").unwrap_or(".");
    let bundle = attempt(bundle, path::absolute(bundle))?;
    let (config, spec) = read_json::<Spec>(&bundle.join("config.json").to_string_lossy())?;
    let is_set = |field: &&str| config.pointer(field).is_some_and(|value| !is_nothing(value));
    let refused = REFUSED.split(' ').find(is_set);
    require(refused.is_none(), format!("config.json: {refused:?}: not supported"))?;
    for field in IGNORED.split(' ').filter(is_set) {
        log("warning", format!("config.json: {field}: not supported, ignored"));
    }
    let is_good = spec.process().is_some() && spec.root().is_some();
    let is_good = is_good && spec.version().starts_with("1.");
    require(is_good, "config.json: expected ociVersion 1.x, process and root")?;
    let rootfs = bundle.join(config["root"]["path"].as_str().unwrap_or_default());
    if !is_run || !is_alone(&config) {
        shield()?;
    }
    home.make()?;
    home.state = json!({
        "ociVersion": "1.2.0", "id": given.words[1], "bundle": bundle, "rootfs": rootfs,
        "created": now(), "annotations": spec.annotations().clone().unwrap_or_default(),
    });
    home.state["config"] = config;
    let outcome = create_in(home, spec, given).and_then(|child| {
        if is_run {
            return attend(home, &child, given);
        }
        wait_for_word(&child.socket)?;
        home.publish()?;
        home.unlock().map(|()| 0)
    });
    if outcome.is_err() || given.in_foreground() {
        remove(home);
    }
    outcome
}

/// Tells a child of our own to go on, which nobody else may enter before it is its command. In the
/// foreground the terminal is the child's from then on until it ends.
fn attend(home: &Home, child: &Child, given: &Given) -> Result<u8> {
    let is_waited = given.in_foreground();
    let terminal = if is_waited { hand_over_terminal(child.pid) } else { None };
    let go = || {
        if home.new != 0 {
            home.publish()?; // whoever kills us later, it can be found
        }
        let _ = tell(&child.socket, &[0], "go on");
        hear(&child.socket)?;
        require(!is_husk_itself(child.pid), "process.args: is husk itself")?;
        home.unlock()?;
        if home.new != 0 {
            run_hooks(home, "poststart", "running")?;
        }
        if is_waited { wait(child.pid, &terminal) } else { Ok(0) }
    };
    let status = go();
    terminal.iter().for_each(take_back_terminal);
    if status.is_err() {
        let _ = signal::kill(child.pid, Signal::SIGKILL);
    }
    status
}

/// The parent's half of the creation, hand in hand with `become_container`.
fn create_in(home: &mut Home, spec: Spec, given: &Given) -> Result<Child> {
    let process = spec.process().clone().unwrap_or_default();
    home.prepare(spec, process, given)?;
    namespaces(home)?;
    let limits = limits(&home.state["config"]["linux"]["resources"])?;
    let cgroup = make_cgroup(home, &limits)?;
    home.state["cgroup"] = json!(cgroup.as_ref().map(|cgroup| &cgroup.dir));
    if given.words[0] == "create" {
        home.start = Some(step!(UnixListener::bind(home.start_path()), "listen for start")?);
    }
    let child = launch(home, cgroup.as_ref(), given)?;
    let pid = child.pid.as_raw();
    if home.lent.is_some() {
        step!(unshare(CloneFlags::CLONE_NEWNET), "unshare --net")?;
        let _ = tell(&child.socket, &[0], "join it");
        set_up(&netlink_socket()?, "lo")?;
    }
    home.state["pid"] = pid.into();
    home.state["startTime"] = start_time(pid).into();
    if home.new & CLONE_NEWUSER != 0 {
        if !unistd::geteuid().is_root() {
            echo("deny", format!("/proc/{pid}/setgroups"))?;
        }
        let linux = &home.linux;
        for (name, maps) in [("uid", linux.uid_mappings()), ("gid", linux.gid_mappings())] {
            let maps = list_of(maps).iter();
            let all = maps.map(|m| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size()));
            echo(&all.collect::<String>(), format!("/proc/{pid}/{name}_map"))?;
        }
        let _ = tell(&child.socket, &[0], "go on");
    }
    if home.has_hooks() {
        wait_for_word(&child.socket)?;
        run_hooks(home, "prestart", "creating")?; // deprecated, but docker still uses it
        run_hooks(home, "createRuntime", "creating")?;
        let _ = tell(&child.socket, &[0], "go on");
    }
    Ok(child)
}

/// Is there nobody in the container who could open husk by /proc/1/exe to change it later? Then
/// `run` need only see that its command is not husk. Else husk shields itself, see chapter 8.
fn is_alone(config: &Value) -> bool {
    let list = |path| config.pointer(path).and_then(Value::as_array).into_iter().flatten();
    let is_kept = |name: &Value| KEPT.split(' ').any(|kept| *name == format!("CAP_{kept}"));
    cfg!(target_feature = "crt-static")
        && list("/linux/namespaces").any(|it| it["type"] == "pid" && is_nothing(&it["path"]))
        && list("/process/capabilities/bounding").all(is_kept)
        && is_nothing(&config["hooks"]["startContainer"])
}

/// The caller must be back in its own pid namespace before it starts anything but this child.
fn launch(p: &Home, cgroup: Option<&Cgroup>, given: &Given) -> Result<Child> {
    let own = attempt("/proc/self/ns/pid", File::open("/proc/self/ns/pid"))?;
    // Who is in there already, or enters before husk has become the command, must not trace it, or
    // look into its /proc/PID (CVE-2016-9962). In a new user namespace it could not do so itself.
    if p.new & CLONE_NEWUSER == 0 || p.joined & CLONE_NEWPID != 0 {
        attempt("prctl PR_SET_DUMPABLE", prctl::set_dumpable(false))?;
    }
    p.join(FOR_CHILDREN)?;
    let later = CLONE_NEWCGROUP | if p.lent.is_some() { CLONE_NEWNET } else { 0 };
    let _ = handled_signals().thread_block(); // else one could leave half a container behind
    let child = spawn(p.new & !later, cgroup, |parent| become_container(p, parent))?;
    if p.new != 0 && p.joined & CLONE_NEWPID != 0 {
        step!(setns(own, CloneFlags::CLONE_NEWPID), "nsenter --pid (back)")?;
    }
    if let Some(path) = given.get("pid-file") {
        step!(fs::write(path, child.pid.to_string()), "echo {} > {path}", child.pid)?;
    }
    Ok(child)
}

/// Waits for one side's word to the other that it may go on. If that is gone, why comes from here.
fn wait_for_word(socket: &UnixStream) -> Result<()> {
    require(hear(socket)?, "the other side is gone")
}

/// Anything but that word is the child's error; false is its end or its exec.
fn hear(mut socket: &UnixStream) -> Result<bool> {
    let (mut word, mut why) = ([0], vec![]);
    let is_there = socket.read_exact(&mut word).is_ok();
    if word != [0] {
        let _ = socket.read_to_end(&mut why);
        return Err(Error(word[0], String::from_utf8_lossy(&why).into()));
    }
    Ok(is_there)
}

fn start(home: &Home) -> Result<u8> {
    let status = home.status();
    require(status == "created", format!("cannot start a container in the {status} state"))?;
    let path = home.start_path();
    hear(&step!(UnixStream::connect(&path), "connect {}", path.display())?)?;
    step!(fs::remove_file(&path), "rm {}", path.display())?;
    let _ = home.lock.as_ref().map(File::unlock); // the hooks may enter it
    run_hooks(home, "poststart", "running").map(|()| 0)
}

/// Those after the start and the end of a container may fail, with a warning.
fn run_hooks(home: &Home, kind: &str, status: &str) -> Result<()> {
    let hooks = Option::<Vec<Hook>>::deserialize(&home.state["config"]["hooks"][kind]);
    for hook in hooks.map_err(error)?.into_iter().flatten() {
        let what = format!("{kind} hook {}", hook.path().display());
        match run_hook(&hook, &what, &home.report(status)) {
            Err(Error(_, why)) if kind.starts_with("post") => log("warning", why),
            outcome => outcome?,
        }
    }
    Ok(())
}

/// State JSON on standard input, and nothing of the caller's environment.
fn run_hook(hook: &Hook, what: &str, state: &Value) -> Result<()> {
    let mut input = File::from(attempt(what, memfd_create("state", MFdFlags::MFD_CLOEXEC))?);
    let mut write = || input.write_all(state.to_string().as_bytes()).and_then(|()| input.rewind());
    attempt(what, write())?;
    let mut command = Command::new(hook.path());
    if let [name, rest @ ..] = list_of(hook.args()) {
        command.arg0(name).args(rest);
    }
    let pairs = list_of(hook.env()).iter().filter_map(|pair| pair.split_once('='));
    command.env_clear().envs(pairs).stdin(input).stdout(Stdio::null());
    let mut child = step!(command.spawn(), "{what}")?;
    let seconds = hook.timeout().unwrap_or(i64::MAX).clamp(0, i64::from(i32::MAX)) as u64;
    let deadline = Instant::now() + Duration::from_secs(seconds);
    if !wait_while(deadline, || matches!(child.try_wait(), Ok(None))) {
        let _ = child.kill();
        return Err(error(format!("{what}: timeout")));
    }
    let status = attempt(what, child.wait())?;
    require(status.success(), format!("{what}: {status}"))
}

// ---- the child: namespaces and the root file system ---------------------------------------------

fn become_container(p: &Home, parent: &UnixStream) -> Result<Infallible> {
    // Our copy of the lock: else we would hold it for ever.
    let _ = p.lock.as_ref().map(|lock| unistd::close(lock.as_raw_fd()));
    if p.new & CLONE_NEWUSER != 0 {
        wait_for_word(parent)?; // it has written our ids
    }
    if p.has(CLONE_NEWUSER) {
        let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
        step!(unistd::setresgid(gid, gid, gid), "setpriv --regid 0")?;
        step!(unistd::setresuid(uid, uid, uid), "setpriv --reuid 0")?;
    }
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let profile = named(p.process.apparmor_profile()).filter(|name| name != "unconfined");
    // As long as /proc is the host's, which can be trusted.
    for (file, value) in [
        ("oom_score_adj", p.process.oom_score_adj().map(|score| score.to_string())),
        ("attr/apparmor/exec", profile.map(|name| format!("exec {name}"))),
        ("attr/exec", named(p.process.selinux_label())),
    ] {
        value.map_or(Ok(()), |value| echo(&value, format!("/proc/self/{file}")))?;
    }
    p.join(!FOR_CHILDREN)?;
    if p.new & CLONE_NEWCGROUP != 0 {
        step!(unshare(CloneFlags::CLONE_NEWCGROUP), "unshare --cgroup")?;
    }
    if p.new & CLONE_NEWNET != 0 && p.lent.is_none() {
        set_up(&netlink_socket()?, "lo")?;
    }
    if p.new != 0 {
        stat::umask(stat::Mode::empty());
        let (root, is_dev_read_only) = build_root(p, parent)?;
        if p.has_hooks() {
            tell(parent, &[0], "the root is made")?;
            wait_for_word(parent)?;
        }
        run_hooks(p, "createContainer", "creating")?;
        if is_dev_read_only {
            make_read_only(by_number(&attempt("/dev", inside(&root, "/dev".as_ref(), None))?))?;
        }
        attempt(p.process.cwd().display(), inside(&root, p.process.cwd(), Some(true)))?;
        change_root(p, &root)?;
    }
    p.console.iter().try_for_each(|console| open_terminal(p, console))?;
    enter(p, parent)
}

/// What may be set is what only a namespace keeps away from the host.
const SYSCTLS: [(c_int, &str); 3] = [
    (CLONE_NEWNET, "net/"),
    (CLONE_NEWUTS, "kernel/domainname"),
    (CLONE_NEWIPC, "kernel/msg kernel/sem kernel/shm fs/mqueue/"),
];

fn set_names(p: &Home) -> Result<()> {
    if let Some(name) = p.spec.hostname().as_ref().filter(|name| !name.is_empty()) {
        require(p.has(CLONE_NEWUTS), "hostname: expected a uts namespace")?;
        step!(unistd::sethostname(name), "hostname {name}")?;
    }
    let domain = p.spec.domainname().clone().filter(|name| !name.is_empty());
    let domain = domain.map(|name| ("kernel.domainname".to_string(), name));
    for (key, value) in p.linux.sysctl().clone().into_iter().flatten().chain(domain) {
        let path = key.replace('.', "/");
        let is_in = |names: &str| names.split(' ').any(|name| path.starts_with(name));
        let is_own = SYSCTLS.iter().any(|(flag, names)| p.has(*flag) && is_in(names));
        require(is_own, format!("linux.sysctl.{key}: not in a namespace of its own"))?;
        echo(&value, format!("/proc/sys/{path}"))?;
    }
    // A session keyring of our own: the caller's stays his.
    // SAFETY: without a name, KEYCTL_JOIN_SESSION_KEYRING (1) takes integers only.
    unsafe { syscall(SYS_keyctl, 1, 0) };
    Ok(())
}

const PRIVATE: MsFlags = MsFlags::from_bits_retain(MS_PRIVATE | MS_REC);
const SLAVE: MsFlags = MsFlags::from_bits_retain(MS_SLAVE | MS_REC);
const PROPAGATION: MsFlags =
    MsFlags::from_bits_retain(MS_PRIVATE | MS_SLAVE | MS_SHARED | MS_UNBINDABLE);

/// The words of fstab(5) are the kernel's names of flags, but for two. r means: and all below it.
fn flag(word: &str) -> Option<MsFlags> {
    let name = match word {
        "ro" => "RDONLY".into(),
        "sync" => "SYNCHRONOUS".into(),
        word => word.to_uppercase(),
    };
    let recursive = || Some(flag(word.strip_prefix('r')?)? | MsFlags::MS_REC);
    MsFlags::from_name(&format!("MS_{name}")).or_else(recursive)
}

fn propagate(at: impl AsRef<Path>, how: MsFlags) -> Result<()> {
    let at = at.as_ref();
    step!(mount(NONE, at, NONE, how, NONE), "mount --make-... ({how:?}) {}", at.display())
}

/// A tree if it is a bind, the flags, how it spreads, and the file system's own options.
type Prepared = (Option<OwnedFd>, MsFlags, Option<MsFlags>, String);

/// The sources of binds are opened while mounts of the host still spread to us.
fn prepare(p: &Home, m: &Mount) -> Result<Prepared> {
    let is_mapped = m.uid_mappings().is_some() || m.gid_mappings().is_some();
    require(!is_mapped, "uidMappings: not supported")?;
    let typ = m.typ().as_deref().unwrap_or("none");
    let mut flags = if typ == "bind" { MsFlags::MS_BIND } else { MsFlags::empty() };
    let (mut spreads, mut data) = (None, vec![]);
    for word in list_of(m.options()).iter().map(String::as_str) {
        let inverse = word.strip_prefix("no").map_or(format!("no{word}"), str::to_string);
        match (flag(word), flag(if word == "rw" { "ro" } else { &inverse })) {
            (Some(flag), _) if flag.intersects(PROPAGATION) => spreads = Some(flag),
            (Some(flag), _) if flag.contains(MsFlags::MS_BIND) => flags |= flag,
            (Some(flag), _) => flags |= flag - MsFlags::MS_REC,
            (_, Some(flag)) => flags -= flag,
            _ => match word {
                "idmap" | "ridmap" => return Err(error(format!("{word}: not supported"))),
                "tmpcopyup" => log("warning", format!("mount option {word}: ignored")),
                "defaults" | "async" | "loud" | "silent" | "mand" | "rrw" => {}
                other => data.push(other),
            },
        }
    }
    flags |= if typ == "devpts" { MsFlags::empty() } else { nodev(p, "a", -1, -1) };
    let source = match (typ, p.cgroup()) {
        _ if flags.contains(MsFlags::MS_BIND) => {
            let source = m.source().as_ref().ok_or_else(|| error("source: expected"))?;
            Some(Path::new(p.text("bundle")).join(source))
        }
        // Without a cgroup namespace a new mount would show all of the host's.
        ("cgroup" | "cgroup2", Ok(own)) if p.new & CLONE_NEWCGROUP == 0 => Some(own),
        // It shows a network, and only who owns that may mount one.
        ("sysfs", _) if *ROOTLESS && p.new & CLONE_NEWNET == 0 => {
            flags |= MsFlags::MS_REC;
            Some("/sys".into())
        }
        _ => None,
    };
    let tree = source.map(|source| clone_tree(AT_FDCWD, &source, flags)).transpose()?;
    let spreads = spreads.or(tree.is_some().then_some(PRIVATE));
    Ok((tree, flags, spreads, data.join(",")))
}

fn attach(root: &OwnedFd, m: &Mount, (tree, flags, spreads, data): Prepared) -> Result<()> {
    let is_dir = tree.as_ref().is_none_or(is_dir);
    let target = attempt("open", inside(root, m.destination(), Some(is_dir)))?;
    let at = by_number(&target);
    if let Some(tree) = tree {
        place(&tree, &at)?;
    } else {
        let (fstype, data) = match m.typ().as_deref().unwrap_or("none") {
            "cgroup" | "cgroup2" => ("cgroup2", ""),
            fstype => (fstype, &*data),
        };
        let source = m.source().as_deref().unwrap_or(Path::new(fstype));
        let call = || mount(Some(source), &*at, Some(fstype), flags, Some(data));
        step!(call(), "mount -t {fstype} -o {data} {}", source.display())?;
    }
    let Some(how) = spreads else { return Ok(()) };
    propagate(by_number(&attempt("open", inside(root, m.destination(), None))?), how)
}

/// Opens a path below the root, which neither a symlink nor `..` leads out of, or makes it first.
fn inside(root: &OwnedFd, path: &Path, is_dir: Option<bool>) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let open = |flags: OFlag, mode| {
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        let how = how.mode(stat::Mode::from_bits_retain(mode));
        // EAGAIN: something was renamed or mounted, anywhere, while `..` was followed.
        let mut tries = (0..1000).map(|_| fcntl::openat2(root, path, how));
        let found = tries.find(|found| !matches!(found, Err(Errno::EAGAIN)));
        found.unwrap_or(Err(Errno::EAGAIN))
    };
    match (open(OFlag::O_PATH, 0), is_dir) {
        (Err(Errno::ENOENT), Some(true)) => {}
        (Err(Errno::ENOENT), Some(false)) => match open(OFlag::O_CREAT | OFlag::O_EXCL, 0o644) {
            Err(Errno::ENOENT | Errno::EEXIST) => {}
            made => return made,
        },
        (found, _) => return found,
    }
    let (above, name) = path.parent().zip(path.file_name()).ok_or(Errno::ENOENT)?;
    let parent = inside(root, &Path::new("/").join(above), Some(true))?;
    match fcntl::readlinkat(&parent, name) {
        Ok(link) => return inside(root, &above.join(link), is_dir), // to what is missing
        Err(_) if is_dir == Some(false) => {
            let (new, mode) = (OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC, 0o644);
            return fcntl::openat(&parent, name, new, stat::Mode::from_bits_retain(mode));
        }
        Err(_) => stat::mkdirat(&parent, name, stat::Mode::from_bits_retain(0o755))?,
    }
    inside(root, path, is_dir)
}

/// Everything is mounted below the root while the host can still be seen, as hooks expect it; but
/// each target is opened first, by a path that cannot leave the root, and mounted on by its number.
fn build_root(p: &Home, parent: &UnixStream) -> Result<(OwnedFd, bool)> {
    let name = |m: &Mount, Error(_, why)| error(format!("mounts: {:?}: {why}", m.destination()));
    let mut mounts = vec![];
    for m in list_of(p.spec.mounts()) {
        mounts.push((m, prepare(p, m).map_err(|why| name(m, why))?));
    }
    let rootfs = p.text("rootfs");
    let name_root = |Error(_, why)| error(format!("root.path: {why}"));
    let root = clone_tree(AT_FDCWD, rootfs, MsFlags::MS_REC | nodev(p, "a", -1, -1));
    let root = root.map_err(name_root)?;
    propagate("/", SLAVE)?;
    place(&root, rootfs)?;
    let wanted = p.linux.rootfs_propagation().as_deref().and_then(flag).unwrap_or(PRIVATE);
    let is_private = wanted.contains(MsFlags::MS_PRIVATE);
    propagate(rootfs, if is_private { PRIVATE } else { SLAVE })?;
    let (mut lent, mut has_dev, mut is_dev_read_only) = (p.lent.as_ref(), true, false);
    for (m, mut prepared) in mounts {
        if m.typ().as_deref() == Some("sysfs") {
            join_network(lent.take(), parent)?; // it shows the one of its maker
        }
        if m.destination() == "/dev" {
            has_dev = prepared.0.is_none();
            is_dev_read_only = prepared.1.contains(MsFlags::MS_RDONLY);
            prepared.1 -= MsFlags::MS_RDONLY; // before all is in it
        }
        attach(&root, m, prepared).map_err(|why| name(m, why))?;
    }
    join_network(lent, parent)?;
    set_names(p)?;
    if has_dev {
        make_devices(p, &root)?;
    }
    list_of(p.linux.readonly_paths()).iter().try_for_each(|path| cover(&root, path, false))?;
    list_of(p.linux.masked_paths()).iter().try_for_each(|path| cover(&root, path, true))?;
    Ok((root, is_dev_read_only))
}

fn join_network(husk: Option<&OwnedFd>, parent: &UnixStream) -> Result<()> {
    let Some(husk) = husk else { return Ok(()) };
    wait_for_word(parent)?;
    step!(setns(husk, CloneFlags::CLONE_NEWNET), "nsenter --target (the parent) --net")
}

fn make_read_only(path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let old = attempt("statvfs", statvfs::statvfs(path))?.flags().bits() & 0xf; // nosuid and so on
    let flags = MsFlags::from_bits_retain(MS_REMOUNT | MS_BIND | MS_RDONLY | old);
    step!(mount(NONE, path, NONE, flags, NONE), "mount -o remount,bind,ro {}", path.display())
}

/// Instead of a device cgroup: for what its rules close, and for mounts unless they open all.
fn nodev(p: &Home, kind: &str, major: i64, minor: i64) -> MsFlags {
    let mut rules = p.linux.resources().iter().flat_map(|all| list_of(all.devices()));
    let fits = |rule: Option<i64>, own| rule.is_none_or(|number| number < 0 || number == own);
    let last = rules.rfind(|rule| {
        let is_used = rule.access().as_deref().is_none_or(|access| access.contains(['r', 'w']));
        let is_kind = ["a", kind].contains(&rule.typ().unwrap_or_default().as_str());
        is_used && is_kind && fits(rule.major(), major) && fits(rule.minor(), minor)
    });
    let is_open = last.map_or(kind != "a", |rule| rule.allow());
    if is_open { MsFlags::empty() } else { MsFlags::MS_NODEV }
}

/// The nodes that every container has, those of config.json, and the usual links.
fn make_devices(p: &Home, root: &OwnedFd) -> Result<()> {
    for path in DEVICES.split(' ').map(|name| Path::new("/dev").join(name)) {
        bind_device(root, &path, &path, MsFlags::empty())?;
    }
    for device in list_of(p.linux.devices()) {
        make_device(p, root, device)?;
    }
    let dev = attempt("/dev", inside(root, "/dev".as_ref(), Some(true)))?;
    for (name, to) in LINKS.split_whitespace().filter_map(|link| link.split_once('=')) {
        match unistd::symlinkat(to, &dev, name) {
            Err(Errno::EEXIST) => {}
            made => step!(made, "ln -s {to} /dev/{name}")?,
        }
    }
    Ok(())
}

/// Read-only: a chmod or chown in the container must not reach the host's own node.
fn bind_device(root: &OwnedFd, path: &Path, node: &Path, nodev: MsFlags) -> Result<()> {
    let target = attempt(path.display(), inside(root, path, Some(false)))?;
    place(&clone_tree(AT_FDCWD, node, DEVICE | nodev)?, by_number(&target))
}

fn make_device(p: &Home, root: &OwnedFd, device: &LinuxDevice) -> Result<()> {
    let (kind, dir) = match device.typ() {
        LinuxDeviceType::B => (S_IFBLK, "block"),
        LinuxDeviceType::P => (S_IFIFO, "pipe"),
        _ => (S_IFCHR, "char"),
    };
    let (path, major, minor) = (device.path(), device.major(), device.minor());
    let number = stat::makedev(major as u64, minor as u64);
    // The kernel's own name for it, if the container has another.
    let uevent = read(format!("/sys/dev/{dir}/{major}:{minor}/uevent")).unwrap_or_default();
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME=")).unwrap_or_default();
    for node in [path, &Path::new("/dev").join(name)] {
        let its = stat::stat(node).map_or((0, 0), |its| (its.st_mode & S_IFMT, its.st_rdev));
        if its == (kind, number) && kind != S_IFIFO {
            return bind_device(root, path, node, nodev(p, &dir[..1], major, minor));
        }
    }
    log("warning", format!("linux.devices: {}: not on the host", path.display()));
    let above = inside(root, path.parent().unwrap_or(path), Some(true));
    let (above, name) = (attempt(path.display(), above)?, path.file_name().unwrap_or_default());
    let mode = stat::Mode::from_bits_retain(device.file_mode().unwrap_or(0o666) & 0o777);
    match stat::mknodat(&above, name, stat::SFlag::from_bits_retain(kind), mode, number) {
        Err(Errno::EEXIST) => Ok(()),
        made => step!(made, "mknod {}", path.display()),
    }
}

/// Masked paths are covered by something empty, read-only ones by themselves.
fn cover(root: &OwnedFd, path: &str, is_masked: bool) -> Result<()> {
    let target = match inside(root, path.as_ref(), None) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        found => attempt(path, found)?,
    };
    let at = by_number(&target);
    let tree = match (is_masked, is_dir(&target)) {
        (true, true) => new_tree("tmpfs", "ro,nosuid,nodev,noexec,size=4k")?,
        (true, false) => clone_tree(AT_FDCWD, "/dev/null", DEVICE)?,
        (false, _) => clone_tree(AT_FDCWD, &at, MsFlags::MS_REC | MsFlags::MS_RDONLY)?,
    };
    place(&tree, at)
}

fn change_root(p: &Home, root: &OwnedFd) -> Result<()> {
    step!(unistd::fchdir(root), "cd {}", p.text("rootfs"))?;
    step!(unistd::pivot_root(".", "."), "pivot_root . .")?;
    step!(umount2(".", MntFlags::MNT_DETACH), "umount --lazy .")?;
    step!(unistd::chdir("/"), "cd /")?;
    let wanted = p.linux.rootfs_propagation().as_deref().and_then(flag);
    wanted.map_or(Ok(()), |how| propagate("/", how))?;
    if p.state["config"]["root"]["readonly"] == true { make_read_only("/") } else { Ok(()) }
}

// ---- the process: terminal, rights, exec --------------------------------------------------------

/// The child's last steps. The parent is told when hardly anything but the exec can fail any more.
fn enter(p: &Home, parent: &UnixStream) -> Result<Infallible> {
    let process = &p.process;
    let workdir = open_workdir(process.cwd());
    let workdir = attempt(format_args!("process.cwd {}", process.cwd().display()), workdir)?;
    set_rlimits(process)?;
    let filter = p.linux.seccomp().as_ref().map(seccomp).transpose()?;
    let is_bound = process.no_new_privileges() == Some(true);
    // Before the filter, which may forbid it. A log is no directory, so it leads nowhere.
    let log = LOG.get().map_or(-1, |log| log.as_raw_fd());
    let start = p.start.as_ref().map_or(-1, |start| start.as_raw_fd());
    let mut kept = [parent.as_raw_fd(), workdir.as_raw_fd(), start, log];
    kept.sort();
    close_others(p.closed as c_int, &kept);
    if !is_bound {
        install(&filter)?; // needs a capability that is about to go
    }
    // One of the two must be allowed into it: root here, or the process's own user.
    let enter = || step!(unistd::fchdir(&workdir), "cd {}", process.cwd().display());
    let entered = enter();
    become_user(process)?;
    entered.or_else(|_| enter())?;
    let (args, env) = (c_strings(process.args())?, environment(process)?);
    let program = find_program(&list_of(process.args())[0], &env)?;
    if let Some(start) = &p.start {
        tell(parent, &[0], "created")?;
        let (caller, _) = attempt("accept", start.accept())?;
        // SAFETY: from now on it is the caller of `start` whom an error must reach.
        let dup = unsafe { dup3(caller.as_raw_fd(), parent.as_raw_fd(), O_CLOEXEC) };
        attempt("dup3", Errno::result(dup))?;
    } else {
        wait_for_word(parent)?;
    }
    let _ = step!(unistd::setsid(), "setsid"); // see `execute`
    if is_bound {
        step!(prctl::set_no_new_privs(), "setpriv --no-new-privs")?;
        install(&filter)?;
    }
    if p.new != 0 {
        run_hooks(p, "startContainer", "created")?; // the container's own programs
    }
    let _ = SigSet::empty().thread_set_mask();
    attempt(format!("exec {}", program.display()), unistd::execve(&c_string(&program), &args, &env))
}

fn set_rlimits(process: &Process) -> Result<()> {
    for limit in list_of(process.rlimits()) {
        let value = rlimit { rlim_cur: limit.soft(), rlim_max: limit.hard() };
        // SAFETY: the kernel reads one rlimit. Its numbers follow the order of these names.
        let set = Errno::result(unsafe { setrlimit(limit.typ() as u32, &value) });
        step!(set, "process.rlimits: {} {}:{}", limit.typ(), limit.soft(), limit.hard())?;
    }
    Ok(())
}

fn c_strings(list: &Option<Vec<String>>) -> Result<Vec<CString>> {
    list_of(list).iter().map(|text| CString::new(&**text).map_err(error)).collect()
}

/// In runc's words, from which docker and podman read the exit statuses 126 and 127.
fn find_program(name: &str, env: &[CString]) -> Result<PathBuf> {
    let path = env.iter().find_map(|pair| pair.to_str().ok()?.strip_prefix("PATH="));
    let is_path = name.contains('/');
    let mut why = "executable file not found in $PATH".to_string();
    for dir in path.filter(|_| !is_path).unwrap_or_default().split(':') {
        let file = Path::new(dir).join(name);
        match unistd::access(&file, unistd::AccessFlags::X_OK) {
            Ok(()) if !file.is_dir() => return Ok(file),
            Ok(()) | Err(Errno::EACCES) => why = "permission denied".into(),
            Err(errno) if is_path => why = errno.desc().to_lowercase(),
            Err(_) => {}
        }
    }
    Err(error(format!("exec: {name:?}: {why}")))
}

/// The environment; engines leave it to us to look up HOME.
fn environment(process: &Process) -> Result<Vec<CString>> {
    let mut env = c_strings(process.env())?;
    if !env.iter().any(|pair| pair.as_bytes().starts_with(b"HOME=")) {
        let file = File::options().read(true).custom_flags(O_NONBLOCK).open("/etc/passwd");
        let text = file.and_then(io::read_to_string).unwrap_or_default();
        let uid = process.user().uid().to_string();
        let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let line = lines.find(|fields| fields.len() > 5 && fields[2] == uid);
        env.push(c_string(format!("HOME={}", line.map_or("/", |fields| fields[5]))));
    }
    Ok(env)
}

/// Capabilities, groups and ids, in the only order that works.
fn become_user(process: &Process) -> Result<()> {
    let set = |pick: fn(&LinuxCapabilities) -> &Option<Capabilities>| {
        let names = process.capabilities().iter().flat_map(pick).flatten();
        CapSet::from_bitmask_truncate(names.filter_map(|name| capability(&name.to_string())).sum())
    };
    let (wanted, held) = (set(LinuxCapabilities::bounding), bounding::probe());
    if !held.issuperset(wanted) {
        log("warning", format!("process.capabilities: {:?}: not held", wanted - held));
    }
    let drop = || (held - wanted).iter().try_for_each(bounding::drop);
    step!(drop().and_then(|()| bounding::clear_unknown()), "setpriv --bounding-set {wanted:?}")?;
    let user = process.user();
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    let groups = Vec::from_iter(list_of(user.additional_gids()).iter().copied().map(Gid::from_raw));
    let grouped = unistd::setgroups(&groups);
    if !*ROOTLESS || !groups.is_empty() {
        step!(grouped, "setpriv --groups {groups:?}")?; // else the kernel may deny it
    }
    step!(unistd::setresgid(gid, gid, gid), "setpriv --regid {gid}")?;
    attempt("prctl PR_SET_KEEPCAPS", prctl::set_keepcaps(true))?;
    step!(unistd::setresuid(uid, uid, uid), "setpriv --reuid {uid}")?;
    stat::umask(stat::Mode::from_bits_retain(user.umask().unwrap_or(0o022)));
    let permitted = set(LinuxCapabilities::permitted) & wanted & held;
    let effective = set(LinuxCapabilities::effective) & permitted;
    let inheritable = set(LinuxCapabilities::inheritable) & wanted & held;
    let state = CapState { effective, permitted, inheritable };
    step!(state.set_current(), "capset {state}")?;
    let ambient = set(LinuxCapabilities::ambient) & permitted & inheritable;
    step!(ambient.iter().try_for_each(ambient::raise), "setpriv --ambient-caps {ambient:?}")
}

/// A program for the kernel's BPF machine, like the walk's, with rules about arguments first.
fn seccomp(profile: &LinuxSeccomp) -> Result<Vec<sock_filter>> {
    let answer = |action: LinuxSeccompAction, errno| bpf(BPF_RET, action.as_u32(errno), 0, 0);
    let mut rules: Vec<&LinuxSyscall> = list_of(profile.syscalls()).iter().collect();
    rules.sort_by_key(|rule| list_of(rule.args()).is_empty());
    let is_good = rules.iter().all(|rule| rule.action() != LinuxSeccompAction::ScmpActNotify);
    require(is_good, "linux.seccomp: SCMP_ACT_NOTIFY: not supported")?;
    let number = |name: &String| Some(syscalls::Sysno::from_str(name).ok()?.id() as u32);
    let last = rules.iter().flat_map(|rule| rule.names()).filter_map(number).max();
    let mut filter = vec![load(4), bpf(BPF_JMP | BPF_JEQ, AUDIT_ARCH, 1, 0), UNKNOWN, load(0)];
    // Above what the profile's author knew there are only newer calls, and another ABI's.
    let last = last.unwrap_or(0).max(SYS_mseal as u32);
    filter.extend([bpf(BPF_JMP | BPF_JGT, last, 0, 1), UNKNOWN]);
    for rule in rules {
        let (args, mut body) = (list_of(rule.args()), vec![]);
        // All must hold; but of two for the same argument, as libseccomp has it, any one.
        let indices: BTreeSet<_> = args.iter().map(|arg| arg.index()).collect();
        let is_any = indices.len() < args.len();
        for set in if is_any { args.chunks(1).collect() } else { vec![args] } {
            for (n, arg) in set.iter().enumerate() {
                // A failure skips the other arguments and the answer.
                body.extend(compare(arg, (set.len() - n - 1) * 7 + 1));
            }
            body.push(answer(rule.action(), rule.errno_ret()));
        }
        body.push(load(0)); // the number again, for the next rule
        for number in rule.names().iter().filter_map(number) {
            filter.push(bpf(BPF_JMP | BPF_JEQ, number, 0, body.len()));
            filter.extend(&body);
        }
    }
    filter.push(answer(profile.default_action(), profile.default_errno_ret()));
    Ok(filter)
}

fn load(at: u32) -> sock_filter {
    bpf(BPF_LD | BPF_W | BPF_ABS, at, 0, 0)
}

/// Compares 64 bits in two halves, and goes on behind these seven instructions or `fail` further.
fn compare(arg: &LinuxSeccompArg, fail: usize) -> [sock_filter; 7] {
    use LinuxSeccompOperator::*;
    let (mask, value, how) = match arg.op() {
        ScmpCmpMaskedEq => (arg.value(), arg.value_two().unwrap_or(0), BPF_JEQ),
        ScmpCmpGt | ScmpCmpLe => (u64::MAX, arg.value(), BPF_JGT),
        ScmpCmpGe | ScmpCmpLt => (u64::MAX, arg.value(), BPF_JGE),
        _ => (u64::MAX, arg.value(), BPF_JEQ),
    };
    let is_opposite = matches!(arg.op(), ScmpCmpNe | ScmpCmpLe | ScmpCmpLt);
    // Where to go from an instruction, if the comparison holds, or not.
    let to = |at: usize, holds: bool| 6 - at + if holds == is_opposite { fail } else { 0 };
    let (offset, high) = (16 + 8 * arg.index() as u32, (value >> 32) as u32);
    [
        load(offset + 4),
        bpf(BPF_ALU | BPF_AND, (mask >> 32) as u32, 0, 0),
        bpf(BPF_JMP | BPF_JGT, high, to(2, how != BPF_JEQ), 0),
        bpf(BPF_JMP | BPF_JEQ, high, 0, to(3, false)),
        load(offset),
        bpf(BPF_ALU | BPF_AND, mask as u32, 0, 0),
        bpf(BPF_JMP | how, value as u32, to(6, true), to(6, false)),
    ]
}

fn install(filter: &Option<Vec<sock_filter>>) -> Result<()> {
    let Some(filter) = filter else { return Ok(()) };
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions of the filter, which outlives the call.
    let set = unsafe { syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) };
    step!(Errno::result(set), "seccomp: {} instructions", filter.len()).map(drop)
}

fn open_terminal(p: &Home, console: &UnixStream) -> Result<()> {
    let size = p.process.console_size().unwrap_or_default();
    let (ws_row, ws_col) = (size.height() as u16, size.width() as u16);
    let size = winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = step!(pty::openpty(&size, None), "open /dev/ptmx")?;
    let (fds, text) = ([pty.master.as_raw_fd()], [io::IoSlice::new(b"/dev/ptmx")]);
    let (rights, flags) = ([socket::ControlMessage::ScmRights(&fds)], MsgFlags::MSG_NOSIGNAL);
    let sent = socket::sendmsg::<()>(console.as_raw_fd(), &text, &rights, flags, None);
    attempt("--console-socket", sent)?;
    if p.new != 0 {
        let number = stat::minor(attempt("fstat", stat::fstat(&pty.slave))?.st_rdev);
        let node = clone_tree(AT_FDCWD, format!("/dev/pts/{number}"), MsFlags::MS_NOEXEC)?;
        place(&node, "/dev/console")?;
    }
    let uid = Uid::from_raw(p.process.user().uid());
    attempt("chown /dev/console", unistd::fchown(&pty.slave, Some(uid), None))?;
    // SAFETY: this ends in the descriptor's close, and nobody else has it.
    step!(Errno::result(unsafe { login_tty(pty.slave.into_raw_fd()) }), "setsid --ctty").map(drop)
}

// ---- the other verbs ----------------------------------------------------------------------------

fn spec(_: &mut Home, given: &Given) -> Result<u8> {
    let path = Path::new(given.get("bundle").unwrap_or(".")).join("config.json");
    let (uid, gid) = (unistd::geteuid().as_raw(), unistd::getegid().as_raw());
    let rootless = given.get("rootless").map(|_| Spec::rootless(uid, gid));
    let mut spec = rootless.unwrap_or_default();
    spec.set_version("1.2.0".into()).set_hostname(Some("husk".into()));
    let text = serde_json::to_string_pretty(&spec).unwrap_or_default();
    let write = || writeln!(File::create_new(&path)?, "{text}");
    step!(write(), "write {}", path.display()).map(|()| 0)
}

fn kill(home: &mut Home, given: &Given) -> Result<u8> {
    let text = given.words.get(2).map_or("TERM".into(), |text| text.to_uppercase());
    let named = || Signal::from_str(&format!("SIG{}", text.trim_start_matches("SIG"))).ok();
    let number = text.parse().ok().or_else(|| named().map(|signal| signal as c_int));
    let number = number.ok_or_else(|| error(format!("kill: {text}: unknown signal")))?;
    if given.is("all") {
        for pidfd in home.cgroup().iter().flat_map(|dir| all_pids(dir)).flat_map(pidfd_open) {
            let _ = send_signal(&pidfd, number);
        }
        return Ok(0);
    }
    let (pid, pidfd) = home.first().ok_or_else(|| error("container not running"))?;
    step!(send_signal(&pidfd, number), "kill -{number} {pid}").map(|_| 0)
}

fn delete(home: &mut Home, given: &Given) -> Result<u8> {
    let status = home.status();
    let why = format!("cannot delete a container that is not stopped: {status}");
    require(status == "stopped" || given.is("force"), why)?;
    remove(home);
    Ok(0)
}

/// The end of a container, and then its last hooks.
fn remove(home: &Home) {
    if let Some((_, pidfd)) = home.first() {
        let _ = send_signal(&pidfd, SIGKILL);
        wait_while(Instant::now() + PATIENCE, || home.first().is_some());
    }
    // As a rule it is empty.
    let rest = home.cgroup().ok().filter(|dir| fs::remove_dir(dir).is_err());
    rest.iter().for_each(|dir| remove_cgroup(dir));
    let _ = run_hooks(home, "poststop", "stopped");
    let _ = fs::remove_file(home.start_path());
    let _ = fs::remove_file(&home.path);
}

fn list(_: &mut Home, given: &Given) -> Result<u8> {
    let names = ROOT.get().and_then(|root| fs::read_dir(root).ok()).into_iter().flatten().flatten();
    let homes = names.filter_map(|name| Home::open(name.file_name().to_str()?, false).ok());
    let homes = homes.filter(|home| !home.state.is_null());
    if given.is("quiet") {
        return print(&homes.map(|home| format!("{}\n", home.text("id"))).collect::<String>());
    }
    show(&homes.map(|home| home.report(home.status())).collect())
}

fn freeze(home: &Home, wanted: &str, word: &str) -> Result<u8> {
    let status = home.status();
    require(status == wanted, format!("the container is {status}, not {wanted}"))?;
    echo(word, home.cgroup()?.join("cgroup.freeze"))?;
    wait_while(Instant::now() + PATIENCE, || home.status() == wanted);
    Ok(0)
}

fn update(home: &mut Home, given: &Given) -> Result<u8> {
    let path = given.get("resources").filter(|path| *path != "-").unwrap_or("/proc/self/fd/0");
    let (resources, _) = read_json::<Value>(path)?;
    require(home.status() != "stopped", "container not running")?;
    set_limits(&home.cgroup()?, &limits(&resources)?).map(|()| 0)
}

/// The same steps, but the namespaces are there already.
fn exec(home: &mut Home, given: &Given) -> Result<u8> {
    shield()?;
    let is_free = File::open(&home.path).is_ok_and(|dir| dir.try_lock_shared().is_ok());
    require(is_free, "the container is being started or deleted")?;
    let status = home.status();
    require(status == "running", format!("cannot exec in a {status} container"))?;
    let (_, pidfd) = home.first().ok_or_else(|| error("container not running"))?;
    let spec = Spec::deserialize(&home.state["config"]).map_err(error)?;
    let mut process = spec.process().clone().unwrap_or_default();
    if let Some(path) = given.get("process") {
        process = read_json(path)?.1;
    } else {
        let mut env = process.env().clone().unwrap_or_default();
        let is_same = |a: &str, b: &str| a.split('=').next() == b.split('=').next();
        env.retain(|old| !given.all("env").any(|new| is_same(old, new)));
        env.extend(given.all("env").map(str::to_string));
        let dir = given.get("cwd").map_or(process.cwd().clone(), PathBuf::from);
        process.set_args(Some(given.words[2..].to_vec())).set_env(Some(env)).set_cwd(dir);
        process.set_terminal(Some(given.is("tty")));
    }
    home.prepare(spec, process, given)?;
    home.joined = list_of(home.linux.namespaces()).iter().map(|one| one.typ() as c_int).sum();
    home.doors = vec![(home.joined, pidfd)];
    let cgroup = home.cgroup().ok().map(open_cgroup).transpose()?;
    let child = launch(home, cgroup.as_ref(), given)?;
    attend(home, &child, given)
}
