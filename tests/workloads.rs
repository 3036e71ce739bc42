//! What people run in containers still works in this one, on a Debian and as root: to be locked
//! down must not mean to be of no use.

mod common;
#[path = "common/debian.rs"]
mod debian;

use common::*;
use debian::debian;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::thread;

/// The script in a Debian container with everything on, network included.
fn in_debian(host: &Host, script: &str) -> Option<Run> {
    match debian() {
        Ok(root) => Some(host.husk(&["run", &root, "sh", "-ec", script])),
        Err(reason) => {
            host.skip(reason);
            None
        }
    }
}

/// A package with a file of another owner, a set-user-ID program and a script to run.
const PACKAGE: &str = r#"
    mkdir -p /tmp/hello/DEBIAN /tmp/hello/usr/bin /tmp/hello/var/lib/hello
    cat >/tmp/hello/DEBIAN/control <<END
Package: hello
Version: 1.0
Architecture: all
Maintainer: nobody <nobody@example.org>
Description: greets
END
    printf '#!/bin/sh\nuseradd -r -d /var/lib/hello greeter\nchown greeter:mail /var/lib/hello\n' \
        >/tmp/hello/DEBIAN/postinst
    printf '#!/bin/sh\necho hello\n' >/tmp/hello/usr/bin/hello
    chmod 755 /tmp/hello/DEBIAN/postinst
    chmod 4755 /tmp/hello/usr/bin/hello
    dpkg-deb --build /tmp/hello /tmp/hello.deb
"#;

const PACKAGE_WORKS: &str = r#"
    [ "$(hello)" = hello ]
    stat -c '%U %G' /var/lib/hello
    stat -c '%a' /usr/bin/hello
    dpkg --verify hello
    dpkg --purge hello >/dev/null
    [ ! -e /usr/bin/hello ]
"#;

fn package(host: &Host, by: &str) {
    let script = format!("{{ {PACKAGE}\n{by}\n}} >/tmp/log 2>&1 || cat /tmp/log\n{PACKAGE_WORKS}");
    let Some(run) = in_debian(host, &script) else { return };
    assert!(run.code == 0 && run.out.starts_with("greeter mail\n4755\n"), "{run}");
}

#[test]
fn dpkg() {
    package(&host!(), "dpkg -i /tmp/hello.deb");
}

/// apt changes to a user of its own for some of its work.
#[test]
fn apt() {
    package(&host!(), "apt-get -q -y install /tmp/hello.deb");
}

#[test]
fn another_user() {
    let host = host!();
    let script = "useradd -m -s /bin/sh -G mail friend
        su friend -c 'id -un; id -Gn; touch ~/file'
        su - friend -c 'pwd'
        setpriv --reuid friend --regid friend --clear-groups id -u
        stat -c %U /home/friend/file
        su friend -c 'touch /etc/file' 2>&1 | grep -o denied";
    let Some(run) = in_debian(&host, script) else { return };
    assert_eq!(run.ok(), "friend\nfriend mail\n/home/friend\n1000\nfriend\ndenied");
}

#[test]
fn ping() {
    let host = host!();
    let script = "ping -c 1 -W 5 127.0.0.1 | grep -c ' 0% packet loss'
        ping -c 1 -W 5 10.77.0.1 | grep -c ' 0% packet loss'";
    let Some(run) = in_debian(&host, script) else { return };
    assert_eq!(run.ok(), "1\n1");
}

/// Threads, subprocesses, worker processes with semaphores in /dev/shm, sockets, temporary files.
const PYTHON: &str = r#"
import asyncio, concurrent.futures, multiprocessing, os, socket, subprocess, tempfile, threading

total = 0
lock = threading.Lock()
def add():
    global total
    for _ in range(1000):
        with lock:
            total += 1
threads = [threading.Thread(target=add) for _ in range(20)]
[t.start() for t in threads]
[t.join() for t in threads]
print(total)

print(subprocess.run("echo $((6 * 7)); exit 3", shell=True, capture_output=True))

with concurrent.futures.ProcessPoolExecutor(4, multiprocessing.get_context("fork")) as pool:
    print(sum(pool.map(abs, range(-10, 0))))

async def echo():
    async def answer(reader, writer):
        writer.write((await reader.readline()).upper())
        writer.close()
    server = await asyncio.start_server(answer, "localhost", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    writer.write(b"hello\n")
    print(await reader.readline())
asyncio.run(echo())

with tempfile.NamedTemporaryFile() as file:
    os.chown(file.name, 1000, 1000)
    print(os.stat(file.name).st_uid, os.cpu_count() > 0, len(os.urandom(8)), socket.gethostname() != "")
"#;

#[test]
fn python() {
    let host = host!();
    let script = format!("cat >/tmp/x.py <<'END'\n{PYTHON}\nEND\npython3 /tmp/x.py");
    let Some(run) = in_debian(&host, &script) else { return };
    let lines = [
        "20000",
        r"CompletedProcess(args='echo $((6 * 7)); exit 3', returncode=3, stdout=b'42\n', stderr=b'')",
        "55",
        r"b'HELLO\n'",
        "1000 True 8 True",
    ];
    assert_eq!(run.ok(), lines.join("\n"));
}

/// A server on port 80 of the container, reached from the host by the address that `ps` gives.
#[test]
fn web_server() {
    let host = host!();
    let root = match debian() {
        Ok(root) => root,
        Err(reason) => skip!(host, "{reason}"),
    };
    let script = "mkdir /srv/www; echo welcome >/srv/www/index.html
        exec python3 -u -m http.server -d /srv/www 80";
    let running =
        start(&mut host.husk_command(&["run", "--name", "web", &root, "sh", "-c", script]));
    let address = {
        let mut address = String::new();
        until("an address", || {
            let ps = host.husk(&["ps"]).ok();
            let row = ps.lines().find(|line| line.starts_with("web "));
            address = row.and_then(|row| row.split_whitespace().nth(2)).unwrap_or("-").into();
            address != "-"
        });
        address
    };
    let network = File::open(format!("/proc/{}/ns/net", host.pid())).expect("open");
    let get = move || {
        setns(network.as_fd(), CloneFlags::CLONE_NEWNET).expect("setns");
        let mut text = String::new();
        until("an answer", || {
            let Ok(mut stream) = TcpStream::connect((&address[..], 80)) else { return false };
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("write");
            stream.read_to_string(&mut text).expect("read");
            true
        });
        text
    };
    let text = thread::spawn(get).join().expect("an answer");
    assert!(text.contains("200 OK") && text.ends_with("\r\n\r\nwelcome\n"), "{text}");
    host.kill_inits();
    running.wait();
}

/// docker's default lets a process trace its own children.
#[test]
fn strace() {
    let host = host!();
    let script =
        "strace -f -o /tmp/trace -e trace=openat,execve,wait4 sh -c 'cat /etc/hostname; true'
        grep -c 'openat(AT_FDCWD, \"/etc/hostname\", O_RDONLY) = 3' /tmp/trace
        grep -c 'execve(\"/usr/bin/cat\"\\|execve(\"/bin/cat\"' /tmp/trace";
    let Some(run) = in_debian(&host, script) else { return };
    let out = run.ok();
    assert!(out.lines().skip(1).eq(["1", "1"]), "{out}");
}

/// chroot, raw sockets, shared memory, priorities, signals.
#[test]
fn other_rights_that_servers_use() {
    let host = host!();
    let script = "chroot / echo in a chroot
        echo >/dev/shm/x && rm /dev/shm/x && echo shared memory
        nice -n 5 true && echo nice
        kill -0 1 && echo kill
        python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); print(\"raw\")'
        python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW); print(\"packet\")'";
    let Some(run) = in_debian(&host, script) else { return };
    assert_eq!(run.ok(), "in a chroot\nshared memory\nnice\nkill\nraw\npacket");
}
