//! What a node's disk has of pods, whoever remembers them: a pod may have got its folder and its volumes and be deleted
//! before the runtime had heard of it, while no agent was there to see.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::config::Config;
use crate::runtime::Known;

/// All pods that have a folder or logs here. Of one without logs only the UID is known.
pub(crate) fn on_disk(config: &Config) -> BTreeSet<Known> {
    let mut found: BTreeMap<String, Known> = BTreeMap::new();
    for uid in folders(&config.root_dir.join("pods")) {
        let nameless = Known { uid: uid.clone(), namespace: String::new(), name: String::new() };
        found.insert(uid, nameless);
    }
    for folder in folders(&config.pod_logs_dir) {
        // Neither names nor UIDs have an underscore.
        if let [namespace, name, uid] = folder.split('_').collect::<Vec<_>>()[..] {
            let own = Known { uid: uid.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() };
            found.insert(own.uid.clone(), own);
        }
    }
    found.into_values().collect()
}

fn folders(path: &Path) -> Vec<String> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "not looked through for what is left of pods");
            return Vec::new();
        }
    };
    let folders = entries.flatten().filter(|it| it.file_type().is_ok_and(|it| it.is_dir()));
    folders.filter_map(|it| it.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_found_by_their_folders_and_by_their_logs() {
        let disk = tempfile::tempdir().unwrap();
        let mut config = Config::new("n1");
        config.root_dir = disk.path().join("kubelet");
        config.pod_logs_dir = disk.path().join("logs");
        assert_eq!(on_disk(&config), BTreeSet::new());
        for folder in
            ["kubelet/pods/u1/volumes", "kubelet/pods/u2", "logs/default_web_u2", "logs/default_db_u3", "logs/x"]
        {
            std::fs::create_dir_all(disk.path().join(folder)).unwrap();
        }
        let known = |uid: &str, namespace: &str, name: &str| Known {
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let wanted = [known("u1", "", ""), known("u2", "default", "web"), known("u3", "default", "db")];
        assert_eq!(on_disk(&config), wanted.into());
    }
}
