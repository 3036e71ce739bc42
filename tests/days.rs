//! A day's work: services of Debian's in detached containers, with a log, entered, stopped by their
//! own signals and started again; and two hundred jobs, four at a time.

mod common;
#[path = "common/debian.rs"]
mod debian;

use common::*;
use debian::servers;
use std::fs;
use std::os::unix::fs::chown;

/// A service in a detached container. Its data is a volume, and what it says goes to log/log.
struct Service<'a> {
    host: &'a Host,
    root: String,
    dir: TempDir,
    options: &'a [&'a str],
    command: &'a str,
}

impl Service<'_> {
    /// Makes its directories. One is this user's, and the container never sees the other.
    fn prepare(&self, owner: u32) {
        for name in ["data", "log"] {
            fs::create_dir(self.dir.join(name)).expect("mkdir");
        }
        chown(self.dir.join("data"), Some(owner), Some(owner)).expect("chown");
    }

    fn start(&self) {
        let volume = format!("{}/data:/data", self.dir.path());
        let log = self.dir.join("log/log");
        let log = log.to_str().expect("UTF-8");
        let first = ["run", "-d", "--name=service", "--log", log, "-v", &volume];
        let last = [self.root.as_str(), "bash", "-c", self.command];
        self.host.husk(&[&first, self.options, &last].concat()).ok();
    }

    fn exec(&self, script: &str) -> Run {
        self.host.husk(&["exec", "service", "bash", "-c", script])
    }

    #[track_caller]
    fn ready(&self, script: &str) {
        until(script, || self.exec(script).code == 0);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log/log")).unwrap_or_default()
    }

    /// It ends by this alone: nothing is left to be killed after ten seconds.
    fn stop(&self, options: &[&str]) {
        self.host.husk(&[&["stop", "-t", "60"], options, &["service"]].concat()).ok();
        assert!(self.host.containers().is_empty());
    }
}

/// Debian's user postgres, its supplementary group (which the key of TLS is for), its signal.
#[test]
fn postgresql() {
    let host = host!();
    let root = match servers() {
        Ok(root) => root,
        Err(reason) => skip!(host, "{reason}"),
    };
    let id = |file: &str, name: &str| -> u32 {
        let text = fs::read_to_string(format!("{root}/etc/{file}")).expect("passwd or group");
        let line = text.lines().find(|line| line.split(':').next() == Some(name)).expect("a line");
        line.split(':').nth(2).and_then(|id| id.parse().ok()).expect("a number")
    };
    let (uid, gid) = (id("passwd", "postgres"), id("group", "postgres"));
    let sockets = format!("--tmpfs=/var/run/postgresql:uid={uid},gid={gid},mode=755");
    let bin = fs::read_dir(format!("{root}/usr/lib/postgresql")).expect("postgresql").flatten();
    let version = bin.map(|entry| entry.file_name()).next().expect("a version");
    let path = format!("PATH=/usr/lib/postgresql/{}/bin:/usr/bin:/bin", version.display());
    let service = Service {
        host: &host,
        root,
        dir: TempDir::new(),
        options: &["-u", "postgres", &sockets, "-e", &path, "--stop-signal", "INT"],
        command: "[ -s /data/PG_VERSION ] || initdb -A trust -D /data
            exec postgres -D /data -c shared_buffers=16MB -c ssl=on \
                -c ssl_cert_file=/etc/ssl/certs/ssl-cert-snakeoil.pem \
                -c ssl_key_file=/etc/ssl/private/ssl-cert-snakeoil.key",
    };
    service.prepare(uid);
    service.start();
    service.ready("pg_isready");
    // PostgreSQL rewrites its title, and a client of another user would be refused.
    let sql = "psql -qAt -c 'create table t (x int)' -c 'insert into t values (42)' && id -Gn";
    assert_eq!(service.exec(sql).ok(), "postgres ssl-cert");
    service.exec("psql -qAt 'host=127.0.0.1 sslmode=require' -c 'select 1'").ok();
    // To reload it is no end.
    host.husk(&["kill", "-s", "HUP", "service"]).ok();
    until("a reload", || service.log().contains("received SIGHUP"));
    service.stop(&[]);
    let log = service.log();
    assert!(log.contains("received fast shutdown request"), "{log}");
    assert!(log.contains("database system is shut down"), "{log}");

    service.start();
    service.ready("pg_isready");
    assert_eq!(service.exec("psql -qAt -c 'select x from t'").ok(), "42");
    service.stop(&["-s", "INT"]);
    let log = service.log();
    let word = ["not properly shut down", "automatic recovery", "interrupted"];
    assert!(!word.iter().any(|word| log.contains(word)), "it had to recover: {log}");
}

#[test]
fn nginx() {
    let host = host!();
    let root = match servers() {
        Ok(root) => root,
        Err(reason) => skip!(host, "{reason}"),
    };
    let service = Service {
        host: &host,
        root,
        dir: TempDir::new(),
        options: &["-e", "COLOR=green"],
        command: "mkdir -p /var/log/nginx; cp /data/index.html /var/www/html/
            exec nginx -g 'daemon off; error_log stderr notice;'",
    };
    service.prepare(0);
    fs::write(service.dir.join("data/index.html"), "welcome\n").expect("write");
    let get =
        "exec 3<>/dev/tcp/127.0.0.1/80 && printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' >&3 &&
        grep welcome <&3";
    service.start();
    service.ready(get);
    // Its title is where its environment was.
    let title = "tr '\\0' '\\n' < /proc/1/environ | grep -c COLOR; echo $COLOR";
    assert_eq!(service.exec(title).ok(), "0\ngreen");
    let workers = "cat /proc/1/task/1/children";
    let before = service.exec(workers).ok();
    host.husk(&["kill", "-s", "HUP", "service"]).ok();
    until("new workers", || service.exec(workers).ok() != before);
    service.ready(get);
    service.stop(&["-s", "QUIT"]);
    assert!(service.log().contains("signal 3 (SIGQUIT)"), "{}", service.log());
    assert!(service.log().contains("exit"), "{}", service.log());
    service.start();
    service.ready(get);
    service.stop(&["-s", "QUIT"]);
}

#[test]
fn redis() {
    let host = host!();
    let root = match servers() {
        Ok(root) => root,
        Err(reason) => skip!(host, "{reason}"),
    };
    let service = Service {
        host: &host,
        root,
        dir: TempDir::new(),
        options: &["-u", "redis", "--read-only", "--tmpfs", "/tmp", "-e", "COLOR=red"],
        command: "exec redis-server --dir /data --save '3600 1'",
    };
    service.prepare(0);
    host.sh(&format!("chmod 1777 {}/data", service.dir.path())).ok();
    service.start();
    service.ready("[ $(redis-cli ping) = PONG ]");
    let exec = service.exec("redis-cli set color $COLOR; id -un").ok();
    assert_eq!(exec, "OK\nredis", "after a rewritten title");
    service.stop(&[]);
    assert!(service.log().contains("DB saved on disk"), "{}", service.log());
    service.start();
    service.ready("[ $(redis-cli ping) = PONG ]");
    assert_eq!(service.exec("redis-cli get color").ok(), "red");
    service.stop(&["--signal", "SIGTERM"]);
}

/// As a build or a batch has it: each job reads one file and writes another.
#[test]
fn two_hundred_jobs() {
    let host = host!();
    let dir = TempDir::new();
    for name in ["in", "out"] {
        fs::create_dir(dir.join(name)).expect("mkdir");
    }
    for number in 0..200 {
        fs::write(dir.join(format!("in/{number}")), format!("job {number}\n")).expect("write");
    }
    let script = format!(
        "seq 0 199 | xargs -P 4 -I @ $HUSK run -v {0}/in:/in:ro -v {0}/out:/out --tmpfs /work \
         -w /work $R sh -c 'cp /in/@ . && tr a-z A-Z < @ > /out/@ && echo done'",
        dir.path()
    );
    let run = host.sh(&script).ok();
    assert_eq!(run.lines().filter(|line| *line == "done").count(), 200);
    for number in 0..200 {
        let text = fs::read_to_string(dir.join(format!("out/{number}"))).expect("a result");
        assert_eq!(text, format!("JOB {number}\n"));
    }
    host.assert_clean();
}

/// The unit of docs/recipes.md, under a systemd of the test's own: it restarts what has ended, and
/// stops it by a signal.
#[test]
fn systemd_unit() {
    let host = host!();
    if !have("systemctl") {
        skip!(host, "there is no systemd here");
    }
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/recipes.md");
    let page = fs::read_to_string(page).expect("recipes.md");
    let unit = page.split("```ini\n").nth(1).and_then(|rest| rest.split("```").next());
    let unit = unit.expect("a unit in recipes.md");
    assert!(unit.contains("/usr/local/bin/husk") && unit.contains("/srv/web/rootfs"), "{unit}");
    let unit = unit.replace("/usr/local/bin/husk", husk().to_str().expect("UTF-8"));
    let unit = unit.replace("/srv/web/rootfs", rootfs());
    let dir = TempDir::new();
    for name in ["run", "systemd", "systemd/user"] {
        fs::create_dir(dir.join(name)).expect("mkdir");
    }
    fs::write(dir.join("systemd/user/web.service"), unit).expect("write");
    let with_systemd = |script: &str| {
        let mut command = host.sh_command(script);
        command.env("XDG_RUNTIME_DIR", dir.join("run")).env("XDG_CONFIG_HOME", dir.path());
        command.env("CGROUP", cgroup2());
        command
    };
    // It wants cgroup 2 alone, and to have been booted by systemd.
    let script = r#"exec unshare -m sh -c '
        [ $CGROUP = /sys/fs/cgroup ] || mount --move $CGROUP /sys/fs/cgroup
        mount -t tmpfs none /run; mkdir -p /run/systemd/system
        exec /lib/systemd/systemd --user --unit=web.service'"#;
    let manager = start(&mut with_systemd(script));
    let first = || {
        let ps = host.husk(&["ps"]).ok();
        let row = ps.lines().find(|line| line.starts_with("web "))?;
        row.split_whitespace().nth(1).map(String::from)
    };
    until("the service", || first().is_some());
    let before = first();
    host.husk(&["kill", "web"]).ok();
    until("a new one", || first().is_some_and(|pid| Some(pid) != before));
    run(&mut with_systemd("systemctl --user stop web")).ok();
    assert_eq!(first(), None, "stopped");
    let result = "systemctl --user show web -p Result -p ExecMainStatus";
    // 143: SIGTERM has ended it, not SIGKILL after a minute and a half.
    let result = run(&mut with_systemd(result)).ok();
    assert!(result.contains("ExecMainStatus=143"), "{result}");
    drop(manager);
    until("its end", || host.processes().is_empty());
}
