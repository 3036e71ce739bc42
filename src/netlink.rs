//! Messages to the kernel's network, rtnetlink(7): what `ip link`, `ip addr` and `ip route` send.

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};
use std::fmt::{self, Display, Formatter};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

// Attributes that libc has no names for: of a veth's data, its other end; of a bridge's port, see
// `set_port`; of an address, the metric of its route.
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_GROUP_FWD_MASK: u16 = 31;
const IFLA_BRPORT_LOCKED: u16 = 39;
const IFA_RT_PRIORITY: u16 = 9;

// What a request is for: all but the first two say what to do with what is there already.
const CHANGE: i32 = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
const ADD: i32 = CHANGE | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const SET: i32 = CHANGE | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;

/// A socket whose other end is the kernel: for the network namespace in which it was opened.
pub struct Netlink(OwnedFd);

impl Netlink {
    /// socket(2), netlink(7).
    pub fn open() -> Result<Netlink, Errno> {
        let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
        let (flags, protocol) = (SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
        Ok(Netlink(socket::socket(family, kind, flags, protocol)?))
    }

    /// Asks the kernel to make or change something. False: it is there already.
    fn request(&self, kind: u16, flags: i32, body: &[u8]) -> Result<bool, Errno> {
        match self.ask(kind, flags, body) {
            Ok(_) => Ok(true),
            Err(Errno::EEXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Sends a message, and waits for the answer, of which it returns the beginning. A message is a
    /// header (struct nlmsghdr), then a fixed part, then attributes.
    fn ask(&self, kind: u16, flags: i32, body: &[u8]) -> Result<[u8; 128], Errno> {
        let mut message = vec![];
        message.extend((16 + body.len() as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags as u16).to_ne_bytes());
        message.extend([0; 8]); // sequence number and port: one question at a time, to the kernel
        message.extend(body);
        socket::send(self.0.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = [0; 128];
        socket::recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let kind = u16::from_ne_bytes(field(&answer, 4));
        let errno = i32::from_ne_bytes(field(&answer, 16)); // negative, and 0 if all went well
        if i32::from(kind) == libc::NLMSG_ERROR && errno != 0 {
            return Err(Errno::from_raw(-errno));
        }
        Ok(answer)
    }

    /// `ip link add NAME address MAC type bridge`, or `ip link set` if there is one.
    pub fn set_bridge(&self, name: &str, mac: Mac) -> Result<bool, Errno> {
        let kind = attribute(libc::IFLA_INFO_KIND, b"bridge");
        let info = attribute(libc::IFLA_LINKINFO, &kind);
        let bridge = link(name, 0, &[attribute(libc::IFLA_ADDRESS, &mac.0), info]);
        self.request(libc::RTM_NEWLINK, CHANGE | libc::NLM_F_CREATE, &bridge)
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
        let mac = attribute(libc::IFLA_ADDRESS, &peer.mac.0);
        let netns = attribute(libc::IFLA_NET_NS_PID, &peer.pid.to_ne_bytes());
        let peer = link(peer.name, 0, &[mac, netns, queues.clone()]);
        let kind = attribute(libc::IFLA_INFO_KIND, b"veth");
        let data = attribute(libc::IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &peer));
        let info = attribute(libc::IFLA_LINKINFO, &[kind, data].concat());
        let master = attribute(libc::IFLA_MASTER, &bridge.to_ne_bytes());
        let veth = link(name, libc::IFF_UP, &[master, info, queues]);
        self.request(libc::RTM_NEWLINK, ADD, &veth)
    }

    /// `ip link set PORT type bridge_slave learning off flood off locked on group_fwd_mask 0xfffd`:
    /// the bridge passes on only what comes from MAC addresses that it was told (5.18), and learns
    /// none. What is for an address behind no port, as that of a container which has ended, goes to
    /// none. And all frames have to pass through the bridge: those to IEEE 802.1's own addresses
    /// would go to the port itself, as to an interface of the host. With `hairpin on` what
    /// came from the port may go back to it.
    pub fn set_port(&self, port: u32, hairpin: bool) -> Result<bool, Errno> {
        let options = [
            attribute(IFLA_BRPORT_LEARNING, &[0]),
            attribute(IFLA_BRPORT_UNICAST_FLOOD, &[0]),
            attribute(IFLA_BRPORT_LOCKED, &[1]),
            attribute(IFLA_BRPORT_GROUP_FWD_MASK, &0xfffdu16.to_ne_bytes()),
            attribute(IFLA_BRPORT_MODE, &[hairpin.into()]),
        ];
        let kind = attribute(libc::IFLA_INFO_SLAVE_KIND, b"bridge");
        let data = attribute(libc::IFLA_INFO_SLAVE_DATA, &options.concat());
        let info = attribute(libc::IFLA_LINKINFO, &[kind, data].concat());
        // struct ifinfomsg, see `link`.
        let mut message = vec![0; 16];
        message[4..8].copy_from_slice(&port.to_ne_bytes());
        message.extend(info);
        self.request(libc::RTM_NEWLINK, CHANGE, &message)
    }

    /// `bridge fdb add MAC dev PORT master static`: behind which port of a bridge it is.
    pub fn add_bridge_entry(&self, port: u32, mac: Mac) -> Result<bool, Errno> {
        let mut entry = neighbour(libc::AF_BRIDGE, port, libc::NUD_NOARP, libc::NTF_MASTER);
        entry.extend(attribute(libc::NDA_LLADDR, &mac.0));
        self.request(libc::RTM_NEWNEIGH, SET, &entry)
    }

    /// `ip neigh replace IP lladdr MAC dev NAME`: nobody has to ask for it, nobody else can pose as
    /// it, and it does not count for the limit that is one for all network namespaces, arp(7).
    pub fn set_neighbour(&self, index: u32, ip: Ipv4Addr, mac: Mac) -> Result<bool, Errno> {
        let mut entry = neighbour(libc::AF_INET, index, libc::NUD_PERMANENT, 0);
        entry.extend(attribute(libc::NDA_DST, &ip.octets()));
        entry.extend(attribute(libc::NDA_LLADDR, &mac.0));
        self.request(libc::RTM_NEWNEIGH, SET, &entry)
    }

    /// `ip neigh del IP dev NAME`
    pub fn delete_neighbour(&self, index: u32, ip: Ipv4Addr) -> Result<bool, Errno> {
        let mut entry = neighbour(libc::AF_INET, index, 0, 0);
        entry.extend(attribute(libc::NDA_DST, &ip.octets()));
        self.request(libc::RTM_DELNEIGH, CHANGE, &entry)
    }

    /// `ip link set NAME up`
    pub fn set_up(&self, name: &str) -> Result<bool, Errno> {
        self.request(libc::RTM_SETLINK, CHANGE, &link(name, libc::IFF_UP, &[]))
    }

    /// `ip link show NAME`: is its state UP? It is if there is something at the other end, too.
    pub fn is_up(&self, name: &str) -> Result<bool, Errno> {
        let answer = self.ask(libc::RTM_GETLINK, libc::NLM_F_REQUEST, &link(name, 0, &[]))?;
        let mut at = 32; // behind a header and a struct ifinfomsg, each of 16 bytes
        while at < answer.len() {
            let length = usize::from(u16::from_ne_bytes(field(&answer, at)));
            if u16::from_ne_bytes(field(&answer, at + 2)) == libc::IFLA_OPERSTATE {
                return Ok(field(&answer, at + 4) == [libc::IF_OPER_UP as u8]);
            }
            at += length.next_multiple_of(4).max(4);
        }
        Ok(true) // it does not say
    }

    /// `ip addr replace IP/PREFIX dev NAME metric METRIC`: with it comes a route of that metric.
    pub fn set_address(
        &self,
        name: &str,
        ip: Ipv4Addr,
        prefix: u8,
        metric: u32,
    ) -> Result<bool, Errno> {
        let index = if_nametoindex(name)?;
        // struct ifaddrmsg: family, prefix, flags, scope, index.
        let mut message = vec![libc::AF_INET as u8, prefix, 0, 0];
        message.extend(index.to_ne_bytes());
        message.extend(attribute(libc::IFA_LOCAL, &ip.octets()));
        message.extend(attribute(IFA_RT_PRIORITY, &metric.to_ne_bytes()));
        self.request(libc::RTM_NEWADDR, SET, &message)
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
        self.request(libc::RTM_NEWROUTE, ADD, &message)
    }
}

/// The other end of a veth: its name, its MAC, and a process in whose network namespace it is to
/// be.
pub struct Peer<'a> {
    pub name: &'a str,
    pub mac: Mac,
    pub pid: i32,
}

/// An interface's own address, in the frames of the network.
#[derive(Clone, Copy)]
pub struct Mac([u8; 6]);

impl Display for Mac {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A MAC address made of the IP address: whoever knows the one knows the other.
pub fn mac_of(ip: Ipv4Addr) -> Mac {
    let [a, b, c, d] = ip.octets();
    Mac([0x02, 0x42, a, b, c, d]) // 02: not a manufacturer's
}

/// Some bytes of an answer; zeros if it is not as long.
fn field<const N: usize>(answer: &[u8], at: usize) -> [u8; N] {
    let mut field = [0; N];
    if let Some(bytes) = answer.get(at..at + N) {
        field.copy_from_slice(bytes);
    }
    field
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

/// The fixed part of an entry in a table of neighbours, struct ndmsg.
fn neighbour(family: i32, index: u32, state: u16, flags: u8) -> Vec<u8> {
    let mut bytes = vec![family as u8, 0, 0, 0];
    bytes.extend(index.to_ne_bytes());
    bytes.extend(state.to_ne_bytes());
    bytes.extend([flags, 0]);
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
