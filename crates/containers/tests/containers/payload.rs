//! The program in the tests' image: this binary under another name.

use std::io::{Read, Write};

use linux::signals::SignalFd;

pub(crate) fn main(words: &[&str]) -> i32 {
    match words {
        ["echo", text @ ..] => println!("{}", text.join(" ")),
        ["complain", text] => eprintln!("{text}"),
        ["exit", code] => return code.parse().unwrap(),
        ["wait"] => wait(),
        ["stubborn"] => loop {
            let signals = SignalFd::new(&[15]).unwrap();
            _ = rustix::event::poll(&mut [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)], None);
            if signals.next().unwrap().is_some() {
                println!("ignored");
            }
        },
        ["cat"] => _ = std::io::copy(&mut std::io::stdin(), &mut std::io::stdout()).unwrap(),
        ["show", path] => print!("{}", std::fs::read_to_string(path).unwrap_or_else(|error| format!("{error}\n"))),
        ["link", path] => println!("{}", std::fs::read_link(path).unwrap().display()),
        ["write", path] => return i32::from(std::fs::File::create(path).is_err()),
        ["list", path] => {
            let mut names: Vec<_> =
                std::fs::read_dir(path).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            println!("{}", names.join(" "));
        }
        ["eat"] => {
            let mut eaten = Vec::new();
            loop {
                eaten.push(vec![1_u8; 1 << 20]);
            }
        }
        ["mount"] => {
            let made = linux::mounts::new_filesystem("tmpfs", &[], linux::mounts::Attributes::empty());
            println!("{}", made.err().and_then(|it| it.raw_os_error()).unwrap_or(0));
        }
        ["env", name] => println!("{}", std::env::vars().find(|it| it.0 == *name).map_or_else(String::new, |it| it.1)),
        ["read-line"] => {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
            print!("got {line}");
            std::io::stdout().flush().unwrap();
            let mut rest = Vec::new();
            std::io::stdin().read_to_end(&mut rest).unwrap();
        }
        ["serve", port] => {
            let listener = std::net::TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
            println!("ready");
            let (mut socket, _) = listener.accept().unwrap();
            let mut text = [0; 4];
            socket.read_exact(&mut text).unwrap();
            text.reverse();
            socket.write_all(&text).unwrap();
            wait();
        }
        other => {
            eprintln!("payload: {other:?}");
            return 64;
        }
    }
    0
}

/// Until SIGTERM.
fn wait() {
    let signals = SignalFd::new(&[15]).unwrap();
    println!("waiting");
    rustix::event::poll(&mut [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)], None).unwrap();
    println!("bye");
}
