//! Several sources in one volume: ConfigMaps, Secrets, the downward API, service account tokens.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, ProjectedVolumeSource, ServiceAccountTokenProjection};

use super::{File, Payload, VolumeError, Volumes, config_map, downward, mode, secret};
use crate::env::fields::Facts;
use crate::pods::spec;

/// What a token lives when nothing is asked for: upstream's hour.
const TOKEN_SECONDS: i64 = 3600;
/// A token older than a day is renewed whatever its life (upstream's `maxTTL`).
const LONGEST_USE: SignedDuration = SignedDuration::from_hours(24);

/// The files, and when a token in them must be renewed.
pub(super) async fn payload(
    volumes: &Volumes,
    pod: &Pod,
    facts: &Facts,
    source: &ProjectedVolumeSource,
    now: Timestamp,
) -> Result<(Payload, Option<Timestamp>), VolumeError> {
    let objects = &*volumes.objects;
    let default = source.default_mode;
    let mut payload = Payload::new();
    let mut refresh_at: Option<Timestamp> = None;
    for source in source.sources.iter().flatten() {
        if let Some(it) = &source.config_map {
            let optional = it.optional == Some(true);
            payload.extend(config_map::files(objects, pod, &it.name, it.items.as_deref(), default, optional).await?);
        } else if let Some(it) = &source.secret {
            let optional = it.optional == Some(true);
            payload.extend(secret::files(objects, pod, &it.name, it.items.as_deref(), default, optional).await?);
        } else if let Some(it) = &source.downward_api {
            payload.extend(downward::payload(pod, facts, it.items.as_deref().unwrap_or_default(), default)?);
        } else if let Some(it) = &source.service_account_token {
            let (file, renew_at) = token(volumes, pod, it, default, now).await?;
            payload.insert(it.path.clone(), file);
            refresh_at = Some(refresh_at.map_or(renew_at, |earlier| earlier.min(renew_at)));
        } else {
            return Err(VolumeError::Unsupported);
        }
    }
    Ok((payload, refresh_at))
}

async fn token(
    volumes: &Volumes,
    pod: &Pod,
    source: &ServiceAccountTokenProjection,
    default: Option<i32>,
    now: Timestamp,
) -> Result<(File, Timestamp), VolumeError> {
    let seconds = source.expiration_seconds.unwrap_or(TOKEN_SECONDS);
    let audience = source.audience.as_deref().filter(|audience| !audience.is_empty());
    let token = volumes.tokens.request(pod, audience, seconds).await.map_err(VolumeError::Token)?;
    let (user, group) = owner(pod);
    // With an owner or a group of its own, nobody else may read it.
    let mode = if user.is_some() || group { 0o600 } else { mode(None, default) };
    let file = File { data: token.token.into_bytes(), mode, uid: user };
    Ok((file, renew_at(token.expires, now)))
}

/// Four fifths into the token's life, but not after a day.
fn renew_at(expires: Timestamp, now: Timestamp) -> Timestamp {
    let life = expires.duration_since(now);
    now + (life * 4 / 5).min(LONGEST_USE)
}

/// The user whom all containers run as, if it is one, and whether the pod has an fsGroup.
fn owner(pod: &Pod) -> (Option<u32>, bool) {
    let spec = spec::spec(pod);
    let of_pod = spec.security_context.clone().unwrap_or_default();
    let users: Vec<Option<i64>> = spec::containers(&spec)
        .iter()
        .map(|(_, it)| it.security_context.as_ref().and_then(|own| own.run_as_user).or(of_pod.run_as_user))
        .collect();
    let same = users.windows(2).all(|pair| pair[0] == pair[1]);
    let user = users.first().copied().flatten().filter(|_| same).and_then(|uid| u32::try_from(uid).ok());
    (user, of_pod.fs_group.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_at_four_fifths_of_its_life_and_at_least_daily() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let after = |seconds: i64| renew_at(now + SignedDuration::from_secs(seconds), now).as_second() - 1_000_000;
        assert_eq!(after(3600), 2880);
        assert_eq!(after(365 * 86400), 86400);
    }
}
