//! What linux.netDevices asks of the kernel's network, rtnetlink(7).

use crate::step::{Result, attempt, step};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::os::fd::RawFd;

/// A socket to the kernel, for the network namespace in which it was opened.
pub struct Route(Socket);

impl Route {
    pub fn open() -> Result<Route> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok::<_, io::Error>(Route(socket))
        };
        attempt("netlink socket", open())
    }

    /// The caller is in another namespace for that long.
    pub fn open_in(network: &File) -> Result<Route> {
        let own = attempt("/proc/self/ns/net", File::open("/proc/self/ns/net"))?;
        step!(setns(network, CloneFlags::CLONE_NEWNET), "nsenter --net")?;
        let route = Route::open();
        step!(setns(own, CloneFlags::CLONE_NEWNET), "nsenter --net (back)")?;
        route
    }

    /// Sends a request, and returns what the kernel answers until it has no more to say.
    fn ask(&self, body: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), body.into());
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        let mut answers = vec![];
        loop {
            let (bytes, _) = self.0.recv_from_full()?;
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest);
                let answer = answer.map_err(|why| io::Error::other(why.to_string()))?;
                let length = (answer.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or_default();
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
        }
    }

    pub fn index_of(&self, name: &str) -> io::Result<u32> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.into()));
        for answer in self.ask(RouteNetlinkMessage::GetLink(link), NLM_F_ACK)? {
            if let RouteNetlinkMessage::NewLink(link) = answer {
                return Ok(link.header.index);
            }
        }
        Err(Errno::ENODEV.into())
    }

    /// Those that its administrator gave it, and that are good everywhere.
    pub fn addresses(&self, index: u32) -> io::Result<Vec<AddressMessage>> {
        let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let mut addresses = vec![];
        for answer in self.ask(all, NLM_F_DUMP)? {
            let RouteNetlinkMessage::NewAddress(address) = answer else { continue };
            let header = &address.header;
            let is_lasting = header.flags.contains(AddressHeaderFlags::Permanent);
            if header.index == index && header.scope == AddressScope::Universe && is_lasting {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    pub fn add_address(&self, index: u32, mut address: AddressMessage) -> io::Result<()> {
        address.header.index = index;
        address.header.flags = AddressHeaderFlags::empty();
        address.attributes.retain(|attribute| {
            matches!(
                attribute,
                AddressAttribute::Address(_)
                    | AddressAttribute::Local(_)
                    | AddressAttribute::Broadcast(_)
            )
        });
        let new = RouteNetlinkMessage::NewAddress(address);
        self.ask(new, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(drop)
    }

    /// `network` is an open network namespace.
    pub fn move_link(&self, index: u32, name: &str, network: RawFd) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes.push(LinkAttribute::NetNsFd(network));
        link.attributes.push(LinkAttribute::IfName(name.into()));
        self.ask(RouteNetlinkMessage::SetLink(link), NLM_F_ACK).map(drop)
    }

    pub fn set_up(&self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::SetLink(link), NLM_F_ACK).map(drop)
    }
}
