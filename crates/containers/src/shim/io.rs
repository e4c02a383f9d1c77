//! A container's standard streams: to its log, to and from the clients that are attached.
//!
//! Nothing waits here: the shim's loop asks what to wait for ([`Streams::interests`]) and calls [`Streams::pump`]
//! whenever something happened. A client that does not read stops the container's output once a buffer is full,
//! as a terminal would; one that is gone is forgotten.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::PollFlags;
use rustix::io::Errno;

use crate::logs::{Log, Stream};

/// How much may wait for a client.
const BUFFER: usize = 64 << 10;

/// One turn moves at most this much, so that a chatty container does not starve the shim.
const TURN: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Streams {
    /// To write to: a pipe, or the terminal's master.
    stdin: Option<OwnedFd>,
    pending: Vec<u8>,
    /// Close `stdin` when its first client has.
    once: bool,
    closing: bool,
    outputs: [Option<OwnedFd>; 2],
    log: Log,
    attached: Vec<Attachment>,
}

/// One client.
#[derive(Debug)]
struct Attachment {
    input: Option<OwnedFd>,
    outputs: [Option<Sink>; 2],
}

#[derive(Debug)]
struct Sink {
    fd: OwnedFd,
    buffer: VecDeque<u8>,
}

impl Streams {
    /// All descriptors must be nonblocking.
    pub(super) fn new(stdin: Option<OwnedFd>, outputs: [Option<OwnedFd>; 2], log: Log, once: bool) -> Self {
        Self { stdin, pending: Vec::new(), once, closing: false, outputs, log, attached: Vec::new() }
    }

    pub(super) fn attach(&mut self, input: Option<OwnedFd>, outputs: [Option<OwnedFd>; 2]) {
        let sink = |fd: Option<OwnedFd>| fd.map(|fd| Sink { fd, buffer: VecDeque::new() });
        // A stream that has ended has nothing to give: its sink is dropped, which tells the client.
        let [stdout, stderr] = outputs;
        let stdout = stdout.filter(|_| self.outputs[0].is_some());
        let stderr = stderr.filter(|_| self.outputs[1].is_some());
        self.attached.push(Attachment { input, outputs: [sink(stdout), sink(stderr)] });
    }

    pub(super) fn reopen_log(&mut self) -> std::io::Result<()> {
        self.log.reopen()
    }

    /// What to wait for.
    pub(super) fn interests<'a>(&'a self, add: &mut impl FnMut(BorrowedFd<'a>, PollFlags)) {
        for (number, output) in self.outputs.iter().enumerate() {
            if let Some(fd) = output.as_ref().filter(|_| !self.full(number)) {
                add(fd.as_fd(), PollFlags::IN);
            }
        }
        if let Some(fd) = &self.stdin {
            // The other end going away is always told; a terminal's master is among the outputs already.
            let waiting = !self.pending.is_empty();
            add(fd.as_fd(), if waiting { PollFlags::OUT } else { PollFlags::empty() });
        }
        for client in &self.attached {
            if let Some(fd) = client.input.as_ref().filter(|_| self.pending.is_empty()) {
                add(fd.as_fd(), PollFlags::IN);
            }
            for sink in client.outputs.iter().flatten() {
                let waiting = !sink.buffer.is_empty();
                add(sink.fd.as_fd(), if waiting { PollFlags::OUT } else { PollFlags::empty() });
            }
        }
    }

    /// The other end of one of our descriptors to write to is gone.
    pub(super) fn broken(&mut self, fd: RawFd) {
        if self.stdin.as_ref().is_some_and(|it| it.as_raw_fd() == fd) {
            self.stdin = None;
        }
        for sink in self.attached.iter_mut().flat_map(|it| &mut it.outputs) {
            if sink.as_ref().is_some_and(|it| it.fd.as_raw_fd() == fd) {
                *sink = None;
            }
        }
    }

    /// Moves what can be moved.
    pub(super) fn pump(&mut self) {
        for number in 0..2 {
            self.pump_output(number);
        }
        self.pump_input();
        self.attached.retain(|it| it.input.is_some() || it.outputs.iter().any(Option::is_some));
    }

    /// The container has ended: takes what is left in the pipes, then closes everything.
    pub(super) fn finish(&mut self) {
        for number in 0..2 {
            // A process that was left behind may hold the pipe and write on: no more is taken than fits in a pipe.
            let mut left = 1 << 20;
            while let Some(length @ 1..) = self.read_output(number) {
                left -= length.min(left);
                if left == 0 {
                    break;
                }
            }
            self.close_output(number);
        }
        self.stdin = None;
        self.attached.clear();
    }

    fn full(&self, number: usize) -> bool {
        self.attached.iter().filter_map(|it| it.outputs[number].as_ref()).any(|it| it.buffer.len() >= BUFFER)
    }

    fn pump_output(&mut self, number: usize) {
        let mut moved = 0;
        loop {
            for client in &mut self.attached {
                let sink = &mut client.outputs[number];
                if sink.as_mut().is_some_and(|it| !it.flush()) {
                    *sink = None;
                }
            }
            if moved >= TURN || self.full(number) {
                return;
            }
            match self.read_output(number) {
                Some(0) | None => return,
                Some(length) => moved += length,
            }
        }
    }

    /// Reads once and hands out what came. `None` when there is nothing now, 0 when the stream has ended.
    fn read_output(&mut self, number: usize) -> Option<usize> {
        let mut buffer = [0; 32 << 10];
        let length = match rustix::io::read(self.outputs[number].as_ref()?, &mut buffer[..]) {
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return None,
            // EIO is how a terminal says that nobody has it open any more.
            Err(_) => 0,
        };
        if length == 0 {
            self.close_output(number);
            return Some(0);
        }
        let stream = if number == 0 { Stream::Stdout } else { Stream::Stderr };
        self.log.write(stream, &buffer[..length]);
        for sink in self.attached.iter_mut().filter_map(|it| it.outputs[number].as_mut()) {
            sink.buffer.extend(&buffer[..length]);
        }
        Some(length)
    }

    fn close_output(&mut self, number: usize) {
        if self.outputs[number].take().is_some() {
            self.log.finish(if number == 0 { Stream::Stdout } else { Stream::Stderr });
        }
        for client in &mut self.attached {
            if let Some(mut sink) = client.outputs[number].take() {
                // The last bytes of a slow client: as much as its pipe takes.
                sink.flush();
            }
        }
    }

    fn pump_input(&mut self) {
        loop {
            if !self.write_pending() {
                return;
            }
            let mut buffer = [0; 16 << 10];
            let mut ended = false;
            let mut read = 0;
            for client in &mut self.attached {
                let Some(fd) = &client.input else { continue };
                match rustix::io::read(fd, &mut buffer[..]) {
                    Ok(0) => {
                        client.input = None;
                        ended = true;
                    }
                    Ok(length) => {
                        read = length;
                        break;
                    }
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(_) => client.input = None,
                }
            }
            self.closing |= ended && self.once;
            if read == 0 {
                if self.closing {
                    self.stdin = None;
                }
                return;
            }
            self.pending.extend_from_slice(&buffer[..read]);
        }
    }

    /// True when nothing is left to write.
    fn write_pending(&mut self) -> bool {
        while !self.pending.is_empty() {
            let Some(stdin) = &self.stdin else {
                self.pending.clear();
                return true;
            };
            match rustix::io::write(stdin, &self.pending) {
                Ok(length) => {
                    self.pending.drain(..length);
                }
                Err(Errno::AGAIN | Errno::INTR) => return false,
                Err(_) => self.stdin = None,
            }
        }
        true
    }
}

impl Sink {
    /// False when the client is gone.
    fn flush(&mut self) -> bool {
        while !self.buffer.is_empty() {
            match rustix::io::write(&self.fd, self.buffer.as_slices().0) {
                Ok(length) => {
                    self.buffer.drain(..length);
                }
                Err(Errno::AGAIN | Errno::INTR) => return true,
                Err(_) => return false,
            }
        }
        true
    }
}
