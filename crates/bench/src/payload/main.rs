//! What the benchmark's pods and containers run.
//!
//! ```text
//! wait       for ever; as PID 1 it does not hear TERM, so that only its end by force is measured
//! obey       until TERM, at which it ends at once
//! (nothing)  ends at once
//! ```

use tokio::signal::unix::{SignalKind, signal};

fn main() -> std::io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("wait") => loop {
            std::thread::park();
        },
        Some("obey") => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            runtime.block_on(async {
                signal(SignalKind::terminate())?.recv().await;
                Ok(())
            })
        }
        _ => Ok(()),
    }
}
