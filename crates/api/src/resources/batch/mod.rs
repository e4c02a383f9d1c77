//! `batch`: Jobs and CronJobs.

mod cronjobs;
mod jobs;
mod schedule;
mod successes;
mod validation;

use super::row::{Row, namespaced};
use crate::resource::Resource;

/// The rows of the group, by name.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        namespaced("batch", "cronjobs", "CronJob").hooks(&cronjobs::CRON_JOBS).short(&["cj"]).category("all").status(),
        namespaced("batch", "jobs", "Job").hooks(&jobs::JOBS).category("all").status().select_as(
            "status.successful",
            "/status/succeeded",
            "0",
        ),
    ]
}
