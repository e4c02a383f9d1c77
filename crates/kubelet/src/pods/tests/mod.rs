//! What is tested of pods: single plans, and whole lives.

mod claims;
mod lives;
mod plans;
mod resizes;
mod statics;
