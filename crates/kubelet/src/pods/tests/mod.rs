//! What is tested of pods: single plans, and whole lives.

mod lives;
mod plans;
mod statics;
