//! Informers seen as Kubernetes types: decoded when looked at, and dropped after.

use std::marker::PhantomData;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::resource::GroupVersionResource;
use k8s_openapi::Resource;
use serde::de::DeserializeOwned;

use crate::informer::{Informer, Informers, Scope};

/// An informer whose objects are `K`s.
pub struct Typed<K> {
    informer: Arc<dyn Informer>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Typed<K> {
    fn clone(&self) -> Self {
        Self { informer: self.informer.clone(), kind: PhantomData }
    }
}

impl<K: Resource + DeserializeOwned> Typed<K> {
    /// Every object of the kind.
    pub fn all(informers: &dyn Informers) -> Self {
        Self::new(informers.informer(scope_of::<K>()))
    }

    /// Over an informer of the kind's objects.
    pub fn new(informer: Arc<dyn Informer>) -> Self {
        Self { informer, kind: PhantomData }
    }

    pub fn informer(&self) -> &Arc<dyn Informer> {
        &self.informer
    }

    /// The object, unless there is none. `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, namespace: &str, name: &str) -> Option<K> {
        self.by_key(&ObjectKey::new(namespace, name))
    }

    pub fn by_key(&self, key: &ObjectKey) -> Option<K> {
        decode(&*self.informer.get(key)?)
    }

    /// The objects of one namespace, or all, in key order.
    pub fn list(&self, namespace: Option<&str>) -> Vec<K> {
        self.informer.list(namespace).iter().filter_map(|entry| decode(entry)).collect()
    }
}

/// Every object of `K`'s resource.
pub fn scope_of<K: Resource>() -> Scope {
    Scope::all(K::GROUP, K::VERSION, K::URL_PATH_SEGMENT)
}

/// The resource of `K`.
pub fn resource_of<K: Resource>() -> GroupVersionResource {
    scope_of::<K>().resource
}

/// The object as a `K`. One that does not decode is logged and passed over: it must not stop the work on all others.
pub fn decode<K: Resource + DeserializeOwned>(entry: &Entry) -> Option<K> {
    entry
        .decode()
        .inspect_err(|error| tracing::error!(kind = K::KIND, key = %entry.key, %error, "object does not decode"))
        .ok()
}
