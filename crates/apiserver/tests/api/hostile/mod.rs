//! What harms a server that trusts, by the numbers of our table of bad inputs and faults. What is answered is compared
//! with upstream in `tests/corpus/hostile.yaml`; here it is seen that it takes bounded time and memory, and that the
//! server serves on.

mod bodies;
mod callees;
mod certificates;
mod credentials;
mod early;
mod frames;
mod issuers;
mod limits;
mod listener;
mod lists;
mod sockets;
mod storms;
mod watchers;

use std::fs;

use tokio::sync::{Mutex, MutexGuard};

/// What this process holds of the machine's memory, in bytes.
fn resident() -> usize {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// The memory is all tests': those who measure it take turns.
async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}
