//! Upstream's kube-controller-manager and kube-scheduler in place of ours, unchanged: what they log as errors is either
//! upstream's ordinary noise or something that our API server does not do as theirs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::programs::{Program, kubeconfig, log_path, tls_folder};
use crate::tools;

const MANAGER: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";

pub(super) struct Swap {
    _programs: [Program; 2],
    folder: PathBuf,
}

impl Swap {
    /// Starts both as clients of the server below `folder`.
    pub(super) fn start(root: &Path, folder: &Path) -> Result<Self> {
        tools::build(root, &[MANAGER, SCHEDULER].map(str::to_owned))?;
        let tls = tls_folder(folder);
        let file = |flag: &str, name: &str| format!("--{flag}={}", tls.join(name).display());
        let access = |flag: &str| format!("--{flag}={}", kubeconfig(folder).display());
        let common = [
            access("kubeconfig"),
            access("authentication-kubeconfig"),
            access("authorization-kubeconfig"),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
        ];
        let manager = [
            file("service-account-private-key-file", "service.key"),
            file("root-ca-file", "server-ca.crt"),
            file("cluster-signing-cert-file", "client-ca.crt"),
            file("cluster-signing-key-file", "client-ca.key"),
            "--use-service-account-credentials=true".to_owned(),
            "--allocate-node-cidrs=true".to_owned(),
            "--cluster-cidr=10.42.0.0/16".to_owned(),
            "--service-cluster-ip-range=10.43.0.0/16".to_owned(),
        ];
        let manager: Vec<String> = common.iter().cloned().chain(manager).collect();
        let programs = [
            Program::start(MANAGER, &tools::path(root, MANAGER), folder, &manager)?,
            Program::start(SCHEDULER, &tools::path(root, SCHEDULER), folder, &common)?,
        ];
        Ok(Self { _programs: programs, folder: folder.to_owned() })
    }

    /// What both logged as errors, by place in their sources: how often, and once in full. Their logs are kept in `folder`.
    pub(super) fn errors(&self, folder: &Path) -> Result<String> {
        let mut text = String::new();
        for name in [MANAGER, SCHEDULER] {
            let log = std::fs::read_to_string(log_path(&self.folder, name))?;
            std::fs::copy(log_path(&self.folder, name), log_path(folder, name))?;
            text += &format!("{name}:\n");
            for (place, (count, example)) in count_errors(&log) {
                text += &format!("{count:>6}  {place}\n        {example}\n");
            }
        }
        Ok(text)
    }
}

/// klog begins an error with `E`, date, time and thread, then the place.
fn count_errors(log: &str) -> BTreeMap<&str, (usize, &str)> {
    let mut found: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for line in
        log.lines().filter(|line| line.starts_with('E') && line[1..].starts_with(|it: char| it.is_ascii_digit()))
    {
        let Some((head, message)) = line.split_once("] ") else { continue };
        let place = head.split_whitespace().last().unwrap_or(head);
        found.entry(place).or_insert((0, message)).0 += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_their_place() {
        let log = "I1121 17:54:10.280715       1 serving.go:1] Everything is well\n\
                   E1121 17:54:11.000000       1 a.go:7] \"one\" err=\"x\"\nE1121 17:54:12.000000       1 a.go:7] two\n\
                   Error: not klog's\n";
        assert_eq!(count_errors(log), BTreeMap::from([("a.go:7", (2, "\"one\" err=\"x\""))]));
    }
}
