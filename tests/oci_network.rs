//! The appendix: linux.netDevices, as runtime-spec 1.3 has it in config-linux.md, "Network Devices".
#![cfg(feature = "oci")]

mod bundle;
mod common;
use bundle::oci;

/// "netDevices … MUST be available in the container"; "name … in the container namespace"; "The
/// runtime MUST set the network device state to up after moving it"; addresses "with global scope"
/// are kept.
#[test]
fn moved_renamed_and_given_back() {
    oci!(host, b);
    b.sh("ip link add test0 address 02:00:00:00:00:07 mtu 1400 type veth peer name test2; \
         ip addr add 10.9.8.7/24 brd + dev test0; ip addr add 10.9.8.8/24 dev test0; \
         ip -6 addr add fd00::7/64 dev test0 2>/dev/null; ip link add test1 type veth peer name test3")
        .ok();
    let has_ipv6 = b.sh("ip -6 addr show dev test0").ok().contains("fd00::7");
    b.edit("c['linux']['netDevices'] = {'test0': {'name': 'eth7'}, 'test1': {}}");
    b.command("ip link; ip addr show dev eth7; ip addr show dev test1");
    let seen = b.run();
    for part in ["mtu 1400", "02:00:00:00:00:07", "10.9.8.7/24", "brd 10.9.8.255", "10.9.8.8/24"] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    assert!(!has_ipv6 || seen.contains("fd00::7/64"), "{seen}");
    assert!(!seen.contains("test0") && seen.contains("test1"), "{seen}");
    let up = |name: &str| seen.lines().any(|line| line.contains(name) && line.contains(",UP"));
    assert!(up(": eth7") && up(": test1"), "{seen}");
    // At the end they are where they were, also after a start in steps and after a failure.
    let is_back = || {
        let list = b.sh("ip addr show dev test0; ip link show dev test1").ok();
        assert!(list.contains("10.9.8.7/24") && list.contains("mtu 1400"), "{list}");
        assert!(!b.sh("ip link").ok().contains("eth7"));
    };
    is_back();
    b.command("sleep 1000");
    b.sh("$OCI create --bundle $B one </dev/null >/dev/null 2>&1; $OCI start one").ok();
    assert!(b.sh("$OCI exec one ip link").ok().contains("eth7"));
    assert!(!b.sh("ip link").ok().contains("test0"));
    b.sh("$OCI delete --force one").ok();
    is_back();
    b.edit("c['process']['args'] = ['nosuch']");
    b.refuses("$OCI run --bundle $B one", &["nosuch"]);
    is_back();
    b.sh("ip link del test0; ip link del test1").ok();
}

#[test]
fn devices_that_are_refused() {
    oci!(host, b);
    b.sh(
        "ip link add test0 type veth peer name test2; ip link add test1 type veth peer name test3",
    )
    .ok();
    let refuses = |text: &str, word: &str| {
        b.edit(&format!("c['linux']['netDevices'] = {{{text}}}"));
        b.refuses("$OCI run --bundle $B one", &["linux.netDevices", word]);
        assert!(b.sh("ip link").ok().contains("test0"), "{text}: test0 is gone");
    };
    refuses("'test9': {}", "ENODEV");
    refuses("'test0': {'name': 'lo'}", "lo already");
    refuses("'test0': {'name': 'a/b'}", "no name");
    refuses("'test0': {'name': 'sixteenletterslo'}", "no name");
    refuses("'test0': {'name': 'x'}, 'test1': {'name': 'x'}", "twice");
    b.edit("c['linux']['namespaces'] = [n for n in c['linux']['namespaces'] if n['type'] != 'network']");
    b.edit("c['mounts'] = [m for m in c['mounts'] if m['type'] != 'sysfs']");
    refuses("'test0': {}", "network namespace");
    b.sh("ip link del test0; ip link del test1").ok();
}
