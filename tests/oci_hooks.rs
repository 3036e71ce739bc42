//! The appendix: hooks, as runtime-spec 1.3 has them in config.md, "POSIX-platform Hooks", and
//! runtime.md, "Lifecycle".
#![cfg(feature = "oci")]

mod bundle;
mod common;
use bundle::oci;
use std::fs;
use std::time::Instant;

#[test]
fn hooks_in_their_order() {
    oci!(host, b);
    let dir = b.dir.path().to_string();
    b.edit(&format!(
        "c['hooks'] = {{k: [dict(path='/bin/sh', args=['sh', '-c', 'cat > /dev/null; echo ' + k + \
         ' >> {dir}/seen; readlink /proc/self/ns/net >> {dir}/networks'])] for k in ['prestart', 'createRuntime', 'createContainer', 'poststart', \
         'poststop']}}"
    ));
    // runtime.md, "Lifecycle": "If any poststop hook fails, the runtime MUST log a warning, but the
    // remaining hooks and lifecycle continue as if the hook had succeeded."
    b.edit("c['hooks']['poststop'].insert(0, dict(path='/bin/false'))");
    b.command("sleep 0.2");
    b.sh("$OCI --log $B/log run --bundle $B one").ok();
    let log = fs::read_to_string(b.dir.join("log")).expect("the log");
    assert!(log.contains("warning") && log.contains("poststop hook /bin/false"), "{log}");
    let seen = fs::read_to_string(b.dir.join("seen")).expect("what hooks wrote");
    let order = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    assert_eq!(seen.lines().collect::<Vec<_>>(), order);
    // All but createContainer run in the caller's network.
    let seen = fs::read_to_string(b.dir.join("networks")).expect("what hooks wrote");
    let own = b.sh("readlink /proc/self/ns/net").ok();
    let is_own: Vec<bool> = seen.lines().map(|network| network == own).collect();
    assert_eq!(is_own, [true, true, false, true, true]);
    // A hook may enter the container as soon as that has started.
    b.edit(
        "o = os.environ['OCI'].split(); c['hooks'] = dict(poststart=[dict(path=o[0], timeout=120, \
         args=o + ['exec', 'two', 'touch', '/tmp/entered'])])",
    );
    b.command("until [ -e /tmp/entered ]; do sleep 0.1; done");
    b.edit("c['mounts'].append(dict(destination='/tmp', type='tmpfs'))");
    b.sh("timeout 150 $OCI run --bundle $B two").ok();
    b.sh("$OCI create --bundle $B two </dev/null >/dev/null 2>&1").ok();
    b.sh("timeout 150 $OCI start two; $OCI delete --force two").ok();
    b.edit("c['hooks'] = dict(createRuntime=[dict(path='/bin/false')])");
    b.refuses("$OCI run --bundle $B two", &["createRuntime hook /bin/false"]);
}

/// "If any poststart hook fails, the runtime MUST generate an error, stop the container".
#[test]
fn failing_hooks() {
    oci!(host, b);
    b.command("sleep 1000");
    let fails = |kind: &str| {
        let dir = b.dir.path();
        b.edit(&format!(
            "c['hooks'] = dict({kind}=[dict(path='/bin/false')], poststop=[dict(path='/bin/sh', \
             args=['sh', '-c', 'echo stopped >> {dir}/stops'])])"
        ));
    };
    fails("poststart");
    b.sh("$OCI create --bundle $B one </dev/null >/dev/null 2>&1").ok();
    b.refuses("$OCI start one", &["poststart hook /bin/false"]);
    assert!(b.sh("$OCI state one").ok().contains("\"status\": \"stopped\""));
    b.sh("$OCI delete one").ok();
    b.refuses("$OCI run --bundle $B one", &["poststart hook /bin/false"]);
    b.refuses("$OCI state one", &["does not exist"]);
    b.refuses("$OCI run --detach --bundle $B one", &["poststart hook /bin/false"]);
    b.refuses("$OCI state one", &["does not exist"]);
    for kind in ["prestart", "createRuntime", "createContainer"] {
        fails(kind);
        b.refuses("$OCI create --bundle $B one </dev/null", &[kind, "hook /bin/false"]);
        b.refuses("$OCI state one", &["does not exist"]);
    }
    fails("startContainer");
    b.sh("$OCI create --bundle $B one </dev/null >/dev/null 2>&1").ok();
    b.refuses("$OCI start one", &["startContainer hook /bin/false"]);
    b.sh("$OCI delete --force one").ok();
    let stops = fs::read_to_string(b.dir.join("stops")).expect("what poststop hooks wrote");
    assert_eq!(stops.lines().count(), 7, "one for each container: {stops}");
}

/// "timeout is the number of seconds before aborting the hook. If set, timeout MUST be greater
/// than zero"; "path … MUST be an absolute path".
#[test]
fn timeouts() {
    oci!(host, b);
    let hook = |text: &str| b.edit(&format!("c['hooks'] = dict(createRuntime=[dict({text})])"));
    hook("path='/bin/sh', args=['sh', '-c', 'sleep 1000 & sleep 1000'], timeout=1");
    let start = Instant::now();
    b.refuses("$OCI run --bundle $B one", &["createRuntime hook /bin/sh", "timeout, 1 s"]);
    assert!(start.elapsed().as_secs() >= 1);
    // Whoever that hook has started is gone, too: the test's host is empty.
    host.assert_clean();
    for seconds in ["0", "-5"] {
        hook(&format!("path='/bin/true', timeout={seconds}"));
        b.refuses("$OCI run --bundle $B one", &["hooks.createRuntime", "timeout"]);
    }
    hook("path='bin/true'");
    b.refuses("$OCI run --bundle $B one", &["hooks.createRuntime", "bin/true", "absolute"]);
}

/// "env … with the same semantics as environ"; "the state of the container MUST be passed to hooks
/// over stdin"; startContainer hooks are resolved and run in the container.
#[test]
fn what_hooks_are_given() {
    oci!(host, b);
    b.edit("c['process']['env'] = ['PATH=/bin', 'FRUIT=apple']; c['mounts'].append(dict(destination='/tmp', type='tmpfs'))");
    let script = "cat > /tmp/state; env > /tmp/env";
    let hook = |more: &str| {
        b.edit(&format!(
            "c['hooks'] = dict(startContainer=[dict(path='/bin/sh', args=['sh', '-c', '{script}']{more})])"
        ))
    };
    b.command("cat /tmp/env; cat /tmp/state");
    hook("");
    let seen = b.run();
    assert!(seen.contains("FRUIT=apple\n"), "{seen}");
    for part in ["\"id\":\"one\"", "\"status\":\"created\"", "\"pid\":1,", "\"bundle\":"] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    hook(", env=['FRUIT=pear', 'A=b=c']");
    let seen = b.run();
    assert!(seen.contains("FRUIT=pear\n") && seen.contains("A=b=c\n"), "{seen}");
    assert!(!seen.contains("apple"), "{seen}");
}
