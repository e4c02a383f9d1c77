//! One image, from its name to its place in the store.
//!
//! Layers come side by side and are unpacked one on the other, each while it still comes. What the store has, or
//! another pull is getting, is not fetched again.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Weak};

use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
use futures::stream::{self, TryStreamExt};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response};
use hyper::body::Incoming;
use linux::files::Lock;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use super::auth::Credentials;
use super::download::{self, Growing};
use super::error::{PullError, Trouble};
use super::manifests::{self, Document, Parts};
use super::transport::Registry;
use super::{Patience, Remote};
use crate::images::formats::{Configuration, Descriptor};
use crate::images::names::{Reference, is_digest};
use crate::images::{self, Given, Image, Images};

/// Layers of one image that come at once, as many as containerd's.
const AT_ONCE: usize = 3;
/// Images that come at once. Each holds a thread of those that also write what comes, of which there are some hundreds.
const IMAGES_AT_ONCE: usize = 32;
/// An index within an index within an index leads nowhere.
const DEEPEST: usize = 3;
/// What registries say of a document without sending it.
const DIGEST: &str = "docker-content-digest";

/// A document by its digest.
struct Named {
    digest: String,
    bytes: Vec<u8>,
}

/// Gets images from registries.
pub(crate) struct Puller {
    images: Arc<Images>,
    remote: Remote,
    patience: Patience,
    /// Layers that some pull is getting, by chain id.
    under_way: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
    turns: Semaphore,
}

impl Puller {
    pub(crate) fn new(images: Arc<Images>, remote: Remote) -> Self {
        Self::with_patience(images, remote, Patience::default())
    }

    pub(super) fn with_patience(images: Arc<Images>, remote: Remote, patience: Patience) -> Self {
        Self { images, remote, patience, under_way: Mutex::default(), turns: Semaphore::new(IMAGES_AT_ONCE) }
    }

    /// Gets an image, or finds that the node has what the registry has under its name. `pod` proves whose pod asks.
    pub(crate) async fn pull(&self, name: &Reference, pod: Option<&Credentials>) -> Result<Image, PullError> {
        let complete = name.complete();
        let unresolved = |why| PullError::unresolved(&complete, why);
        let registries = self.registries(name, pod).map_err(unresolved)?;
        let (first, found) = self.resolve(name, &registries).await.map_err(unresolved)?;
        let found = match found {
            Resolved::There(image) => return Ok(image),
            Resolved::Manifest(found, document) => (found, document),
        };
        // Who had the manifest is asked for its parts first.
        let mut registries = registries;
        registries[..=first].rotate_right(1);
        self.get(name, &registries, found).await.map_err(|why| PullError::failed(&complete, &why))
    }

    fn registries(&self, name: &Reference, pod: Option<&Credentials>) -> Result<Vec<Arc<Registry>>, Trouble> {
        let (registry, path) = name.place();
        let places = self.remote.registries.places(registry, path, pod);
        let places = places.map_err(|why| Trouble::unusable(format_args!("registry {registry}"), why))?;
        let registry = |place| Arc::new(Registry::new(place, self.remote.clone(), self.patience));
        Ok(places.into_iter().map(registry).collect())
    }

    /// Asks one registry after the other; the last one patiently.
    async fn resolve(&self, name: &Reference, registries: &[Arc<Registry>]) -> Result<(usize, Resolved), Trouble> {
        let mut most_telling = Trouble::NotFound(name.complete());
        for (at, registry) in registries.iter().enumerate() {
            let tries = if at + 1 == registries.len() { self.patience.tries } else { 1 };
            let mut tried = 0;
            let why = loop {
                tried += 1;
                match self.resolve_at(name, registry).await {
                    Ok(found) => return Ok((at, found)),
                    Err(why) if why.is_passing() && tried < tries => {
                        sleep_until(Instant::now() + self.patience.pause_after(tried, why.wait())).await;
                    }
                    Err(why) => break why,
                }
            };
            tracing::debug!(image = name.complete(), endpoint = registry.place.endpoint.registry(), %why, "no manifest");
            if at == 0 || why.weight() > most_telling.weight() {
                most_telling = why;
            }
        }
        Err(most_telling)
    }

    async fn resolve_at(&self, name: &Reference, registry: &Registry) -> Result<Resolved, Trouble> {
        let wanted = name.digest.as_deref().or(name.tag.as_deref()).unwrap_or("latest");
        let object = format!("manifests/{wanted}");
        // A question costs less than an answer, and registries count answers.
        if let Some(image) = self.images.find(&name.complete()) {
            let said = match registry.ask(Method::HEAD, &object, &accepted()).await {
                Ok(answer) => name.digest.clone().or(header(&answer, DIGEST).map(str::to_owned)),
                // It may know no such questions.
                Err(why @ Trouble::Status { .. }) if !why.is_passing() => None,
                Err(why) => return Err(why),
            };
            if said.is_some_and(|it| image.digests.contains(&format!("{}@{it}", name.repository))) {
                return Ok(Resolved::There(image));
            }
        }
        let (found, document) = document(registry, &object, name.digest.as_deref()).await?;
        Ok(Resolved::Manifest(found, document))
    }

    /// Everything that a manifest leads to.
    async fn get(
        &self,
        name: &Reference,
        registries: &[Arc<Registry>],
        (top, mut document): (Named, Document),
    ) -> Result<Image, Trouble> {
        let mut digest = top.digest.clone();
        let mut depth = 0;
        let parts = loop {
            match document {
                Document::Image(parts) => break parts,
                Document::Index(_) if depth == DEEPEST => {
                    return Err(Trouble::unusable(
                        format_args!("manifest {}", top.digest),
                        "it is an index of indexes",
                    ));
                }
                Document::Index(manifests) => {
                    let chosen = manifests::choose(&digest, &manifests)?;
                    let object = format!("manifests/{}", chosen.digest);
                    digest.clone_from(&chosen.digest);
                    let (object, digest) = (&object, &digest);
                    let asked =
                        |it: Arc<Registry>| async move { self::document(&it, object, Some(digest)).await }.boxed();
                    document = from_any(registries, asked).await?.1;
                    depth += 1;
                }
            }
        };
        let configuration = self.configuration(registries, &parts.configuration).await?;
        let parsed: Configuration = serde_json::from_slice(&configuration)
            .map_err(|why| Trouble::unusable(format_args!("configuration {}", parts.configuration.digest), why))?;
        let chains = images::chains(&parts.configuration.digest, &parsed, parts.layers.len()).map_err(troubled)?;
        let _turn = self.turns.acquire().await.map_err(|why| Trouble::Node(why.to_string()))?;
        let lock = self.lock().await?;
        self.layers(registries, &parts, &parsed.rootfs.diff_ids, &chains, &lock).await?;
        let given = Given {
            id: parts.configuration.digest,
            configuration,
            manifest: Some((top.digest, top.bytes)),
            names: vec![name.clone()],
            chains,
            pulled: true,
        };
        let images = Arc::clone(&self.images);
        blocking(move || {
            let admitted = images.admit(given).map_err(troubled);
            drop(lock);
            admitted
        })
        .await
    }

    async fn configuration(&self, registries: &[Arc<Registry>], part: &Descriptor) -> Result<Vec<u8>, Trouble> {
        let object = format!("blobs/{}", part.digest);
        let (object, what) = (&object, &format!("configuration {}", part.digest));
        let asked = |registry: Arc<Registry>| {
            async move {
                let answer = registry.ask(Method::GET, object, &HeaderMap::new()).await?;
                let bytes = registry.body(what, answer, part.size.min(manifests::LARGEST)).await?;
                if bytes.len() as u64 != part.size {
                    let why = format_args!("{} bytes came, the manifest says {}", bytes.len(), part.size);
                    return Err(Trouble::unusable(what, why));
                }
                manifests::verified(Some(&part.digest), &bytes)?;
                Ok(bytes)
            }
            .boxed()
        };
        from_any(registries, asked).await
    }

    /// Fetches and unpacks what the store lacks.
    async fn layers(
        &self,
        registries: &[Arc<Registry>],
        parts: &Parts,
        diff_ids: &[String],
        chains: &[String],
        lock: &Arc<Lock>,
    ) -> Result<(), Trouble> {
        // Held until all is unpacked: who gets the same layers waits for them, lowest first.
        let mut ours = Vec::new();
        let (mut coming, mut fetches) = (Vec::new(), Vec::new());
        for (at, (chain, part)) in chains.iter().zip(&parts.layers).enumerate() {
            if self.images.layer(chain).exists() {
                continue;
            }
            ours.push(self.own(chain).await);
            if self.images.layer(chain).exists() {
                continue;
            }
            let (writing, growing) = download::growing(self.images.root())?;
            coming.push((at, growing));
            fetches.push(download::fetch(registries, part, writing));
        }
        let fetching = stream::iter(fetches.into_iter().map(Ok)).try_for_each_concurrent(AT_ONCE, |it| it);
        let unpacking = async {
            for (at, growing) in coming {
                let told = growing.again();
                let unpacked = self.unpack(at, &parts.layers[at], &diff_ids[at], chains, growing, lock).await;
                // A download that failed is why its layer could not be unpacked.
                unpacked.map_err(|why| told.trouble().unwrap_or(why))?;
            }
            Ok(())
        };
        match select(pin!(unpacking), Box::pin(fetching)).await {
            Either::Left((unpacked, _)) => unpacked,
            Either::Right((Ok(()), unpacking)) => unpacking.await,
            Either::Right((Err(why), unpacking)) => {
                // It ends soon, for what it waits for does not come any more; nothing of it is left then.
                _ = unpacking.await;
                Err(why)
            }
        }
    }

    async fn unpack(
        &self,
        at: usize,
        part: &Descriptor,
        diff_id: &str,
        chains: &[String],
        growing: Growing,
        lock: &Arc<Lock>,
    ) -> Result<(), Trouble> {
        let images = Arc::clone(&self.images);
        let (chain, digest, diff_id) = (chains[at].clone(), part.digest.clone(), diff_id.to_owned());
        let lower = chains[..at].iter().rev().map(|it| images.layer(it).join("fs")).collect::<Vec<_>>();
        // Whoever stops waiting for it does not take the lock away from it.
        let lock = Arc::clone(lock);
        blocking(move || {
            let unpacked = images.unpack(growing, &chain, &diff_id, Some(&digest), &lower);
            drop(lock);
            unpacked.map_err(|why| of_layer(&digest, why))
        })
        .await
    }

    /// The right to get a layer.
    async fn own(&self, chain: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut under_way = self.under_way.lock();
            under_way.retain(|_, it| it.strong_count() > 0);
            let known = under_way.get(chain).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let new = Arc::default();
                under_way.insert(chain.to_owned(), Arc::downgrade(&new));
                new
            })
        };
        lock.lock_owned().await
    }

    /// The store's lock, by which nothing goes that is found there.
    async fn lock(&self) -> Result<Arc<Lock>, Trouble> {
        let images = Arc::clone(&self.images);
        blocking(move || images.lock_shared().map(Arc::new).map_err(troubled)).await
    }
}

enum Resolved {
    /// The node has it.
    There(Image),
    Manifest(Named, Document),
}

/// What the first of the registries that can answers.
async fn from_any<'a, T>(
    registries: &[Arc<Registry>],
    ask: impl Fn(Arc<Registry>) -> BoxFuture<'a, Result<T, Trouble>>,
) -> Result<T, Trouble> {
    let mut most_telling: Option<Trouble> = None;
    for registry in registries {
        let mut tried = 0;
        let why = loop {
            tried += 1;
            match ask(Arc::clone(registry)).await {
                Ok(found) => return Ok(found),
                Err(why) if why.is_passing() && tried < registry.patience.tries => {
                    sleep_until(Instant::now() + registry.patience.pause_after(tried, why.wait())).await;
                }
                Err(why) => break why,
            }
        };
        if most_telling.as_ref().is_none_or(|it| it.weight() < why.weight()) {
            most_telling = Some(why);
        }
    }
    Err(most_telling.unwrap_or_else(|| Trouble::NotFound("an endpoint".to_owned())))
}

/// A manifest or an index, checked.
async fn document(registry: &Registry, object: &str, wanted: Option<&str>) -> Result<(Named, Document), Trouble> {
    let answer = registry.ask(Method::GET, object, &accepted()).await?;
    // By tag nothing but the registry's own word says what was meant.
    let said = header(&answer, DIGEST).filter(|it| is_digest(it)).map(str::to_owned);
    let media_type = header(&answer, CONTENT_TYPE.as_str()).unwrap_or_default().to_owned();
    let bytes = registry.body(object, answer, manifests::LARGEST).await?;
    let digest = manifests::verified(wanted.or(said.as_deref()), &bytes)?;
    let document = manifests::read(&digest, &media_type, &bytes)?;
    Ok((Named { digest, bytes }, document))
}

fn accepted() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(manifests::ACCEPT));
    headers
}

fn header<'a>(answer: &'a Response<Incoming>, name: &str) -> Option<&'a str> {
    answer.headers().get(name).and_then(|it| it.to_str().ok())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Trouble> + Send + 'static) -> Result<T, Trouble> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|why| Err(Trouble::Node(why.to_string())))
}

fn troubled(why: images::Error) -> Trouble {
    match why {
        images::Error::Store { .. } => Trouble::Node(why.to_string()),
        other => Trouble::Unusable(other.to_string()),
    }
}

fn of_layer(digest: &str, why: images::Error) -> Trouble {
    let layer = format_args!("layer {digest}");
    match why {
        images::Error::Store { .. } => Trouble::Node(why.to_string()),
        images::Error::Archive(why) => Trouble::unusable(layer, why),
        images::Error::Digest { expected } => {
            Trouble::unusable(layer, format_args!("its content is not that of {expected}"))
        }
        other => Trouble::unusable(layer, other),
    }
}
