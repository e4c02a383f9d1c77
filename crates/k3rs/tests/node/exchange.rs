//! The two questions that are asked from pods and from the node alike.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

/// What the server at `address` says until it closes.
pub(crate) fn fetch(address: SocketAddr) -> io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    connection.read_to_string(&mut text)?;
    Ok(text)
}

/// The one IPv4 address that the DNS server `server` knows for `name` (RFC 1035, section 4).
pub(crate) fn resolve(server: IpAddr, name: &str) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((server, 53))?;
    // Recursion is desired; one question: type A, class IN.
    let mut query = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).map_err(io::Error::other)?);
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    socket.send(&query)?;
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply)?;
    match (&reply[6..8], reply[..length].last_chunk::<4>()) {
        // The address ends the record, and the record the message.
        ([0, 1], Some(address)) => Ok(IpAddr::from(*address)),
        _ => Err(io::Error::other(format!("{name} has no single address: {:?}", &reply[..length]))),
    }
}
