//! CronJobs.

use serde_json::Value;

use super::{jobs, validation};
use crate::resources::core::pods;
use crate::resources::fields::{default, default_zero, object, within};
use crate::resources::hooks::{Generation, Hooks, PLAIN};

pub(super) static CRON_JOBS: Hooks = Hooks {
    generation: Generation::Counted,
    default: defaults,
    prepare_create: |cron| {
        within(cron, "spec", |spec| {
            within(spec, "jobTemplate", |template| within(template, "spec", pods::prepare_template));
        });
    },
    validate_create: validation::cron_job,
    validate_update: validation::cron_job_update,
    ..PLAIN
};

fn defaults(cron: &mut Value) {
    let spec = object(cron, "spec");
    default_zero(spec, "concurrencyPolicy", "Allow");
    default(spec, "suspend", false);
    default(spec, "successfulJobsHistoryLimit", 3);
    default(spec, "failedJobsHistoryLimit", 1);
    within(spec, "jobTemplate", |template| within(template, "spec", jobs::template_defaults));
}
