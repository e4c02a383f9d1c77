//! `batch`: Jobs and CronJobs.

use super::row::{Row, namespaced};
use crate::resource::Resource;

/// The rows of the group, by name.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced("batch", "cronjobs", "CronJob").short(&["cj"]).category("all").status(),
        namespaced("batch", "jobs", "Job").category("all").status().select_as(
            "status.successful",
            "/status/succeeded",
            "0",
        ),
    ]
}
