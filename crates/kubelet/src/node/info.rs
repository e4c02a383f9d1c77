//! What machine this is.

use k8s_openapi::api::core::v1::NodeSystemInfo;

use crate::runtime::Runtime;

pub(crate) fn observe(runtime: &Runtime) -> NodeSystemInfo {
    let uname = rustix::system::uname();
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let machine_id = read("/etc/machine-id");
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id: read("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: format!("{}://{}", runtime.name, runtime.version),
        kernel_version: uname.release().to_string_lossy().into_owned(),
        // The service proxy is part of the agent; upstream leaves this empty since 1.33.
        kube_proxy_version: String::new(),
        kubelet_version: String::new(),
        system_uuid: Some(read("/sys/class/dmi/id/product_uuid"))
            .filter(|uuid| !uuid.is_empty())
            .unwrap_or_else(|| machine_id.clone()),
        machine_id,
        operating_system: "linux".to_owned(),
        os_image: os_image(&read("/etc/os-release")),
        swap: None,
    }
}

/// The architecture by Go's names, as images and labels have it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn os_image(release: &str) -> String {
    let value = |line: &str| Some(line.strip_prefix("PRETTY_NAME=")?.trim_matches('"').to_owned());
    release.lines().find_map(value).unwrap_or_else(|| "Linux".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operating_systems_name_is_read() {
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 13\"\n"), "Debian GNU/Linux 13");
        assert_eq!(os_image(""), "Linux");
    }
}
