//! The host's own name and address.

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// The address from which the default route would send. No packet leaves: connecting a datagram socket only asks
/// the kernel for the way.
pub(crate) fn default_route() -> Option<IpAddr> {
    const SOMEWHERE: [u8; 4] = [192, 0, 2, 1];
    let socket = UdpSocket::bind(("0.0.0.0", 0)).ok()?;
    socket.connect(SocketAddr::from((SOMEWHERE, 9))).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

/// The kernel's name of this host.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
