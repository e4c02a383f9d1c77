//! Real clusters, as a user makes them. Those of native nodes need root, the others a Docker engine; where that is
//! missing a test says so and passes, unless `K3RS_TEST_REQUIRE` names it.
//!
//! ```text
//! user        a home of its own, and in native cases a network of its own
//! inventory   what of a cluster is on the machine
//! life        create, stop, start, delete
//! interrupts  create, ended at every moment
//! imports     images for nodes that run
//! application what people run on it, over its nodes' bad days, of an image made here
//! several     three clusters at once
//! storm       a node whose agent and shims are killed while pods come and go
//! readme      the README's commands
//! ```

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on says so and ends")]
#![expect(clippy::disallowed_methods, reason = "the program is tested as its users start it")]

mod application;
mod image;
mod imports;
mod interrupts;
mod inventory;
mod life;
mod readme;
mod several;
mod storm;
mod user;
