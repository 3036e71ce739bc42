//! The appendix: husk as docker, podman and Kubernetes start it. What they add to a container is a
//! JSON file (config.json, in a "bundle" beside the root file system) and verbs that start and end
//! it step by step: the runtime-spec of the Open Container Initiative. Built with the feature `oci`
//! and called as husk-oci, the program does exactly what that file says, by the walk's functions.

use super::*;
use oci_spec::runtime::{
    Capabilities, Hook, Linux, LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, LinuxSeccomp,
    LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall, Mount, Process, Spec,
};
use serde_json::{Value, json};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::{process::Stdio, str::FromStr, sync::OnceLock};

const NONE: Option<&str> = None;

// ---- the command line ---------------------------------------------------------------------------

const GLOBAL: &str = "root= log= log-format= rootless= systemd-cgroup debug help version";
const START: &str = "bundle= pid-file= console-socket= preserve-fds= detach no-pivot \
    no-new-keyring keep no-subreaper";
const EXEC: &str = "process= pid-file= console-socket= preserve-fds= detach env= user= tty cwd= \
    no-new-privs ignore-paused no-subreaper";
const UPDATE: &str = "resources= memory= memory-reservation= memory-swap= cpu-period= cpu-quota= \
    cpu-share= cpuset-cpus= cpuset-mems= pids-limit= blkio-weight=";

/// Each verb, its options (with "=" if they take a value), and what stands behind it.
const VERBS: [(&str, &str, &str); 14] = [
    ("spec", "bundle= rootless", ""),
    ("create", START, "ID"),
    ("run", START, "ID"),
    ("start", "", "ID"),
    ("state", "", "ID"),
    ("kill", "all", "ID [SIGNAL]"),
    ("delete", "force", "ID"),
    ("exec", EXEC, "ID COMMAND..."),
    ("ps", "format=", "ID"),
    ("list", "format= quiet", ""),
    ("pause", "", "ID"),
    ("resume", "", "ID"),
    ("update", UPDATE, "ID"),
    ("features", "", ""),
];

/// Options as they were given, and the words between and behind them.
struct Given(Vec<(&'static str, String)>, VecDeque<String>);

impl Given {
    /// `-x` is short for the first option that begins with an x.
    fn take(words: &mut VecDeque<String>, table: &'static str, most: usize) -> Result<Given> {
        let (mut options, mut names) = (vec![], VecDeque::new());
        while names.len() < most
            && let Some(word) = words.pop_front()
        {
            let Some(option) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                names.push_back(word);
                continue;
            };
            let (name, value) =
                option.split_once('=').map_or((option, None), |(n, v)| (n, Some(v)));
            let is_it = |known: &&str| match name.strip_prefix('-') {
                Some(long) => known.trim_end_matches('=') == long,
                None => name.len() == 1 && known.starts_with(name),
            };
            let known = table.split(' ').find(is_it);
            let known = known.ok_or_else(|| error(format!("{word}: unknown option")))?;
            let missing = || error(format!("{word}: expected a value"));
            let value = match (known.strip_suffix('='), value) {
                (Some(_), None) => words.pop_front().ok_or_else(missing)?,
                (_, value) => value.unwrap_or_default().into(),
            };
            options.push((known.trim_end_matches('='), value));
        }
        Ok(Given(options, names))
    }

    fn all(&self, option: &str) -> impl DoubleEndedIterator<Item = &str> {
        self.0.iter().filter(move |(name, _)| *name == option).map(|(_, value)| value.as_str())
    }

    fn get(&self, option: &str) -> Option<&str> {
        self.all(option).next_back()
    }

    fn has(&self, option: &str) -> bool {
        self.get(option).is_some()
    }

    fn preserved(&self) -> Result<u32> {
        let number = self.get("preserve-fds").unwrap_or("0").parse();
        number.map_err(|_| error("--preserve-fds: expected a number"))
    }
}

/// Where state is kept, and the log with whether it is JSON.
static ROOT: OnceLock<PathBuf> = OnceLock::new();
static LOG: OnceLock<(File, bool)> = OnceLock::new();

/// In runc's form, which conmon and containerd's shim read.
fn log(level: &str, why: &str) {
    if let Some((mut file, is_json)) = LOG.get().map(|(file, is_json)| (file, is_json)) {
        let line = match is_json {
            true => json!({"level": level, "msg": why, "time": now()}).to_string(),
            false => format!("time=\"{}\" level={level} msg={why:?}", now()),
        };
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}

fn warn(why: impl Display) {
    log("warning", &why.to_string());
}

/// RFC 3339.
fn now() -> String {
    // SAFETY: both calls write only to `tm`, which is integers and a pointer that may be null.
    let tm = unsafe {
        let (seconds, mut tm) = (time(ptr::null_mut()), mem::zeroed());
        gmtime_r(&seconds, &mut tm);
        tm
    };
    let (year, month, day, hour) = (tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{:02}:{:02}Z", tm.tm_min, tm.tm_sec)
}

pub fn main() -> ExitCode {
    let words = env::args_os().skip(1).map(|word| word.to_string_lossy().into());
    ExitCode::from(command(words.collect()).unwrap_or_else(|Error(_, why)| {
        log("error", &why);
        let line = format!("husk-oci: {}\n", why.replace(char::is_control, "?"));
        let _ = io::stderr().write_all(line.as_bytes());
        1
    }))
}

fn command(mut words: VecDeque<String>) -> Result<u8> {
    let global = Given::take(&mut words, GLOBAL, 1)?;
    let own = || env::var("XDG_RUNTIME_DIR").unwrap_or(format!("/tmp/husk-{}", unistd::geteuid()));
    let default = || if *ROOTLESS { own() + "/husk" } else { "/run/husk".into() };
    let _ = ROOT.set(global.get("root").map_or_else(default, str::to_string).into());
    if let Some(path) = global.get("log") {
        let file = attempt("--log", File::options().append(true).create(true).open(path))?;
        let _ = LOG.set((file, global.get("log-format") == Some("json")));
    }
    let wanted = global.1.front().map_or("", |verb| verb);
    let verb = VERBS.iter().find(|(verb, ..)| *verb == wanted);
    let Some((verb, table, behind)) = verb.filter(|_| !global.has("help")) else {
        let line = |(verb, table, behind): (_, &str, _)| format!("  {verb} {behind}   [{table}]\n");
        let usage = format!("husk-oci [{GLOBAL}] VERB\n{}", VERBS.map(line).concat());
        let version = format!("husk-oci version {}\nspec: 1.2.0\n", env!("CARGO_PKG_VERSION"));
        return match (global.has("version"), global.has("help")) {
            (true, _) => print(&version),
            (_, true) => print(&usage),
            _ => Err(error(format!("{wanted}: unknown verb: see husk-oci --help"))),
        };
    };
    let given = Given::take(&mut words, table, if *verb == "exec" { 1 } else { usize::MAX })?;
    let id = given.1.front().map_or("", |id| id);
    if id.is_empty() == behind.starts_with("ID")
        || (given.1.len() > 2 - usize::from(*verb != "kill"))
    {
        return Err(error(format!("husk-oci {verb}: expected {behind}")));
    }
    match *verb {
        "spec" => spec_command(&given),
        "create" | "run" => shield().and_then(|()| create_command(id, &given, *verb == "run")),
        "start" => start(&Home::locked(id)?),
        "state" => print(&format!("{:#}\n", Home::find(id)?.report())),
        "kill" => kill(&Home::find(id)?, given.1.get(1), given.has("all")),
        "delete" => delete(id, given.has("force")),
        "exec" => shield().and_then(|()| exec(&Home::find(id)?, &given, words)),
        "ps" => ps(&Home::find(id)?, given.get("format")),
        "list" => list(&given),
        "pause" | "resume" => freeze(&Home::find(id)?, *verb == "pause"),
        "update" => update(&Home::find(id)?, &given),
        _ => features(),
    }
}

// ---- what is known of a container ---------------------------------------------------------------

/// A container's directory below --root. state.json appears in it in one piece, when the container
/// is complete, and holds nothing that the kernel knows better.
struct Home {
    dir: PathBuf,
    state: Value,
    lock: Option<File>,
}

impl Home {
    fn dir(id: &str) -> Result<PathBuf> {
        let is_legal = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        let is_good = !id.is_empty() && id.chars().all(is_legal) && !matches!(id, "." | "..");
        let root = ROOT.get().filter(|_| is_good);
        root.map(|root| root.join(id)).ok_or_else(|| error(format!("invalid container ID {id:?}")))
    }

    fn find(id: &str) -> Result<Home> {
        let dir = Home::dir(id)?;
        let state = fs::read(dir.join("state.json")).unwrap_or_default();
        let state = serde_json::from_slice(&state);
        let state = state.map_err(|_| error(format!("container does not exist: {id}")))?;
        Ok(Home { dir, state, lock: None })
    }

    /// Only one command at a time creates, starts or deletes a container.
    fn locked(id: &str) -> Result<Home> {
        let lock = File::open(Home::dir(id)?).ok();
        lock.as_ref().map_or(Ok(()), |lock| attempt("flock", lock.lock()))?;
        Ok(Home { lock, ..Home::find(id)? })
    }

    fn make(id: &str) -> Result<Home> {
        let dir = Home::dir(id)?;
        let root = dir.parent().unwrap_or(&dir);
        attempt(root.display(), fs::DirBuilder::new().recursive(true).mode(0o711).create(root))?;
        let made = fs::DirBuilder::new().mode(0o700).create(&dir);
        if made.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::AlreadyExists) {
            return Err(error(format!("container with given ID already exists: {id}")));
        }
        attempt(dir.display(), made)?;
        let lock = attempt(dir.display(), File::open(&dir))?;
        attempt("flock", lock.lock())?;
        Ok(Home { dir, state: Value::Null, lock: Some(lock) })
    }

    fn save(&self) -> Result<()> {
        let (new, path) = (self.dir.join("state.json.new"), self.dir.join("state.json"));
        let write =
            || fs::write(&new, self.state.to_string()).and_then(|()| fs::rename(&new, &path));
        step!(write(), "write {}", path.display())
    }

    fn text(&self, key: &str) -> &str {
        self.state[key].as_str().unwrap_or_default()
    }

    fn cgroup(&self) -> Result<PathBuf> {
        let dir = Some(self.text("cgroup")).filter(|dir| !dir.is_empty());
        dir.map(PathBuf::from).ok_or_else(|| error("the container has no cgroup"))
    }

    /// The container's first process, if that is still the one that `create` has started.
    fn first(&self) -> Option<(Pid, OwnedFd)> {
        let pid = self.state["pid"].as_i64()? as i32;
        // SAFETY: integers only.
        let fd = Errno::result(unsafe { syscall(SYS_pidfd_open, pid, 0) }).ok()?;
        // SAFETY: the kernel has just made this descriptor, and nobody else has it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(fd as c_int) };
        let is_same = start_time(pid)? == self.text("startTime");
        is_same.then_some((Pid::from_raw(pid), pidfd))
    }

    fn status(&self) -> &'static str {
        let events = self.cgroup().and_then(|dir| read(dir.join("cgroup.events")));
        match self.first() {
            None => "stopped",
            Some(_) if self.dir.join("start").exists() => "created",
            Some(_) if events.is_ok_and(|events| events.contains("frozen 1")) => "paused",
            Some(_) => "running",
        }
    }

    /// What `state` prints and hooks are given.
    fn report(&self) -> Value {
        let (mut state, status) = (self.state.clone(), self.status());
        state["status"] = status.into();
        if status == "stopped" {
            state["pid"] = 0.into();
        }
        state
    }

    fn spec(&self) -> Result<Spec> {
        let path = self.dir.join("config.json");
        valid(&path, serde_json::from_slice(&bytes_of(&path)?))
    }

    /// Every process in the container's cgroup.
    fn pids(&self) -> Vec<i32> {
        let (mut dirs, mut pids) = (Vec::from_iter(self.cgroup()), vec![]);
        while let Some(dir) = dirs.pop() {
            let text = read(dir.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|pid| pid.parse::<i32>().ok()));
            dirs.extend(children(&dir).into_iter().map(|(child, _)| child));
        }
        pids
    }
}

/// Field 22 of proc_pid_stat(5); none for a zombie, which is as good as gone.
fn start_time(pid: i32) -> Option<String> {
    let stat = read(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(") ")?.1;
    (!fields.starts_with(['Z', 'X'])).then(|| fields.split(' ').nth(19).map(str::to_string))?
}

fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    attempt(path.display(), fs::read(path))
}

fn valid<T>(path: &Path, parsed: serde_json::Result<T>) -> Result<T> {
    parsed.map_err(|why| error(format!("{}: {why}", path.display())))
}

// ---- config.json --------------------------------------------------------------------------------

/// Not supported: a container without it would be weaker, or other, than its author thinks.
const REFUSED: [&str; 4] =
    ["/vm", "/linux/intelRdt", "/linux/timeOffsets", "/linux/seccomp/listenerPath"];

/// Not supported, and only missed.
const IGNORED: &str = "/solaris /windows /zos /process/ioPriority /process/scheduler \
    /process/execCPUAffinity /linux/mountLabel /linux/personality /linux/memoryPolicy \
    /linux/netDevices /linux/resources/network /linux/resources/memory/kernel \
    /linux/resources/memory/kernelTCP /linux/resources/memory/swappiness \
    /linux/resources/memory/disableOOMKiller /linux/resources/cpu/realtimeRuntime \
    /linux/resources/cpu/realtimePeriod /linux/resources/rdma";

/// Absent, or what means the same.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().all(is_nothing),
        Value::Array(list) => list.is_empty(),
        other => [Value::Null, false.into(), 0.into(), (-1).into(), "".into()].contains(other),
    }
}

/// Names what the types of runtime-spec have no place for.
fn find_unknown(given: &Value, known: &Value, path: &str) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            given.iter().for_each(|(key, value)| match known.get(key) {
                Some(known) => find_unknown(value, known, &format!("{path}/{key}")),
                None if is_nothing(value) => {}
                None => warn(format!("config.json: {path}/{key}: unknown, ignored")),
            })
        }
        (Value::Array(given), Value::Array(known)) => {
            given.iter().zip(known).for_each(|(given, known)| find_unknown(given, known, path))
        }
        _ => {}
    }
}

fn read_config(path: &Path) -> Result<Spec> {
    let text = bytes_of(path)?;
    let spec: Spec = valid(path, serde_json::from_slice(&text))?;
    let raw: Value = valid(path, serde_json::from_slice(&text))?;
    let is_set = |field: &&str| raw.pointer(field).is_some_and(|value| !is_nothing(value));
    if let Some(field) = REFUSED.into_iter().find(is_set) {
        return Err(error(format!("config.json: {field}: not supported")));
    }
    let ignored = IGNORED.split_whitespace().filter(is_set);
    ignored.for_each(|field| warn(format!("config.json: {field}: not supported, ignored")));
    find_unknown(&raw, &serde_json::to_value(&spec).unwrap_or_default(), "");
    match spec.process() {
        _ if !spec.version().starts_with("1.") => {
            Err(error("config.json: ociVersion: expected 1.x"))
        }
        None => Err(error("config.json: process: expected")),
        Some(process) => check(process).map(|()| spec),
    }
}

fn check(process: &Process) -> Result<()> {
    if list_of(process.args()).is_empty() || !process.cwd().is_absolute() {
        return Err(error("process: expected args, and an absolute path as cwd"));
    }
    match process.args().iter().chain(process.env()).flatten().any(|text| text.contains('\0')) {
        true => Err(error("process: expected no NUL in args and env")),
        false => Ok(()),
    }
}

fn list_of<T>(list: &Option<Vec<T>>) -> &[T] {
    list.as_deref().unwrap_or_default()
}

// ---- cgroup -------------------------------------------------------------------------------------

/// Below the cgroup2 mount; a user's, below the cgroup that is delegated to them. systemd's form is
/// SLICE:PREFIX:NAME, and a slice "a-b.slice" is in "a.slice".
fn make_cgroup(id: &str, linux: &Linux, limits: &[Knob]) -> Result<Option<Cgroup>> {
    let default = || format!("husk-oci/{id}").into();
    let path = linux.cgroups_path().clone().unwrap_or_else(default);
    let relative = match path.to_string_lossy().split(':').collect::<Vec<_>>()[..] {
        [slice, prefix, name] => {
            let parts: Vec<&str> = slice.trim_end_matches(".slice").split('-').collect();
            let slices = (1..=parts.len()).map(|n| format!("{}.slice", parts[..n].join("-")));
            slices.collect::<PathBuf>().join(format!("{prefix}-{name}.scope"))
        }
        _ => path.iter().filter(|part| *part != "/" && *part != "..").collect(),
    };
    let husk = match husk_cgroup() {
        Err(_) if *ROOTLESS && !limits.iter().any(|limit| limit.3) => return Ok(None),
        husk => husk?,
    };
    let dir = husk.parent().unwrap_or(&husk).join(relative);
    step!(fs::create_dir_all(&dir), "mkdir -p {}", dir.display())?;
    let fd = attempt(dir.display(), File::open(&dir))?;
    if is_populated(&dir) {
        return Err(error(format!("container's cgroup is not empty: {}", dir.display())));
    }
    set_limits(&dir, limits).inspect_err(|_| remove_cgroup(&dir))?;
    opened(dir, fd).map(Some)
}

/// Nothing of the walk's sweeps these cgroups, so the lock is of no use here.
fn opened(dir: PathBuf, fd: File) -> Result<Cgroup> {
    Ok(Cgroup { lock: attempt(dir.display(), fd.try_clone())?, fd, dir })
}

/// A field of config.json; the cgroup file that it stands for; what to write there; and whether it
/// is a limit indeed, which needs that file to exist. The others say what is so anyway.
struct Knob(String, String, String, bool);

fn set_limits(dir: &Path, limits: &[Knob]) -> Result<()> {
    for Knob(_, file, ..) in limits.iter().filter(|knob| !dir.join(&knob.1).exists()) {
        let controller = format!("+{}", file.split('.').next().unwrap_or_default());
        let above: Vec<&Path> = dir.ancestors().skip(1).collect();
        for dir in above.iter().rev().filter(|dir| dir.join("cgroup.subtree_control").exists()) {
            let _ = echo(&controller, dir.join("cgroup.subtree_control"));
        }
    }
    for Knob(field, file, value, is_real) in limits {
        let name = |why| error(format!("linux.resources.{field}: {why}"));
        match dir.join(file).exists() {
            true => echo(value, dir.join(file)).map_err(|Error(_, why)| name(why))?,
            false if *is_real => return Err(name(format!("no {file} in {}", dir.display()))),
            false => {}
        }
    }
    Ok(())
}

/// Numbers that stand for themselves: where in `resources`, and the cgroup file.
const NUMBERS: [(&str, &str); 9] = [
    ("/memory/limit", "memory.max"),
    ("/memory/reservation", "memory.low"),
    ("/memory/swap", "memory.swap.max"),
    ("/cpu/burst", "cpu.max.burst"),
    ("/cpu/idle", "cpu.idle"),
    ("/cpu/shares", "cpu.weight"),
    ("/cpu/cpus", "cpuset.cpus"),
    ("/cpu/mems", "cpuset.mems"),
    ("/pids/limit", "pids.max"),
];

const THROTTLES: [(&str, &str); 4] = [
    ("throttleReadBpsDevice", "rbps"),
    ("throttleWriteBpsDevice", "wbps"),
    ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
];

fn limits(resources: &Value) -> Vec<Knob> {
    let mut found = vec![];
    let mut add = |field: &str, file: &str, value: String| {
        // What podman and containerd ask for where their user did not ask for anything.
        let is_default = [("pids.max", "2048"), ("cpu.weight", "39")].contains(&(file, &value));
        let is_real = !value.starts_with("max") && !is_default;
        found.push(Knob(field.trim_matches('/').replace('/', "."), file.into(), value, is_real));
    };
    let number = |field: &str| resources.pointer(field).and_then(Value::as_i64).unwrap_or(0);
    for (field, file) in NUMBERS {
        let value = match (field, number(field)) {
            ("/cpu/cpus" | "/cpu/mems", _) => {
                resources.pointer(field).and_then(Value::as_str).unwrap_or_default().into()
            }
            (_, 0) => continue,
            (_, i64::MIN..0) => "max".into(),
            // There it is memory and swap together, here swap alone.
            ("/memory/swap", both) => (both - number("/memory/limit").max(0)).max(0).to_string(),
            ("/cpu/shares", shares) => (1 + (shares.max(2) - 2) * 9999 / 262_142).to_string(),
            (_, number) => number.to_string(),
        };
        if !value.is_empty() {
            add(field, file, value);
        }
    }
    let (quota, period) = (number("/cpu/quota"), number("/cpu/period"));
    if quota != 0 || period != 0 {
        let quota = if quota > 0 { quota.to_string() } else { "max".into() };
        let period = if period > 0 { period } else { 100_000 };
        add("cpu.quota", "cpu.max", format!("{quota} {period}"));
    }
    add_lists(resources, &mut add);
    for (file, value) in resources["unified"].as_object().into_iter().flatten() {
        let is_good = file.contains('.') && !file.contains('/') && !file.starts_with("cgroup.");
        let file =
            if is_good { file.clone() } else { format!("(invalid) {}", file.replace('/', "?")) };
        add("unified", &file, value.as_str().unwrap_or_default().into());
    }
    found
}

/// Limits of huge pages and of devices: a list of each.
fn add_lists(resources: &Value, add: &mut impl FnMut(&str, &str, String)) {
    let list = |field: &str| {
        resources.pointer(field).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    for page in list("/hugepageLimits") {
        let file = format!("hugetlb.{}.max", page["pageSize"].as_str().unwrap_or_default());
        add("hugepageLimits", &file, page["limit"].to_string());
    }
    let weight = |weight: i64| 1 + (weight.max(10) - 10) * 9999 / 990;
    if let Some(given @ 1..) = resources.pointer("/blockIO/weight").and_then(Value::as_i64) {
        add("blockIO.weight", "io.weight", weight(given).to_string());
    }
    for device in list("/blockIO/weightDevice") {
        let weight = weight(device["weight"].as_i64().unwrap_or(0));
        let line = format!("{}:{} {weight}", device["major"], device["minor"]);
        add("blockIO.weightDevice", "io.weight", line);
    }
    for (field, key) in THROTTLES {
        for device in list(&format!("/blockIO/{field}")) {
            let line = format!("{}:{} {key}={}", device["major"], device["minor"], device["rate"]);
            add(&format!("blockIO.{field}"), "io.max", line);
        }
    }
}

// ---- create, start, run -------------------------------------------------------------------------

const NAMESPACE_FLAGS: [(LinuxNamespaceType, c_int); 7] = [
    (LinuxNamespaceType::User, CLONE_NEWUSER),
    (LinuxNamespaceType::Mount, CLONE_NEWNS),
    (LinuxNamespaceType::Pid, CLONE_NEWPID),
    (LinuxNamespaceType::Uts, CLONE_NEWUTS),
    (LinuxNamespaceType::Ipc, CLONE_NEWIPC),
    (LinuxNamespaceType::Network, CLONE_NEWNET),
    (LinuxNamespaceType::Cgroup, CLONE_NEWCGROUP),
];

/// All that the child needs to become the container.
struct Plan<'a> {
    spec: &'a Spec,
    linux: Linux,
    process: &'a Process,
    state: Value,
    bundle: PathBuf,
    rootfs: PathBuf,
    new: c_int,                 // namespaces to make
    joined: Vec<(c_int, File)>, // namespaces to join
    cgroup: Option<PathBuf>,
    console: Option<UnixStream>,
    fifo: File,
    lock: RawFd,
    preserved: u32,
}

fn namespaces(linux: &Linux) -> Result<(c_int, Vec<(c_int, File)>)> {
    let (mut new, mut joined) = (0, vec![]);
    for namespace in list_of(linux.namespaces()) {
        let name = |why: &str| error(format!("linux.namespaces: {}: {why}", namespace.typ()));
        let known = NAMESPACE_FLAGS.iter().find(|(typ, _)| *typ == namespace.typ());
        let flag = known.ok_or_else(|| name("not supported"))?.1;
        if new & flag != 0 || joined.iter().any(|(other, _)| *other == flag) {
            return Err(name("there are two of them"));
        }
        match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            None => new |= flag,
            Some(_) if flag & (CLONE_NEWNS | CLONE_NEWUSER) != 0 => {
                return Err(name("joining one by its path is not supported"));
            }
            Some(path) => joined.push((flag, attempt(path.display(), File::open(path))?)),
        }
    }
    let is_good = new & CLONE_NEWNS != 0;
    is_good.then_some((new, joined)).ok_or_else(|| error("linux.namespaces: expected mount"))
}

fn create_command(id: &str, given: &Given, is_run: bool) -> Result<u8> {
    Home::dir(id)?; // before anything else, is that a name?
    let bundle = given.get("bundle").unwrap_or(".");
    let bundle = attempt(bundle, fs::canonicalize(bundle))?;
    let config = bundle.join("config.json");
    let spec = read_config(&config)?;
    let mut home = Home::make(id)?;
    home.state = json!({"ociVersion": "1.2.0", "id": id, "bundle": bundle, "created": now(),
        "annotations": spec.annotations().clone().unwrap_or_default()});
    let copy = attempt("config.json", fs::copy(&config, home.dir.join("config.json")));
    let child = copy.and_then(|_| create(&mut home, &spec, given, is_run));
    let child = child.inspect_err(|_| remove(&home, &spec))?;
    if !is_run {
        return Ok(0);
    }
    let terminal = if given.has("detach") { None } else { hand_over_terminal(child.pid) };
    let status = start(&home).and_then(|_| match given.has("detach") {
        true => Ok(0),
        false => wait(child.pid, &terminal),
    });
    terminal.iter().for_each(take_back_terminal);
    if !given.has("detach") || status.is_err() {
        remove(&home, &spec);
    }
    // What the child says after the start is why it could not become the command.
    hear(&child.socket).and(status)
}

fn create(home: &mut Home, spec: &Spec, given: &Given, is_run: bool) -> Result<Child> {
    let process = spec.process().as_ref().ok_or_else(|| error("process: expected"))?;
    let root = spec.root().as_ref().ok_or_else(|| error("config.json: root: expected"))?;
    let bundle = PathBuf::from(home.text("bundle"));
    let rootfs = bundle.join(root.path());
    let rootfs = attempt(format!("root.path {}", rootfs.display()), fs::canonicalize(&rootfs))?;
    let linux = spec.linux().clone().unwrap_or_default();
    let (new, joined) = namespaces(&linux)?;
    let is_detached = !is_run || given.has("detach");
    let console = console(given, process.terminal() == Some(true), is_detached)?;
    let path = home.dir.join("start");
    step!(unistd::mkfifo(&path, stat::Mode::S_IRWXU), "mkfifo {}", path.display())?;
    // Open for reading and writing, a FIFO never waits for the other side.
    let fifo = attempt("start", File::options().read(true).write(true).open(&path))?;
    let resources = serde_json::to_value(linux.resources()).unwrap_or_default();
    let cgroup = make_cgroup(home.text("id"), &linux, &limits(&resources))?;
    home.state["rootfs"] = json!(rootfs);
    home.state["cgroup"] = json!(cgroup.as_ref().map(|cgroup| &cgroup.dir));
    let lock = home.lock.as_ref().map_or(-1, |lock| lock.as_raw_fd());
    let (state, dir) = (home.state.clone(), cgroup.as_ref().map(|cgroup| cgroup.dir.clone()));
    let preserved = given.preserved()?;
    let plan = Plan {
        spec,
        linux,
        process,
        state,
        bundle,
        rootfs,
        new,
        joined,
        cgroup: dir,
        console,
        fifo,
        lock,
        preserved,
    };
    let child = clone_into(&plan, cgroup.as_ref())?;
    let done = finish(home, &plan, &child, given.get("pid-file"));
    done.inspect_err(|_| {
        let _ = signal::kill(child.pid, Signal::SIGKILL);
    })?;
    Ok(child)
}

/// Only children enter a pid namespace that was joined; the caller must be back in its own before
/// it starts any other.
fn clone_into(plan: &Plan, cgroup: Option<&Cgroup>) -> Result<Child> {
    let pid = CloneFlags::CLONE_NEWPID;
    let joins_pid = plan.joined.iter().find(|(flag, _)| *flag == CLONE_NEWPID);
    if let Some((_, file)) = joins_pid {
        // Those who are there already must not trace husk, or look into its /proc/PID.
        attempt("prctl PR_SET_DUMPABLE", prctl::set_dumpable(false))?;
        step!(setns(file, pid), "nsenter --pid")?;
    }
    let child = spawn(plan.new & !CLONE_NEWCGROUP, cgroup, |parent| become_container(plan, parent));
    if joins_pid.is_some() {
        let own = attempt("/proc/self/ns/pid", File::open("/proc/self/ns/pid"))?;
        step!(setns(own, pid), "nsenter --pid (back)")?;
    }
    child
}

/// The parent's half of the creation, hand in hand with `become_container`.
fn finish(home: &mut Home, p: &Plan, child: &Child, pid_file: Option<&str>) -> Result<()> {
    let heard = || match hear(&child.socket)? {
        true => Ok(()),
        false => Err(error("the container's first process is gone")),
    };
    let pid = child.pid.as_raw();
    home.state["pid"] = pid.into();
    home.state["startTime"] = start_time(pid).into();
    if p.new & CLONE_NEWUSER != 0 {
        if !unistd::geteuid().is_root() {
            echo("deny", format!("/proc/{pid}/setgroups"))?;
        }
        for (name, maps) in [("uid", p.linux.uid_mappings()), ("gid", p.linux.gid_mappings())] {
            let line = |map: &LinuxIdMapping| {
                format!("{} {} {}\n", map.container_id(), map.host_id(), map.size())
            };
            let lines: String = list_of(maps).iter().map(line).collect();
            echo(&lines, format!("/proc/{pid}/{name}_map"))?;
        }
        tell(&child.socket);
    }
    heard()?;
    let mut state = home.state.clone();
    state["status"] = "creating".into();
    if let Some(hooks) = p.spec.hooks() {
        #[allow(deprecated)] // but docker still uses it
        run_hooks("prestart", hooks.prestart(), &state)?;
        run_hooks("createRuntime", hooks.create_runtime(), &state)?;
    }
    tell(&child.socket);
    heard()?;
    home.save()?;
    let write = |path: &str| {
        let new = format!("{path}.new");
        fs::write(&new, pid.to_string()).and_then(|()| fs::rename(new, path))
    };
    pid_file.map_or(Ok(()), |path| step!(write(path), "echo {pid} > {path}"))
}

/// One side's word to the other that it may go on.
fn tell(socket: &UnixStream) {
    let _ = socket::send(socket.as_raw_fd(), &[0], MsgFlags::MSG_NOSIGNAL);
}

/// Waits for that word; anything longer is the child's error, and false its end.
fn hear(socket: &UnixStream) -> Result<bool> {
    let mut text = [0; 4096];
    match socket::recv(socket.as_raw_fd(), &mut text, MsgFlags::empty()) {
        Ok(n) if n > 1 => Err(Error(text[0], String::from_utf8_lossy(&text[1..n]).into())),
        other => Ok(other == Ok(1)),
    }
}

fn start(home: &Home) -> Result<u8> {
    let status = home.status();
    if status != "created" {
        return Err(error(format!("cannot start a container in the {status} state")));
    }
    let path = home.dir.join("start");
    let open = || File::options().write(true).custom_flags(O_NONBLOCK).open(&path);
    let write = || open()?.write_all(&[0]).and_then(|()| fs::remove_file(&path));
    step!(write(), "echo > {}", path.display())?;
    if let Some(hooks) = home.spec()?.hooks() {
        let outcome = run_hooks("poststart", hooks.poststart(), &home.report());
        outcome.unwrap_or_else(|Error(_, why)| warn(why));
    }
    Ok(0)
}

/// State JSON on standard input, and nothing of the caller's environment.
fn run_hooks(kind: &str, hooks: &Option<Vec<Hook>>, state: &Value) -> Result<()> {
    for hook in list_of(hooks) {
        let what = format!("{kind} hook {}", hook.path().display());
        let mut input =
            attempt(&what, memfd_create("state", MFdFlags::MFD_CLOEXEC).map(File::from))?;
        let write = |mut input: &File| input.write_all(state.to_string().as_bytes());
        attempt(&what, write(&input).and_then(|()| io::Seek::rewind(&mut input)))?;
        let mut command = Command::new(hook.path());
        if let [name, rest @ ..] = list_of(hook.args()) {
            command.arg0(name).args(rest);
        }
        let pairs = list_of(hook.env()).iter().filter_map(|pair| pair.split_once('='));
        command.env_clear().envs(pairs).stdin(input).stdout(Stdio::null());
        let mut child = step!(command.spawn(), "{what}")?;
        let limit = hook.timeout().map(|seconds| Duration::from_secs(seconds.max(0) as u64));
        let start = Instant::now();
        while limit.is_some() && attempt(&what, child.try_wait())?.is_none() {
            if limit.is_some_and(|limit| start.elapsed() > limit) {
                let _ = child.kill();
                return Err(error(format!("{what}: timeout")));
            }
            thread::sleep(Duration::from_millis(2));
        }
        let status = attempt(&what, child.wait())?;
        if !status.success() {
            return Err(error(format!("{what}: {status}")));
        }
    }
    Ok(())
}

// ---- the child: namespaces and the root file system ---------------------------------------------

fn become_container(p: &Plan, parent: &UnixStream) -> Result<Infallible> {
    // SAFETY: our copy of the lock, which nothing uses here; else we would hold it for ever.
    unsafe { close(p.lock) };
    if p.new & CLONE_NEWUSER != 0 {
        hear(parent)?; // the parent has written our ids
        become_root()?;
    }
    for (flag, file) in p.joined.iter().filter(|(flag, _)| *flag != CLONE_NEWPID) {
        let flag = CloneFlags::from_bits_retain(*flag);
        step!(setns(file, flag), "nsenter {flag:?}")?;
    }
    if p.new & CLONE_NEWCGROUP != 0 {
        step!(unshare(CloneFlags::CLONE_NEWCGROUP), "unshare --cgroup")?;
    }
    if p.new & CLONE_NEWNET != 0 {
        step!(netlink(RTM_SETLINK, &link("lo", IFF_UP, &[])), "ip link set lo up")?;
    }
    set_names(p)?;
    let oom = "/proc/self/oom_score_adj";
    if let Some(score) = p.process.oom_score_adj().map(|score| score.to_string())
        && read(oom)?.trim() != score
    {
        echo(&score, oom)?;
    }
    label(p.process)?;
    stat::umask(stat::Mode::empty());
    let root = build_root(p)?;
    tell(parent);
    if !hear(parent)? {
        return Err(error("the parent is gone"));
    }
    let mut state = p.state.clone();
    (state["pid"], state["status"]) = (unistd::getpid().as_raw().into(), "creating".into());
    let hooks = p.spec.hooks().clone().unwrap_or_default();
    run_hooks("createContainer", hooks.create_container(), &state)?;
    attempt(p.process.cwd().display(), inside(&root, p.process.cwd(), Some(true)))?;
    change_root(p, &root)?;
    if let Some(console) = &p.console {
        open_terminal(p.process, console, true)?;
    }
    enter(p.process, p.linux.seccomp().as_ref(), p.preserved, || {
        tell(parent);
        let mut fifo = &p.fifo;
        attempt("start", fifo.read_exact(&mut [0]))?;
        state["status"] = "created".into();
        run_hooks("startContainer", hooks.start_container(), &state)
    })
}

fn become_root() -> Result<()> {
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    step!(unistd::setresgid(gid, gid, gid), "setpriv --regid 0")?;
    step!(unistd::setresuid(uid, uid, uid), "setpriv --reuid 0")
}

/// Host name, domain name, sysctls: only what a namespace of its own keeps away from the host.
fn set_names(p: &Plan) -> Result<()> {
    let has = |flag| p.new & flag != 0 || p.joined.iter().any(|(other, _)| *other == flag);
    let names =
        [p.spec.hostname(), p.spec.domainname()].map(|name| name.clone().unwrap_or_default());
    if !has(CLONE_NEWUTS) && !names.concat().is_empty() {
        return Err(error("hostname: expected a uts namespace"));
    }
    let [host, domain] = &names;
    if !host.is_empty() {
        step!(unistd::sethostname(host), "hostname {host}")?;
    }
    if !domain.is_empty() {
        // SAFETY: the kernel reads as many bytes as there are.
        let set = Errno::result(unsafe { setdomainname(domain.as_ptr().cast(), domain.len()) });
        step!(set, "domainname {domain}")?;
    }
    let ipc =
        ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    for (key, value) in p.linux.sysctl().iter().flatten() {
        let path = key.replace('.', "/");
        let is_own = match path.split_once('/') {
            Some(("net", _)) => has(CLONE_NEWNET),
            Some(("kernel", name)) => has(CLONE_NEWIPC) && ipc.contains(&name),
            Some(("fs", name)) => has(CLONE_NEWIPC) && name.starts_with("mqueue/"),
            _ => false,
        };
        if !is_own {
            return Err(error(format!("linux.sysctl.{key}: not in a namespace of its own")));
        }
        echo(value, format!("/proc/sys/{path}"))?;
    }
    // A session keyring of our own: the caller's stays his.
    // SAFETY: without a name, KEYCTL_JOIN_SESSION_KEYRING (1) takes integers only.
    unsafe { syscall(SYS_keyctl, 1, 0) };
    Ok(())
}

/// For the exec that follows; so early because the host's /proc can be trusted.
fn label(process: &Process) -> Result<()> {
    let given = |label: &Option<String>| label.clone().filter(|text| !text.is_empty());
    if let Some(profile) = given(process.apparmor_profile()).filter(|name| name != "unconfined") {
        echo(&format!("exec {profile}"), "/proc/self/attr/apparmor/exec")?;
    }
    given(process.selinux_label()).map_or(Ok(()), |label| echo(&label, "/proc/self/attr/exec"))
}

/// The words of fstab(5) that are flags; all others are the file system's own.
const FLAGS: [(&str, MsFlags); 11] = [
    ("ro", MsFlags::MS_RDONLY),
    ("nosuid", MsFlags::MS_NOSUID),
    ("nodev", MsFlags::MS_NODEV),
    ("noexec", MsFlags::MS_NOEXEC),
    ("rbind", MsFlags::MS_BIND.union(MsFlags::MS_REC)),
    ("bind", MsFlags::MS_BIND),
    ("sync", MsFlags::MS_SYNCHRONOUS),
    ("noatime", MsFlags::MS_NOATIME),
    ("nodiratime", MsFlags::MS_NODIRATIME),
    ("relatime", MsFlags::MS_RELATIME),
    ("strictatime", MsFlags::MS_STRICTATIME),
];

const PROPAGATIONS: [(&str, MsFlags); 4] = [
    ("private", MsFlags::MS_PRIVATE),
    ("slave", MsFlags::MS_SLAVE),
    ("shared", MsFlags::MS_SHARED),
    ("unbindable", MsFlags::MS_UNBINDABLE),
];

fn propagation(word: &str) -> Option<MsFlags> {
    let find = |word| PROPAGATIONS.iter().find(|(name, _)| *name == word).map(|(_, flag)| *flag);
    find(word).or_else(|| Some(find(word.strip_prefix('r')?)? | MsFlags::MS_REC))
}

/// A mount's options: flags, propagation, and the rest.
fn options_of(m: &Mount, devices: bool) -> Result<(MsFlags, Option<MsFlags>, String)> {
    let is_bind = m.typ().as_deref() == Some("bind");
    let mut flags = if is_bind { MsFlags::MS_BIND } else { MsFlags::empty() };
    let (mut spreads, mut data) = (None, vec![]);
    let find = |word: &str| FLAGS.iter().find(|(name, _)| *name == word).map(|(_, flag)| *flag);
    for word in list_of(m.options()) {
        let opposite = match word.as_str() {
            "rw" => "ro".into(),
            word => word.strip_prefix("no").map_or(format!("no{word}"), str::to_string),
        };
        let recursive = word.strip_prefix('r').and_then(find);
        match word.as_str() {
            "idmap" | "ridmap" => return Err(error(format!("{word}: not supported"))),
            "tmpcopyup" => warn(format!("mounts: {}: {word}: ignored", m.destination().display())),
            "defaults" | "async" | "loud" | "silent" | "mand" | "rrw" => {}
            word if let Some(flag) = find(word).or(recursive) => flags |= flag,
            word if let Some(flag) = propagation(word) => spreads = Some(flag),
            _ if let Some(flag) = find(&opposite) => flags -= flag,
            other => data.push(other),
        }
    }
    if m.uid_mappings().is_some() || m.gid_mappings().is_some() {
        return Err(error("uidMappings: not supported"));
    }
    let is_safe = devices || m.typ().as_deref() == Some("devpts");
    let nodev = if is_safe { MsFlags::empty() } else { MsFlags::MS_NODEV };
    Ok((flags | nodev, spreads, data.join(",")))
}

/// The propagation of a mount, and perhaps those below it, that is attached nowhere yet.
fn spread(tree: &OwnedFd, how: MsFlags) -> Result<()> {
    // struct mount_attr: what to set, to clear, propagation, user namespace.
    let attr = [0, 0, (how - MsFlags::MS_REC).bits(), 0];
    let all = if how.contains(MsFlags::MS_REC) { AT_RECURSIVE } else { 0 } | AT_EMPTY_PATH;
    let (fd, empty, size) = (tree.as_raw_fd(), c"".as_ptr(), mem::size_of_val(&attr));
    // SAFETY: `attr` is a mount_attr of that size, and outlives the call.
    let call = || Errno::result(unsafe { syscall(SYS_mount_setattr, fd, empty, all, &attr, size) });
    step!(call(), "mount --make-... ({how:?})").map(drop)
}

/// Opens, and if `is_dir` says what is missing makes, a path below the new root. The kernel lets
/// neither a symlink nor `..` lead out of it.
fn inside(root: &OwnedFd, path: &Path, is_dir: Option<bool>) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    let is_dir = match (fcntl::openat2(root, path, how), is_dir) {
        (Err(Errno::ENOENT), Some(is_dir)) => is_dir,
        (found, _) => return found,
    };
    let (above, name) = path.parent().zip(path.file_name()).ok_or(Errno::ENOENT)?;
    let above = if above == "" { Path::new("/") } else { above };
    let parent = inside(root, above, Some(true))?;
    let new = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let made = match is_dir {
        true => stat::mkdirat(&parent, name, stat::Mode::from_bits_retain(0o755)),
        false => fcntl::openat(&parent, name, new, stat::Mode::from_bits_retain(0o644)).map(drop),
    };
    match made {
        // A symlink to what is missing.
        Err(Errno::EEXIST) => {
            let link = fcntl::readlinkat(&parent, name)?;
            inside(root, &above.join(link), Some(is_dir))
        }
        made => made.and_then(|()| fcntl::openat2(root, path, how)),
    }
}

fn by_number(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

fn is_dir(fd: &OwnedFd) -> bool {
    stat::fstat(fd).is_ok_and(|meta| meta.st_mode & S_IFMT == S_IFDIR)
}

/// Everything is mounted below the root while the host can still be seen, as hooks expect it; but
/// each target is opened first, by a path that cannot leave the root, and mounted on by its number.
fn build_root(p: &Plan) -> Result<OwnedFd> {
    let devices = allows(&p.linux, 'a', -1, -1) == Some(true);
    let name =
        |m: &Mount, Error(_, why)| error(format!("mounts: {}: {why}", m.destination().display()));
    // The sources of binds, while mounts of the host still spread to us.
    let mut mounts = vec![];
    for m in list_of(p.spec.mounts()) {
        let options = options_of(m, devices).map_err(|why| name(m, why))?;
        let tree = match options.0.contains(MsFlags::MS_BIND) {
            true => Some(bind_source(p, m, options.0, options.1).map_err(|why| name(m, why))?),
            false => None,
        };
        mounts.push((m, options, tree));
    }
    let nodev = if devices { MsFlags::empty() } else { MsFlags::MS_NODEV };
    let tree = clone_tree(&p.rootfs, MsFlags::MS_REC | nodev)?;
    let wanted = propagation(p.linux.rootfs_propagation().as_deref().unwrap_or("private"));
    let is_private = wanted.is_none_or(|flags| flags.contains(MsFlags::MS_PRIVATE));
    let own = if is_private { MsFlags::MS_PRIVATE } else { MsFlags::MS_SLAVE };
    spread(&tree, own | MsFlags::MS_REC)?;
    let slave = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    step!(mount(NONE, "/", NONE, slave, NONE), "mount --make-rslave /")?;
    place(&tree, &p.rootfs)?;
    let how = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = attempt("root.path", fcntl::open(&p.rootfs, how, stat::Mode::empty()))?;
    let mut has_dev = false;
    for (m, (flags, spreads, data), tree) in mounts {
        has_dev |= tree.is_some() && m.destination() == "/dev";
        mount_one(p, &root, m, flags, &data, tree).map_err(|why| name(m, why))?;
        if let (Some(how), false) = (spreads, flags.contains(MsFlags::MS_BIND)) {
            let top = attempt("open", inside(&root, m.destination(), None))?;
            step!(mount(NONE, &by_number(&top), NONE, how, NONE), "mount --make-... ({how:?})")?;
        }
    }
    if !has_dev {
        make_devices(p, &root)?;
    }
    cover(p, &root).map(|()| root)
}

fn bind_source(p: &Plan, m: &Mount, flags: MsFlags, spreads: Option<MsFlags>) -> Result<OwnedFd> {
    let source = m.source().as_ref().ok_or_else(|| error("source: expected"))?;
    let tree = clone_tree(&p.bundle.join(source), flags)?;
    spread(&tree, spreads.unwrap_or(MsFlags::MS_PRIVATE | MsFlags::MS_REC))?;
    Ok(tree)
}

fn mount_one(
    p: &Plan,
    root: &OwnedFd,
    m: &Mount,
    flags: MsFlags,
    data: &str,
    tree: Option<OwnedFd>,
) -> Result<()> {
    let is_dir = tree.as_ref().is_none_or(is_dir);
    let target = attempt("open", inside(root, m.destination(), Some(is_dir)))?;
    let (at, fstype) = (by_number(&target), m.typ().as_deref().unwrap_or("none"));
    let has_own = p.new & CLONE_NEWCGROUP != 0;
    let tree = match (fstype, &p.cgroup) {
        _ if tree.is_some() => tree,
        // Without a cgroup namespace a new mount would show all of the host's.
        ("cgroup" | "cgroup2", Some(own)) if !has_own => Some(clone_tree(own, flags)?),
        ("sysfs", _) if *ROOTLESS && p.new & CLONE_NEWNET == 0 => {
            Some(clone_tree("/sys".as_ref(), MsFlags::MS_REC | flags)?)
        }
        _ => None,
    };
    if let Some(tree) = tree {
        return place(&tree, &at);
    }
    let is_cgroup = fstype == "cgroup" || fstype == "cgroup2";
    let (fstype, data) = if is_cgroup { ("cgroup2", "") } else { (fstype, data) };
    let source = m.source().as_deref().unwrap_or(Path::new(fstype));
    let call = || mount(Some(source), &at, Some(fstype), flags, Some(data));
    step!(call(), "mount -t {fstype} -o {data} {}", source.display())
}

/// The rules of the device cgroup that there is not: a node that they close is bound nodev.
fn allows(linux: &Linux, kind: char, major: i64, minor: i64) -> Option<bool> {
    let rules = linux.resources().as_ref().and_then(|all| all.devices().clone());
    let fits = |rule: Option<i64>, own| rule.is_none_or(|number| number < 0 || number == own);
    let last = rules.unwrap_or_default().into_iter().rfind(|rule| {
        let typ = rule.typ().map_or("a".into(), |typ| typ.as_str().to_string());
        let is_used = rule.access().as_deref().is_none_or(|access| access.contains(['r', 'w']));
        let is_kind = typ == "a" || typ.starts_with(kind);
        is_used && is_kind && fits(rule.major(), major) && fits(rule.minor(), minor)
    });
    last.map(|rule| rule.allow())
}

/// The nodes that every container has, those of config.json, and the usual links.
fn make_devices(p: &Plan, root: &OwnedFd) -> Result<()> {
    let own = DEVICES.split(' ').map(|name| PathBuf::from(format!("/dev/{name}")));
    let mut nodes: Vec<_> = own.map(|path| (path.clone(), path, MsFlags::empty())).collect();
    for device in list_of(p.linux.devices()) {
        let (kind, dir) = match device.typ() {
            LinuxDeviceType::B => (S_IFBLK, "block"),
            LinuxDeviceType::P => (S_IFIFO, "char"),
            _ => (S_IFCHR, "char"),
        };
        let (path, major, minor) = (device.path(), device.major(), device.minor());
        let number = stat::makedev(major as u64, minor as u64);
        let is_it = |path: &PathBuf| {
            stat::stat(path).is_ok_and(|it| it.st_rdev == number && it.st_mode & S_IFMT == kind)
        };
        let is_open = allows(&p.linux, dir.chars().next().unwrap_or('c'), major, minor);
        let nodev = if is_open != Some(false) { MsFlags::empty() } else { MsFlags::MS_NODEV };
        let places = [path.clone(), format!("/dev/{dir}/{major}:{minor}").into()];
        if let Some(node) = places.into_iter().find(|path| kind != S_IFIFO && is_it(path)) {
            nodes.push((path.clone(), node, nodev));
            continue;
        }
        let (above, name) = path.parent().zip(path.file_name()).unwrap_or((path, "".as_ref()));
        let above = attempt(path.display(), inside(root, above, Some(true)))?;
        let mode = stat::Mode::from_bits_retain(device.file_mode().unwrap_or(0o666) & 0o777);
        let kind = stat::SFlag::from_bits_retain(kind);
        warn(format!("linux.devices: {}: not on the host, can't be opened", path.display()));
        match stat::mknodat(&above, name, kind, mode, number) {
            Err(Errno::EEXIST) => {}
            made => step!(made, "mknod {}", path.display())?,
        }
    }
    for (path, node, nodev) in nodes {
        // Read-only: a chmod or chown in the container must not reach the host's own node.
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | nodev;
        let target = attempt(path.display(), inside(root, &path, Some(false)))?;
        place(&clone_tree(&node, flags)?, &by_number(&target))?;
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

/// Masked paths are covered by something empty, read-only ones by themselves.
fn cover(p: &Plan, root: &OwnedFd) -> Result<()> {
    let read_only = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let masked = list_of(p.linux.masked_paths()).iter().map(|path| (path, true));
    let shown = list_of(p.linux.readonly_paths()).iter().map(|path| (path, false));
    for (path, is_masked) in shown.chain(masked) {
        let target = match inside(root, path.as_ref(), None) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            found => attempt(path, found)?,
        };
        let at = by_number(&target);
        let tree = match (is_masked, is_dir(&target)) {
            (true, true) => {
                let (at, options) = (at.display().to_string(), "ro,nosuid,nodev,noexec,size=4k");
                mount_line("tmpfs", &at, "tmpfs", options)?;
                continue;
            }
            (true, false) => clone_tree("/dev/null".as_ref(), read_only)?,
            (false, _) => clone_tree(&at, MsFlags::MS_REC | MsFlags::MS_RDONLY)?,
        };
        place(&tree, &at)?;
    }
    Ok(())
}

fn change_root(p: &Plan, root: &OwnedFd) -> Result<()> {
    step!(unistd::fchdir(root), "cd {}", p.rootfs.display())?;
    step!(unistd::pivot_root(".", "."), "pivot_root . .")?;
    step!(umount2(".", MntFlags::MNT_DETACH), "umount --lazy .")?;
    step!(unistd::chdir("/"), "cd /")?;
    if let Some(flags) = p.linux.rootfs_propagation().as_deref().and_then(propagation) {
        step!(mount(NONE, "/", NONE, flags, NONE), "mount --make-... ({flags:?}) /")?;
    }
    if p.spec.root().as_ref().is_some_and(|root| root.readonly() == Some(true)) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
        step!(mount(NONE, "/", NONE, flags, NONE), "mount -o remount,bind,ro,nodev /")?;
    }
    Ok(())
}

// ---- the process: terminal, rights, exec --------------------------------------------------------

/// `ready` is called when hardly anything but the exec can fail any more.
fn enter(
    process: &Process,
    profile: Option<&LinuxSeccomp>,
    preserved: u32,
    ready: impl FnOnce() -> Result<()>,
) -> Result<Infallible> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC);
    let how = how.resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let workdir = fcntl::openat2(fcntl::AT_FDCWD, process.cwd(), how);
    let workdir = attempt(format_args!("process.cwd {}", process.cwd().display()), workdir)?;
    for limit in list_of(process.rlimits()) {
        let (rlim_cur, rlim_max) = (limit.soft(), limit.hard());
        let value = rlimit { rlim_cur, rlim_max };
        // SAFETY: the kernel reads one rlimit. Its numbers follow the order of these names.
        let set = Errno::result(unsafe { setrlimit(limit.typ() as u32, &value) });
        step!(set, "process.rlimits: {} {rlim_cur}:{rlim_max}", limit.typ())?;
    }
    let filter = profile.map(seccomp).transpose()?.unwrap_or_default();
    let is_bound = process.no_new_privileges() == Some(true);
    if !is_bound {
        install(&filter)?; // needs a capability that is about to go
    }
    become_user(process)?;
    step!(unistd::fchdir(&workdir), "cd {}", process.cwd().display())?;
    let mut env: Vec<CString> = list_of(process.env()).iter().map(c_string).collect();
    if !env.iter().any(|pair| pair.as_bytes().starts_with(b"HOME=")) {
        env.push(c_string(format!("HOME={}", home_of(process.user().uid()))));
    }
    let args: Vec<CString> = list_of(process.args()).iter().map(c_string).collect();
    let program = find_program(&list_of(process.args())[0], &env)?;
    ready()?;
    if is_bound {
        step!(prctl::set_no_new_privs(), "setpriv --no-new-privs")?;
        install(&filter)?;
    }
    // SAFETY: integers only; whatever is open from there on closes when exec succeeds.
    unsafe { syscall(SYS_close_range, 3 + preserved, c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    let _ = SigSet::empty().thread_set_mask();
    let Err(errno) = unistd::execve(&c_string(&program), &args, &env);
    Err(error(format!("exec {}: {}", program.display(), errno.desc())))
}

/// In runc's words, from which docker and podman read the exit statuses 126 and 127.
fn find_program(name: &str, env: &[CString]) -> Result<PathBuf> {
    let is_program = |path: &Path| {
        unistd::access(path, unistd::AccessFlags::X_OK)?;
        if path.is_dir() { Err(Errno::EACCES) } else { Ok(()) }
    };
    if name.contains('/') {
        let why = |errno: Errno| error(format!("exec: {name:?}: {}", errno.desc().to_lowercase()));
        return is_program(name.as_ref()).map(|()| name.into()).map_err(why);
    }
    let path = env.iter().find_map(|pair| pair.to_str().ok()?.strip_prefix("PATH="));
    let mut found = path.unwrap_or_default().split(':').map(|dir| Path::new(dir).join(name));
    let found = found.find(|path| !name.is_empty() && is_program(path).is_ok());
    found.ok_or_else(|| error(format!("exec: {name:?}: executable file not found in $PATH")))
}

fn home_of(uid: u32) -> String {
    let file = File::options().read(true).custom_flags(O_NONBLOCK).open("/etc/passwd");
    let text = file.and_then(io::read_to_string).unwrap_or_default();
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines.find(|fields| fields.len() > 5 && fields[2] == uid.to_string());
    line.map_or("/".into(), |fields| fields[5].into())
}

/// Capabilities, groups and ids, in the only order that works.
fn become_user(process: &Process) -> Result<()> {
    let bits = |set: &Option<Capabilities>| -> u64 {
        set.iter().flatten().filter_map(|one| capability(&one.to_string())).sum()
    };
    let sets = process.capabilities().as_ref();
    let mut kept = 0;
    let bounding = sets.map_or(0, |sets| bits(sets.bounding()));
    for number in 0..63 {
        let action = if bounding >> number & 1 == 1 { PR_CAPBSET_READ } else { PR_CAPBSET_DROP };
        // SAFETY: prctl(2) takes numbers here, and changes nothing in memory.
        match Errno::result(unsafe { libc::prctl(action, number, 0, 0, 0) }) {
            Err(Errno::EINVAL) => break, // past the last that this kernel knows
            held => kept |= (attempt("setpriv --bounding-set", held)? as u64) << number,
        }
    }
    if kept != bounding {
        warn(format!("process.capabilities: 0x{:x}: not held, so not given", bounding & !kept));
    }
    let user = process.user();
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    let groups = list_of(user.additional_gids()).iter().map(|gid| Gid::from_raw(*gid));
    let groups = groups.collect::<Vec<_>>();
    if !groups.is_empty() || !read("/proc/self/setgroups").is_ok_and(|word| word.trim() == "deny") {
        step!(unistd::setgroups(&groups), "setpriv --groups {groups:?}")?;
    }
    step!(unistd::setresgid(gid, gid, gid), "setpriv --regid {gid}")?;
    attempt("prctl PR_SET_KEEPCAPS", prctl::set_keepcaps(true))?;
    step!(unistd::setresuid(uid, uid, uid), "setpriv --reuid {uid}")?;
    stat::umask(stat::Mode::from_bits_retain(user.umask().unwrap_or(0o022)));
    let Some(sets) = sets else { return Ok(()) };
    let held = [sets.effective(), sets.permitted(), sets.inheritable()].map(|set| bits(set) & kept);
    let wanted = [held[0] & held[1], held[1], held[2]];
    // Version 3, this thread; then effective, permitted and inheritable, low halves first.
    let (header, data) =
        ([0x2008_0522_u32, 0], [0, 32].map(|n| wanted.map(|set| (set >> n) as u32)));
    // SAFETY: both arrays are laid out as capset(2) says for version 3, and outlive the call.
    let capset = || Errno::result(unsafe { syscall(SYS_capset, &header, &data) });
    step!(capset(), "capset {wanted:x?}")?;
    let ambient = bits(sets.ambient()) & held[1] & held[2];
    for number in (0..63).filter(|number| ambient >> number & 1 == 1) {
        // SAFETY: integers only.
        let raise = unsafe { libc::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0) };
        attempt("setpriv --ambient-caps", Errno::result(raise))?;
    }
    Ok(())
}

/// The profile as a program for the kernel's BPF machine, like the walk's. Rules that look at
/// arguments come first; names that this machine has no number for can't be called.
fn seccomp(profile: &LinuxSeccomp) -> Result<Vec<sock_filter>> {
    let answer = |action: LinuxSeccompAction, errno| bpf(BPF_RET, action.as_u32(errno), 0, 0);
    let mut rules: Vec<&LinuxSyscall> = list_of(profile.syscalls()).iter().collect();
    rules.sort_by_key(|rule| list_of(rule.args()).is_empty());
    if rules.iter().any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify) {
        return Err(error("linux.seccomp: SCMP_ACT_NOTIFY: not supported"));
    }
    let number = |name: &String| Some(syscalls::Sysno::from_str(name).ok()?.id() as u32);
    let last = rules.iter().flat_map(|rule| rule.names()).filter_map(number).max();
    let load = |at| bpf(BPF_LD | BPF_W | BPF_ABS, at, 0, 0);
    let mut filter = vec![load(4), bpf(BPF_JMP | BPF_JEQ, AUDIT_ARCH, 1, 0), UNKNOWN, load(0)];
    // Above what the profile's author knew there are only newer calls, and another ABI's.
    let last = last.unwrap_or(0).max(SYS_mseal as u32);
    filter.extend([bpf(BPF_JMP | BPF_JGT, last, 0, 1), UNKNOWN]);
    for rule in rules {
        let (args, mut body) = (list_of(rule.args()), vec![]);
        for (n, arg) in args.iter().enumerate() {
            // A failure skips the other arguments and the answer.
            body.extend(compare(arg, (args.len() - n - 1) * 7 + 1));
        }
        body.push(answer(rule.action(), rule.errno_ret()));
        if !args.is_empty() {
            body.push(load(0)); // the number again, for the next rule
        }
        for number in rule.names().iter().filter_map(number) {
            filter.push(bpf(BPF_JMP | BPF_JEQ, number, 0, body.len()));
            filter.extend(&body);
        }
    }
    filter.push(answer(profile.default_action(), profile.default_errno_ret()));
    Ok(filter)
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
    let load = |at| bpf(BPF_LD | BPF_W | BPF_ABS, at, 0, 0);
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

fn install(filter: &[sock_filter]) -> Result<()> {
    if filter.is_empty() {
        return Ok(());
    }
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions of the filter, which outlives the call.
    let load =
        || Errno::result(unsafe { syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) });
    step!(load(), "seccomp: {} instructions", filter.len()).map(drop)
}

/// Where the other end of the container's terminal goes. A foreground `run` has the caller's own.
fn console(given: &Given, wanted: bool, is_detached: bool) -> Result<Option<UnixStream>> {
    match given.get("console-socket") {
        Some(path) if wanted => step!(UnixStream::connect(path), "connect {path}").map(Some),
        None if wanted && is_detached => {
            Err(error("process.terminal: expected --console-socket, for nobody else attends it"))
        }
        _ => Ok(None),
    }
}

fn open_terminal(process: &Process, console: &UnixStream, is_first: bool) -> Result<()> {
    let how = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master =
        step!(fcntl::open("/dev/pts/ptmx", how, stat::Mode::empty()), "open /dev/pts/ptmx")?;
    let (fd, mut number, unlocked) = (master.as_raw_fd(), 0, 0);
    let size = process.console_size().unwrap_or_default();
    let (ws_row, ws_col) = (size.height() as u16, size.width() as u16);
    let size = winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: each call reads or writes one integer or one winsize, or takes a number.
    let slave = unsafe {
        ioctl(fd, TIOCSPTLCK, &unlocked);
        ioctl(fd, TIOCGPTN, &mut number);
        ioctl(fd, TIOCSWINSZ, &size);
        Errno::result(ioctl(fd, TIOCGPTPEER, how.bits()))
    };
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    let slave = unsafe { OwnedFd::from_raw_fd(attempt("TIOCGPTPEER", slave)?) };
    let (fds, text) = ([fd], [io::IoSlice::new(b"/dev/ptmx")]);
    let rights = [socket::ControlMessage::ScmRights(&fds)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    let sent = socket::sendmsg::<()>(console.as_raw_fd(), &text, &rights, flags, None);
    attempt("--console-socket", sent)?;
    if is_first {
        let tree = clone_tree(format!("/dev/pts/{number}").as_ref(), MsFlags::MS_NOEXEC)?;
        place(&tree, "/dev/console".as_ref())?;
    }
    let attach = || {
        unistd::setsid()?;
        // SAFETY: this ioctl takes an integer.
        Errno::result(unsafe { ioctl(slave.as_raw_fd(), TIOCSCTTY, 0) })?;
        unistd::fchown(&slave, Some(Uid::from_raw(process.user().uid())), None)?;
        unistd::dup2_stdin(&slave)?;
        unistd::dup2_stdout(&slave)?;
        unistd::dup2_stderr(&slave)
    };
    step!(attach(), "setsid --ctty")
}

// ---- the other verbs ----------------------------------------------------------------------------

fn spec_command(given: &Given) -> Result<u8> {
    let path = Path::new(given.get("bundle").unwrap_or(".")).join("config.json");
    let (uid, gid) = (unistd::geteuid().as_raw(), unistd::getegid().as_raw());
    let is_rootless = given.has("rootless");
    let mut spec = if is_rootless { Spec::rootless(uid, gid) } else { Spec::default() };
    spec.set_version("1.2.0".into()).set_hostname(Some("husk".into()));
    if let Some(process) = spec.process_mut() {
        process.set_terminal(Some(true)).set_rlimits(None);
    }
    let text = serde_json::to_string_pretty(&spec).unwrap_or_default();
    let write = || writeln!(File::create_new(&path)?, "{text}");
    step!(write(), "write {}", path.display()).map(|()| 0)
}

fn send(pidfd: &OwnedFd, number: c_int) -> Result<(), Errno> {
    let (fd, info) = (pidfd.as_raw_fd(), ptr::null::<siginfo_t>());
    // SAFETY: without a siginfo the kernel fills in what kill(2) would, pidfd_send_signal(2).
    Errno::result(unsafe { syscall(SYS_pidfd_send_signal, fd, number, info, 0) }).map(drop)
}

fn kill(home: &Home, signal: Option<&String>, all: bool) -> Result<u8> {
    let text = signal.map_or("TERM".into(), |text| text.to_uppercase());
    let named = || Signal::from_str(&format!("SIG{}", text.trim_start_matches("SIG"))).ok();
    let number = text.parse().ok().or_else(|| named().map(|signal| signal as c_int));
    let number = number.filter(|number| (0..=64).contains(number));
    let number = number.ok_or_else(|| error(format!("kill: {text}: unknown signal")))?;
    match home.first() {
        _ if all => home.pids().into_iter().for_each(|pid| {
            // SAFETY: integers only. (nix's kill knows no real-time signals.)
            unsafe { libc::kill(pid, number) };
        }),
        Some((pid, pidfd)) => step!(send(&pidfd, number), "kill -{number} {pid}")?,
        None => return Err(error("container not running")),
    }
    Ok(0)
}

fn delete(id: &str, force: bool) -> Result<u8> {
    let home = match Home::locked(id) {
        // Perhaps a `create` that was killed half-way.
        Err(_) if force => {
            return Home::dir(id).map(|dir| fs::remove_dir_all(dir).map_or(0, |()| 0));
        }
        home => home?,
    };
    match home.status() {
        status if status != "stopped" && !force => {
            Err(error(format!("cannot delete container {id} that is not stopped: {status}")))
        }
        _ => home.spec().map(|spec| remove(&home, &spec)).map(|()| 0),
    }
}

/// The end of a container, and then its last hooks.
fn remove(home: &Home, spec: &Spec) {
    if let Some((pid, pidfd)) = home.first() {
        let _ = send(&pidfd, SIGKILL);
        let deadline = Instant::now() + Duration::from_secs(10);
        while home.first().is_some() && Instant::now() < deadline {
            // SAFETY: a null pointer means that the status is not wanted.
            unsafe { waitpid(pid.as_raw(), ptr::null_mut(), WNOHANG) };
            thread::sleep(Duration::from_micros(200));
        }
    }
    home.cgroup().iter().for_each(|dir| remove_cgroup(dir));
    if let Some(hooks) = spec.hooks() {
        let outcome = run_hooks("poststop", hooks.poststop(), &home.report());
        outcome.unwrap_or_else(|Error(_, why)| warn(why));
    }
    let _ = fs::remove_dir_all(&home.dir);
}

fn ps(home: &Home, format: Option<&str>) -> Result<u8> {
    let pids = home.pids();
    if format == Some("json") {
        return print(&format!("{}\n", json!(pids)));
    }
    let line = |pid| {
        let command = read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        format!("{pid:<8} {}\n", command.replace(char::is_control, " "))
    };
    print(&format!("PID      COMMAND\n{}", pids.into_iter().map(line).collect::<String>()))
}

fn list(given: &Given) -> Result<u8> {
    let names = ROOT.get().and_then(|root| fs::read_dir(root).ok()).into_iter().flatten().flatten();
    let homes = names.filter_map(|name| Home::find(name.file_name().to_str()?).ok());
    let found: Vec<Value> = homes.map(|home| home.report()).collect();
    if given.get("format") == Some("json") {
        return print(&format!("{}\n", json!(found)));
    }
    let keys = if given.has("quiet") { &["id"][..] } else { &["id", "pid", "status", "bundle"] };
    let cell = |state: &Value, key: &str| state[key].to_string().trim_matches('"').to_string();
    let line =
        |state| keys.iter().map(|key| cell(state, key)).collect::<Vec<_>>().join("  ") + "\n";
    print(&found.iter().map(line).collect::<String>())
}

fn freeze(home: &Home, on: bool) -> Result<u8> {
    let (status, wanted) = (home.status(), if on { "running" } else { "paused" });
    if status != wanted {
        return Err(error(format!("the container is {status}, not {wanted}")));
    }
    echo(if on { "1" } else { "0" }, home.cgroup()?.join("cgroup.freeze"))?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while home.status() == wanted && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(0)
}

fn update(home: &Home, given: &Given) -> Result<u8> {
    let path = given.get("resources").unwrap_or("-");
    let path = if path == "-" { "/proc/self/fd/0" } else { path };
    let path = Path::new(path);
    let resources: Value = valid(path, serde_json::from_slice(&bytes_of(path)?))?;
    match home.status() {
        "stopped" => Err(error("container not running")),
        _ => set_limits(&home.cgroup()?, &limits(&resources)).map(|()| 0),
    }
}

/// The same steps, but the namespaces are there already.
fn exec(home: &Home, given: &Given, words: VecDeque<String>) -> Result<u8> {
    let status = home.status();
    let first = home.first().filter(|_| status == "running" || given.has("ignore-paused"));
    let (pid, pidfd) =
        first.ok_or_else(|| error(format!("cannot exec in a {status} container")))?;
    let spec = home.spec()?;
    let process = match given.get("process") {
        Some(path) => valid(path.as_ref(), serde_json::from_slice(&bytes_of(path.as_ref())?))?,
        None => exec_process(&spec, given, words)?,
    };
    check(&process)?;
    let is_detached = given.has("detach");
    let console = console(given, process.terminal() == Some(true), is_detached)?;
    let create = |path: &str| attempt(path, File::create(path));
    let pid_file = given.get("pid-file").map(create).transpose()?;
    let open = |dir: PathBuf| attempt("cgroup", File::open(&dir)).and_then(|fd| opened(dir, fd));
    let cgroup = home.cgroup().ok().map(open).transpose()?;
    let link = |pid: &str, name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).ok();
    let differs = |(name, _): &(&str, c_int)| link("self", name) != link(&pid.to_string(), name);
    let names = ["user", "mnt", "pid", "uts", "ipc", "net", "cgroup"];
    let all = names.into_iter().zip(NAMESPACE_FLAGS.map(|(_, flag)| flag));
    let others: c_int = all.filter(differs).map(|(_, flag)| flag).sum();
    let join = |flags| match CloneFlags::from_bits_retain(flags) {
        flags if flags.is_empty() => Ok(()),
        flags => step!(setns(&pidfd, flags), "nsenter --target {pid} {flags:?}"),
    };
    // Until it is the command, nobody in there may trace husk, or look into its /proc/PID.
    attempt("prctl PR_SET_DUMPABLE", prctl::set_dumpable(false))?;
    label(&process)?;
    let ours = others & (CLONE_NEWUSER | CLONE_NEWPID); // these are for children only
    join(ours)?;
    let preserved = given.preserved()?;
    let child = spawn(0, cgroup.as_ref(), |_| {
        join(others & !ours)?;
        if others & CLONE_NEWUSER != 0 {
            become_root()?;
        }
        console.iter().try_for_each(|console| open_terminal(&process, console, false))?;
        let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
        enter(&process, profile, preserved, || Ok(()))
    })?;
    if let Some(mut file) = pid_file {
        attempt("--pid-file", write!(file, "{}", child.pid))?;
    }
    let status = if is_detached { Ok(0) } else { wait(child.pid, &None) };
    hear(&child.socket).and(status)
}

/// The container's own process, with another command.
fn exec_process(spec: &Spec, given: &Given, words: VecDeque<String>) -> Result<Process> {
    let mut process = spec.process().clone().unwrap_or_default();
    let env = process.env().clone().unwrap_or_default().into_iter();
    let env = env.chain(given.all("env").map(str::to_string)).collect();
    process.set_args(Some(words.into())).set_env(Some(env)).set_terminal(Some(given.has("tty")));
    if let Some(dir) = given.get("cwd") {
        process.set_cwd(dir.into());
    }
    if let Some(text) = given.get("user") {
        let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
        let ids = uid.parse().ok().zip(gid.parse().ok());
        let (uid, gid) = ids.ok_or_else(|| error("--user: expected UID[:GID]"))?;
        process.user_mut().set_uid(uid).set_gid(gid);
    }
    if given.has("no-new-privs") {
        process.set_no_new_privileges(Some(true));
    }
    Ok(process)
}

fn features() -> Result<u8> {
    let capabilities = CAPABILITIES.split(' ').map(|name| format!("CAP_{name}"));
    let features = json!({
        "ociVersionMin": "1.0.0", "ociVersionMax": "1.2.0",
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart",
            "poststop"],
        "mountOptions": FLAGS.map(|(name, _)| name),
        "linux": {
            "namespaces": NAMESPACE_FLAGS.map(|(typ, _)| typ),
            "capabilities": capabilities.collect::<Vec<_>>(),
            "cgroup": {"v1": false, "v2": true, "systemd": false, "systemdUser": false},
            "seccomp": {"enabled": true}, "apparmor": {"enabled": true},
            "selinux": {"enabled": true}, "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": false}},
        },
    });
    print(&format!("{features:#}\n"))
}
