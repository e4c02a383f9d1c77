//! Who has a port: found by the socket's inode among the descriptors of all processes that the caller may look at.

use std::fs;

/// The process, as a person looks for it: `process 812 (nginx)`. `transport` is `tcp` or `udp`.
pub fn holder(transport: &str, port: u16) -> Option<String> {
    let inodes: Vec<String> = ["", "6"]
        .iter()
        .filter_map(|family| fs::read_to_string(format!("/proc/net/{transport}{family}")).ok())
        .flat_map(|table| listeners(&table, port))
        .collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        // Beside the processes there are other folders, and another name of our own.
        if process.file_name().to_str().is_none_or(|it| it.parse::<u32>().is_err()) {
            continue;
        }
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        let links = descriptors.flatten().filter_map(|it| fs::read_link(it.path()).ok());
        let mut links = links.filter_map(|it| it.to_str().map(str::to_owned));
        if links.any(|link| inodes.iter().any(|inode| link == format!("socket:[{inode}]"))) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("process {} ({})", process.file_name().to_string_lossy(), name.trim()));
        }
    }
    None
}

/// The inodes of sockets bound to `port` and not connected, from a table of /proc/net (proc_net(5)).
fn listeners(table: &str, port: u16) -> Vec<String> {
    let listening = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = fields.get(1)?.rsplit_once(':')?.1;
        let remote = fields.get(2)?.rsplit_once(':')?.1;
        let inode = fields.get(9)?;
        (u16::from_str_radix(local, 16) == Ok(port) && remote == "0000").then(|| (*inode).to_owned())
    };
    table.lines().skip(1).filter_map(listening).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn whoever_listens_is_named() {
        let me = format!("process {} (", std::process::id());
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        assert!(holder("tcp", port).is_some_and(|it| it.starts_with(&me)));
        drop(tcp);
        assert_eq!(holder("tcp", port), None);
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(holder("udp", udp.local_addr().unwrap().port()).is_some_and(|it| it.starts_with(&me)));
    }
}
