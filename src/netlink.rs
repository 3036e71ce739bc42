//! Messages to the kernel's network, rtnetlink(7): what `ip link`, `ip addr` and `ip route` send.

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

/// The attribute of a veth's data that holds its other end. (libc does not have the name.)
const VETH_INFO_PEER: u16 = 1;

/// A socket whose other end is the kernel: for the network namespace in which it was opened.
pub struct Netlink(OwnedFd);

impl Netlink {
    /// socket(2), netlink(7).
    pub fn open() -> Result<Netlink, Errno> {
        let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
        let (flags, protocol) = (SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
        Ok(Netlink(socket::socket(family, kind, flags, protocol)?))
    }

    /// Asks the kernel to make or change something, and waits for its answer. A message is a header
    /// (struct nlmsghdr), then a fixed part, then attributes. False: it is there already.
    fn request(&self, kind: u16, body: &[u8]) -> Result<bool, Errno> {
        // CREATE and EXCL mean nothing to RTM_SETLINK.
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let mut message = vec![];
        message.extend((16 + body.len() as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags as u16).to_ne_bytes());
        message.extend([0; 8]); // sequence number and port: one question at a time, to the kernel
        message.extend(body);
        socket::send(self.0.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = [0; 20]; // a header, and an errno
        socket::recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let [.., a, b, c, d] = answer;
        match -i32::from_ne_bytes([a, b, c, d]) {
            0 => Ok(true),
            libc::EEXIST => Ok(false),
            errno => Err(Errno::from_raw(errno)),
        }
    }

    /// `ip link add NAME type bridge`
    pub fn add_bridge(&self, name: &str, mac: [u8; 6]) -> Result<bool, Errno> {
        let kind = attribute(libc::IFLA_INFO_KIND, b"bridge");
        let info = attribute(libc::IFLA_LINKINFO, &kind);
        let bridge = link(name, 0, &[attribute(libc::IFLA_ADDRESS, &mac), info]);
        self.request(libc::RTM_NEWLINK, &bridge)
    }

    /// `ip link add NAME up master BRIDGE type veth peer PEER netns PID`: a pair of interfaces,
    /// which are each other's cable. What goes in at one end comes out at the other.
    pub fn add_veth(&self, name: &str, bridge: u32, peer: &Peer) -> Result<bool, Errno> {
        // Else each end has as many queues as there are CPUs, and these take long to make.
        let queues = [
            attribute(libc::IFLA_NUM_TX_QUEUES, &1u32.to_ne_bytes()),
            attribute(libc::IFLA_NUM_RX_QUEUES, &1u32.to_ne_bytes()),
        ]
        .concat();
        let mac = attribute(libc::IFLA_ADDRESS, &peer.mac);
        let netns = attribute(libc::IFLA_NET_NS_PID, &peer.pid.to_ne_bytes());
        let peer = link(peer.name, 0, &[mac, netns, queues.clone()]);
        let kind = attribute(libc::IFLA_INFO_KIND, b"veth");
        let data = attribute(libc::IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &peer));
        let info = attribute(libc::IFLA_LINKINFO, &[kind, data].concat());
        let master = attribute(libc::IFLA_MASTER, &bridge.to_ne_bytes());
        let veth = link(name, libc::IFF_UP, &[master, info, queues]);
        self.request(libc::RTM_NEWLINK, &veth)
    }

    /// `ip link set NAME up`
    pub fn set_up(&self, name: &str) -> Result<bool, Errno> {
        self.request(libc::RTM_SETLINK, &link(name, libc::IFF_UP, &[]))
    }

    /// `ip addr add IP/PREFIX dev NAME`
    pub fn add_address(&self, name: &str, ip: Ipv4Addr, prefix: u8) -> Result<bool, Errno> {
        let index = if_nametoindex(name)?;
        // struct ifaddrmsg: family, prefix, flags, scope, index.
        let mut message = vec![libc::AF_INET as u8, prefix, 0, 0];
        message.extend(index.to_ne_bytes());
        message.extend(attribute(libc::IFA_LOCAL, &ip.octets()));
        self.request(libc::RTM_NEWADDR, &message)
    }

    /// `ip route add default via GATEWAY`
    pub fn add_default_route(&self, gateway: Ipv4Addr) -> Result<bool, Errno> {
        // struct rtmsg: family; lengths of destination and source, service; table, protocol, scope,
        // type; flags.
        let mut message = vec![libc::AF_INET as u8, 0, 0, 0];
        message.extend([libc::RT_TABLE_MAIN, libc::RTPROT_BOOT]);
        message.extend([libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST]);
        message.extend([0; 4]);
        message.extend(attribute(libc::RTA_GATEWAY, &gateway.octets()));
        self.request(libc::RTM_NEWROUTE, &message)
    }
}

/// The other end of a veth: its name, its MAC, and a process in whose network namespace it is to
/// be.
pub struct Peer<'a> {
    pub name: &'a str,
    pub mac: [u8; 6],
    pub pid: i32,
}

/// A MAC address made of the IP address: when that is used again, no ARP cache is wrong.
pub fn mac_of(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x02, 0x42, a, b, c, d] // 02: not a manufacturer's
}

/// Type, length and value, which may be attributes again.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len() as u16;
    let mut bytes = vec![];
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An interface by its name. Its fixed part, struct ifinfomsg, is a family, a type and an index
/// (all of them 0), then its flags, and which of these to change.
fn link(name: &str, flags: i32, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(attribute(libc::IFLA_IFNAME, name.as_bytes()));
    bytes.extend(attributes.concat());
    bytes
}
