//! Netlink sockets and the shape of their messages; what messages mean is their speaker's business.
//!
//! The kernel handles a request within the `sendmsg` that carries it and queues its answers before that call
//! returns, so everything here is synchronous: a request costs microseconds and never waits for another process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use tokio::io::unix::AsyncFd;

/// The request flag: answer with an acknowledgement.
pub const ACK: u16 = libc::NLM_F_ACK as u16;
/// The request flag: create what does not exist.
pub const CREATE: u16 = libc::NLM_F_CREATE as u16;
/// The request flag: fail if it exists.
pub const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
/// The request flag: replace what exists.
pub const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
/// The request flag: add at the end.
pub const APPEND: u16 = libc::NLM_F_APPEND as u16;
/// The request flag: answer with all objects.
pub const DUMP: u16 = libc::NLM_F_DUMP as u16;

/// The bit that marks an attribute as a list of attributes.
pub const NESTED: u16 = libc::NLA_F_NESTED as u16;

const HEADER: usize = 16;
/// The kernel sends dumps in chunks of at most 32 KiB.
const RECEIVE: usize = 64 * 1024;

/// Whom a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, neighbours.
    Route,
    /// nftables and connection tracking.
    Netfilter,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("netlink socket failed: {0}")]
    Socket(#[from] io::Error),
    /// `index` is the position in the list of requests that were sent together.
    #[error("kernel refused netlink request {index}: {source}{}", detail(.message))]
    Refused { index: usize, source: io::Error, message: String },
    #[error("netlink answer is cut short")]
    Malformed,
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

impl Error {
    /// The error number with which the kernel refused, if it did.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the kernel refused because the object exists already.
    pub fn exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// Whether the kernel refused because there is no such object, link, route or neighbour.
    pub fn not_found(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL))
    }
}

/// One netlink message under construction: a header, the fixed part of its kind, attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A request of `kind` with `flags`, and `fixed`, the struct that its kind starts with.
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&(flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        let mut message = Self { bytes };
        message.raw(fixed);
        message
    }

    /// Appends `bytes`, padded to the alignment of attributes.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Appends one attribute. Attributes hold less than 64 KiB.
    pub fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).expect("callers split what exceeds an attribute");
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value)
    }

    /// Appends a text attribute, terminated by a zero byte.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Appends a number in network byte order, as netfilter wants them.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends a number in host byte order, as rtnetlink wants them.
    pub fn ne32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends an attribute that holds the attributes which `fill` adds.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).expect("callers split what exceeds an attribute");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Sets further request flags.
    pub fn with_flags(mut self, flags: u16) -> Self {
        let all = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | flags;
        self.bytes[6..8].copy_from_slice(&all.to_ne_bytes());
        self
    }

    /// The kind it was made with.
    pub fn kind(&self) -> u16 {
        u16::from_ne_bytes([self.bytes[4], self.bytes[5]])
    }

    /// What follows the header.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }

    fn write(&self, sequence: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let length = self.bytes.len() as u32;
        out[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        out[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
    }
}

/// The attributes of a message or of a nested attribute, as (kind without flag bits, value).
#[derive(Clone, Debug)]
pub struct Attributes<'a>(pub &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    /// Ends at the first attribute that does not fit: a cut message never yields wrong values.
    fn next(&mut self) -> Option<Self::Item> {
        let header = self.0.get(..4)?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

impl<'a> Attributes<'a> {
    /// The value of the first attribute of `kind`.
    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// The text of the first attribute of `kind`, without its terminating zero.
    pub fn get_text(&self, kind: u16) -> Option<&'a str> {
        let value = self.get(kind)?;
        std::str::from_utf8(value.strip_suffix(&[0]).unwrap_or(value)).ok()
    }

    /// The number in network byte order of the first attribute of `kind`.
    pub fn get_be32(&self, kind: u16) -> Option<u32> {
        Some(u32::from_be_bytes(self.get(kind)?.try_into().ok()?))
    }

    /// The number in host byte order of the first attribute of `kind`.
    pub fn get_ne32(&self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.get(kind)?.try_into().ok()?))
    }
}

/// A netlink socket. It stays in the network namespace in which it was opened, whoever uses it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Opens a socket for requests.
    pub fn open(protocol: Protocol) -> Result<Self, Error> {
        let socket = Self::bind(protocol, 0, SocketFlags::CLOEXEC)?;
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            set_option(&socket.fd, option)?;
        }
        Ok(socket)
    }

    fn bind(protocol: Protocol, groups: u32, flags: SocketFlags) -> Result<Self, Error> {
        let protocol = match protocol {
            Protocol::Route => None,
            Protocol::Netfilter => Some(netlink::NETFILTER),
        };
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)
            .map_err(io::Error::from)?;
        rustix::net::bind(&fd, &netlink::SocketAddrNetlink::new(0, groups)).map_err(io::Error::from)?;
        Ok(Self { fd, sequence: 0 })
    }

    /// The number by which the kernel names this socket in what it announces to others.
    pub fn port(&self) -> io::Result<u32> {
        let address = netlink::SocketAddrNetlink::try_from(rustix::net::getsockname(&self.fd)?)?;
        Ok(address.pid())
    }

    /// Sends `messages` with one call, each with [`ACK`], and waits for all answers. All are tried; the first
    /// refusal is the result.
    pub fn request(&mut self, messages: &[Message]) -> Result<(), Error> {
        if messages.is_empty() {
            return Ok(());
        }
        let acked: Vec<_> = messages.iter().map(|message| message.clone().with_flags(ACK)).collect();
        let first = self.send(&acked)?;
        let mut waiting = acked.len();
        let mut refused = None;
        while waiting > 0 {
            self.receive(|answer| {
                if let Some(index) = answer.index(first, acked.len()).filter(|_| answer.kind == NLMSG_ERROR) {
                    waiting -= 1;
                    keep_first(&mut refused, answer.refusal(index));
                }
            })?;
        }
        refused.map_or(Ok(()), Err)
    }

    /// Sends `messages` as one transaction: only refusals are answered, and the last message, which asks for an
    /// [`ACK`] here, ends the answers. `begin` and `end` enclose them.
    pub fn transact(&mut self, begin: Message, messages: &[Message], end: Message) -> Result<(), Error> {
        let Some((last, rest)) = messages.split_last() else { return Ok(()) };
        let mut all = vec![begin];
        all.extend_from_slice(rest);
        all.push(last.clone().with_flags(ACK));
        all.push(end);
        self.reserve(all.iter().map(|message| message.bytes.len()).sum());
        let first = self.send(&all)?;
        let mut done = false;
        let mut refused = None;
        while !done {
            self.receive(|answer| {
                let Some(index) = answer.index(first, all.len()).filter(|_| answer.kind == NLMSG_ERROR) else { return };
                // Index 0 is `begin`: a refusal of the transaction as a whole.
                keep_first(&mut refused, answer.refusal(index.saturating_sub(1)));
                done |= index == 0 || index + 2 >= all.len();
            })?;
        }
        // A kernel that acknowledges the end of the transaction queued that answer too.
        self.drain()?;
        refused.map_or(Ok(()), Err)
    }

    /// Sends a request for one object and gives `each` the kind and payload of the answer.
    pub fn get(&mut self, message: Message, mut each: impl FnMut(u16, &[u8])) -> Result<(), Error> {
        let first = self.send(&[message.with_flags(ACK)])?;
        let mut done = false;
        let mut refused = None;
        while !done {
            self.receive(|answer| match answer.kind {
                _ if answer.index(first, 1).is_none() => {}
                NLMSG_ERROR => {
                    done = true;
                    keep_first(&mut refused, answer.refusal(0));
                }
                kind => each(kind, answer.payload),
            })?;
        }
        refused.map_or(Ok(()), Err)
    }

    /// Sends a request for all objects of a kind and gives `each` the kind and payload of every answer.
    pub fn dump(&mut self, message: Message, mut each: impl FnMut(u16, &[u8])) -> Result<(), Error> {
        let first = self.send(&[message.with_flags(DUMP)])?;
        let mut done = false;
        let mut refused = None;
        while !done {
            self.receive(|answer| {
                if answer.index(first, 1).is_none() {
                    return;
                }
                match answer.kind {
                    NLMSG_DONE => done = true,
                    NLMSG_ERROR => {
                        done = true;
                        keep_first(&mut refused, answer.refusal(0));
                    }
                    kind => each(kind, answer.payload),
                }
            })?;
        }
        refused.map_or(Ok(()), Err)
    }

    /// Sends all with one call; returns the sequence number of the first.
    fn send(&mut self, messages: &[Message]) -> Result<u32, Error> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::with_capacity(messages.iter().map(|message| message.bytes.len()).sum());
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.write(self.sequence, &mut bytes);
        }
        rustix::net::send(&self.fd, &bytes, SendFlags::empty()).map_err(io::Error::from)?;
        Ok(first)
    }

    /// Makes room for a send of `bytes`: the default of about 200 kB would refuse larger ones.
    fn reserve(&self, bytes: usize) {
        const DEFAULT: usize = 128 * 1024;
        if bytes > DEFAULT {
            // The send itself reports it when the buffer could not be raised.
            let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&self.fd, bytes * 2);
        }
    }

    fn drain(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 4096];
        loop {
            match rustix::net::recv(&self.fd, &mut buffer, RecvFlags::DONTWAIT) {
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(e) => return Err(io::Error::from(e).into()),
            }
        }
    }

    fn receive(&mut self, mut each: impl FnMut(&Answer<'_>)) -> Result<(), Error> {
        let mut buffer = vec![0; RECEIVE];
        let (_, length) =
            rustix::io::retry_on_intr(|| rustix::net::recv(&self.fd, buffer.as_mut_slice(), RecvFlags::TRUNC))
                .map_err(io::Error::from)?;
        let mut rest = buffer.get(..length).ok_or(Error::Malformed)?;
        while let Some(header) = rest.get(..HEADER) {
            let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
            let length = word(0) as usize;
            let payload = rest.get(HEADER..length).ok_or(Error::Malformed)?;
            let kind = u16::from_ne_bytes([header[4], header[5]]);
            let flags = u16::from_ne_bytes([header[6], header[7]]);
            each(&Answer { kind, flags, sequence: word(8), port: word(12), payload });
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

/// A socket that hears what the kernel announces to multicast groups.
#[derive(Debug)]
pub struct Listener {
    fd: AsyncFd<Socket>,
}

impl Listener {
    /// Joins the groups of the bit mask `groups`, in the network namespace of the calling thread.
    pub fn join(protocol: Protocol, groups: u32) -> Result<Self, Error> {
        let socket = Socket::bind(protocol, groups, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        // SAFETY: a socket owns its descriptor and never closes or replaces it while it lives.
        let fd = unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)?;
        Ok(Self { fd })
    }

    /// Waits for announcements and gives `each` their kinds, the ports of the sockets that caused them, and payloads.
    /// False when some were lost, because they came faster than they were read: the listener must look for itself.
    pub async fn hear(&mut self, mut each: impl FnMut(u16, u32, &[u8])) -> Result<bool, Error> {
        loop {
            let mut ready = self.fd.readable_mut().await?;
            match ready.get_inner_mut().receive(|answer| each(answer.kind, answer.port, answer.payload)) {
                Ok(()) => return Ok(true),
                Err(Error::Socket(e)) if e.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(Error::Socket(e)) if e.raw_os_error() == Some(libc::ENOBUFS) => return Ok(false),
                Err(e) => return Err(e),
            }
        }
    }
}

const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;

struct Answer<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
    payload: &'a [u8],
}

impl Answer<'_> {
    /// Which of the `count` requests from sequence number `first` on is answered.
    fn index(&self, first: u32, count: usize) -> Option<usize> {
        let index = self.sequence.wrapping_sub(first) as usize;
        (index < count).then_some(index)
    }

    /// The error that an answer of kind [`NLMSG_ERROR`] carries; zero is success.
    fn refusal(&self, index: usize) -> Option<Error> {
        let code = i32::from_ne_bytes(self.payload.get(..4)?.try_into().ok()?);
        if code == 0 {
            return None;
        }
        // With NETLINK_CAP_ACK only the header of the request is echoed, attributes follow it.
        let message = match self.flags & NLM_F_ACK_TLVS {
            0 => None,
            _ => Attributes(self.payload.get(4 + HEADER..).unwrap_or_default()).get_text(NLMSGERR_ATTR_MSG),
        };
        let message = message.unwrap_or_default().to_owned();
        Some(Error::Refused { index, source: io::Error::from_raw_os_error(code.wrapping_neg()), message })
    }
}

const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

fn keep_first(kept: &mut Option<Error>, new: Option<Error>) {
    if kept.is_none() {
        *kept = new;
    }
}

fn set_option(fd: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    let one: libc::c_int = 1;
    // SAFETY: the pointer and length describe `one`, which outlives the call; the kernel only reads it.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const one).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let mut message = Message::new(7, ACK, &[1, 2, 3]);
        message.text(1, "eth0").be32(2, 9).nest(3, |inner| {
            inner.attr(4, &[5]);
        });
        let attributes = Attributes(&message.payload()[4..]);
        assert_eq!(attributes.get_text(1), Some("eth0"));
        assert_eq!(attributes.get_be32(2), Some(9));
        assert_eq!(Attributes(attributes.get(3).unwrap()).get(4), Some(&[5][..]));
        assert_eq!(attributes.get(8), None);
    }

    #[test]
    fn a_cut_attribute_ends_the_list() {
        let mut message = Message::new(7, 0, &[]);
        message.attr(1, &[1, 2, 3, 4]).attr(2, &[5, 6, 7, 8]);
        let payload = message.payload();
        assert_eq!(Attributes(&payload[..payload.len() - 1]).count(), 1);
        assert_eq!(Attributes(&[2, 0, 1, 0]).count(), 0, "a length below the header's own");
    }

    #[test]
    fn the_loopback_link_is_in_a_dump_and_a_missing_one_is_refused() {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        let mut names = Vec::new();
        socket
            .dump(Message::new(libc::RTM_GETLINK, 0, &[0; 16]), |_, payload| {
                names.extend(Attributes(&payload[16..]).get_text(libc::IFLA_IFNAME).map(str::to_owned));
            })
            .unwrap();
        assert!(names.contains(&"lo".to_owned()), "{names:?}");

        let mut fixed = [0; 16];
        fixed[4..8].copy_from_slice(&i32::MAX.to_ne_bytes());
        let error = socket.request(&[Message::new(libc::RTM_GETLINK, 0, &fixed)]).unwrap_err();
        assert!(error.not_found(), "{error}");
    }
}
