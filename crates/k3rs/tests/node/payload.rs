//! The program in the test's image: this binary under another name.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use linux::signals::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};

use crate::exchange::{fetch, resolve};

pub(crate) fn main(words: &[&str]) -> i32 {
    match words {
        ["exit", code] => code.parse().unwrap(),
        ["serve", port] => serve(port.parse().unwrap()),
        ["copy"] => {
            std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).unwrap();
            5
        }
        ["report", service] => report(service),
        ["append", text, files @ ..] => append(text, files),
        other => {
            eprintln!("payload: {other:?}");
            64
        }
    }
}

/// Tells whoever connects the host's name, until SIGTERM.
fn serve(port: u16) -> i32 {
    let signals = SignalFd::new(&[15]).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    loop {
        let mut either = [PollFd::new(&signals, PollFlags::IN), PollFd::new(&listener, PollFlags::IN)];
        poll(&mut either, None).unwrap();
        if !either[0].revents().is_empty() {
            return 0;
        }
        let (mut connection, _) = listener.accept().unwrap();
        // Probes hang up without listening.
        _ = connection.write_all(name.as_bytes());
    }
}

/// Leaves what it finds as the termination message.
fn report(service: &str) -> i32 {
    #[expect(clippy::disallowed_methods, reason = "the pod's environment is what is looked at")]
    let colour = std::env::var("COLOUR").unwrap();
    let file = fs::read_to_string("/settings/file").unwrap();
    let resolvers = fs::read_to_string("/etc/resolv.conf").unwrap();
    let server = resolvers.lines().find_map(|it| it.strip_prefix("nameserver ")).unwrap().parse().unwrap();
    let address = resolve(server, service).unwrap();
    let reply = fetch(SocketAddr::new(address, 80)).unwrap();
    leave(&format!("{colour}; {file}; {reply}"))
}

/// Adds to files, and leaves what is in them then.
fn append(text: &str, files: &[&str]) -> i32 {
    let contents = files.iter().map(|path| {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        fs::read_to_string(path).unwrap()
    });
    leave(&contents.collect::<Vec<_>>().join("; "))
}

/// As the termination message.
fn leave(words: &str) -> i32 {
    let mut message = fs::OpenOptions::new().write(true).open("/dev/termination-log").unwrap();
    message.write_all(words.as_bytes()).unwrap();
    0
}
