//! What the runtime must know again after a restart: a file for each sandbox and container, replaced by rename.
//!
//! ```text
//! <state>/sandboxes/<id>/record.json   beside it shim.sock, shim.log, shm, resolv.conf, hostname
//! <state>/containers/<id>/record.json  beside it exit.json, once the shim has seen the end
//! ```
//! The configurations are CRI messages in protobuf, in base64: nothing in them is lost that this server does not know.

use std::io;
use std::path::Path;

use base64::Engine as _;
use serde::{Deserialize, Serialize};

pub(crate) const VERSION: u32 = 1;
const FILE: &str = "record.json";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub version: u32,
    pub id: String,
    #[serde(with = "message")]
    pub config: api::cri::PodSandboxConfig,
    pub runtime_handler: String,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Empty on the node's network.
    pub addresses: Vec<std::net::IpAddr>,
    /// Set once the sandbox is complete. A record without it is what a crash left of an attempt.
    pub ready: bool,
    /// Set when the kubelet stopped it; only asking and removing are left.
    pub stopped: bool,
}

impl SandboxRecord {
    pub(crate) fn pod_uid(&self) -> &str {
        self.config.metadata.as_ref().map_or("", |it| &it.uid)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub version: u32,
    pub id: String,
    pub sandbox: String,
    #[serde(with = "message")]
    pub config: api::cri::ContainerConfig,
    /// The image's id.
    pub image: String,
    /// Nanoseconds since 1970, as the next.
    pub created_at: i64,
    /// Set before the process is asked for.
    pub started_at: Option<i64>,
    pub user: crate::users::User,
    /// Why it could not be started.
    pub start_error: Option<String>,
    /// Without the pod's part: empty when there is no limit to speak of.
    #[serde(with = "message")]
    pub resources: api::cri::LinuxContainerResources,
}

/// Writes a record into its object's directory.
pub(crate) fn save(directory: &Path, record: &impl Serialize) -> io::Result<()> {
    linux::files::replace(&directory.join(FILE), &serde_json::to_vec(record)?, 0o600)
}

/// Reads a record. One of a newer version is an error, for guessing would lose pods.
pub(crate) fn load<T: for<'de> Deserialize<'de>>(directory: &Path) -> io::Result<T> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let text = std::fs::read(directory.join(FILE))?;
    let found: Version = serde_json::from_slice(&text)?;
    if found.version > VERSION {
        let text = format!("{} is of version {}, this program knows {VERSION}", directory.display(), found.version);
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(serde_json::from_slice(&text)?)
}

/// 64 hexadecimal digits, as tools expect of containers.
pub(crate) fn new_id() -> String {
    use std::fmt::Write;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the kernel's random numbers do not run out");
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

mod message {
    use super::*;
    use prost::Message;
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(message: &impl Message, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(message.encode_to_vec()))
    }

    pub(super) fn deserialize<'de, T: Message + Default, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        T::decode(&bytes[..]).map_err(serde::de::Error::custom)
    }
}
