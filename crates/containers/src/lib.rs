//! Images, sandboxes, containers: a CRI runtime.
