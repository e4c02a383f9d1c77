//! Writes slices, and remembers what was written.

use api::object::ObjectKey;
use client::reconcile::Action;
use client::request::Delete;
use client::typed::resource_of;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::plan::Step;
use crate::common::expectations::Expectations;
use crate::{ReconcileError, Session};

pub(super) async fn apply(
    session: &Session,
    expectations: &Expectations,
    service: &ObjectKey,
    steps: Vec<Step>,
) -> Result<Action, ReconcileError> {
    let resource = resource_of::<EndpointSlice>();
    for step in steps {
        let outcome = match &step {
            Step::Create(slice) => session.requests.create(&resource, &service.namespace, slice).await.map(Some),
            Step::Change(entry, change) => session.requests.edit(&resource, entry, None, change).await,
            Step::Delete(entry) => {
                session.requests.delete(&resource, &entry.key, &Delete::of(&entry.uid)).await.map(|_| None)
            }
        };
        match (outcome, &step) {
            (Ok(Some(written)), _) => expectations.wrote(service, &written),
            (Ok(None), Step::Delete(entry)) => expectations.deleted(service, &entry.uid),
            (Ok(None), _) => {}
            (Err(error), _) if error.is_namespace_terminating() || error.is_not_found() => {}
            (Err(error), _) => return Err(error.into()),
        }
    }
    Ok(Action::Done)
}
