//! Bootstrap tokens: Secrets of the type `bootstrap.kubernetes.io/token`, with which nodes join that know nothing yet.
//!
//! Two controllers: one deletes tokens whose time is over, the other signs `kube-public/cluster-info` with each token,
//! so that who has it can tell that what he reads there is true.

mod plan;

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use client::informer::{Change, Informer};
use client::reconcile::{Action, Controller, changed};
use client::request::Delete;
use client::typed::{resource_of, scope_of};
use client::view::View;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{Context, ReconcileError};

const NAMESPACE: &str = "kube-system";

fn tokens(context: &Context) -> Arc<View> {
    let scope = scope_of::<Secret>().with_fields(&format!("type={},metadata.namespace={NAMESPACE}", plan::TYPE));
    Arc::new(View::new(&*context.informers, scope))
}

fn is_token(entry: &Entry) -> bool {
    entry.key.namespace == NAMESPACE && entry.to_value()["type"] == plan::TYPE
}

/// Deletes tokens whose time is over, until `token` is cancelled.
pub async fn run_cleaner(context: Context, token: CancellationToken) {
    const NAME: &str = "token-cleaner-controller";
    let (session, writer) = context.session("token-cleaner", NAME);
    let session = Arc::new(session);
    let tokens = tokens(&context);
    let own =
        |change: &Change| changed(change).filter(|it| is_token(it)).map(|it| it.key.clone()).into_iter().collect();
    let controller = Controller::new(NAME, context.clock.clone()).watch(&tokens, own);
    let work = controller.run(token.clone(), move |key: ObjectKey| {
        let (session, tokens) = (session.clone(), tokens.clone());
        async move {
            let Some(entry) = tokens.get(&key) else { return Ok::<_, ReconcileError>(Action::Done) };
            match plan::left(&entry.to_value(), session.clock.now()) {
                None => Ok(Action::Done),
                Some(left) if !left.is_zero() => Ok(Action::After(left)),
                Some(_) => match session.requests.delete(&resource_of::<Secret>(), &key, &Delete::of(&entry.uid)).await
                {
                    Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
                    _ => Ok(Action::Done),
                },
            }
        }
    });
    tokio::join!(work, writer.run(token));
}

/// Signs `cluster-info`, until `token` is cancelled.
pub async fn run_signer(context: Context, token: CancellationToken) {
    const NAME: &str = "bootstrap-signer-controller";
    let (session, writer) = context.session("bootstrap-signer", NAME);
    let session = Arc::new(session);
    let tokens = tokens(&context);
    let info = ObjectKey::new("kube-public", "cluster-info");
    let scope = scope_of::<ConfigMap>().with_fields("metadata.name=cluster-info,metadata.namespace=kube-public");
    let maps = Arc::new(View::new(&*context.informers, scope));
    let (of_token, of_map) = (info.clone(), info.clone());
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&tokens, move |change| {
            changed(change).filter(|it| is_token(it)).map(|_| of_token.clone()).into_iter().collect()
        })
        .watch(&maps, move |change| {
            changed(change).filter(|it| it.key == of_map).map(|_| of_map.clone()).into_iter().collect()
        });
    let work = controller.run(token.clone(), move |key: ObjectKey| {
        let (session, tokens, maps) = (session.clone(), tokens.clone(), maps.clone());
        async move {
            let Some(map) = maps.get(&key) else { return Ok::<_, ReconcileError>(Action::Done) };
            let all: Vec<_> = tokens.list(None).iter().filter(|it| is_token(it)).map(|it| it.to_value()).collect();
            let now = session.clock.now();
            if let Some(data) = plan::signed(&map.to_value()["data"], &all, now) {
                match session.requests.edit(&resource_of::<ConfigMap>(), &map, None, &json!({"data": data})).await {
                    Err(error) if !error.is_not_found() => return Err(error.into()),
                    _ => {}
                }
            }
            Ok(Action::Done)
        }
    });
    tokio::join!(work, writer.run(token));
}
