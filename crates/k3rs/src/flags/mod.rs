//! What people say on the command line, in the environment and in `config.yaml`: k3s's names for what exists here.
//!
//! [`ServerFlags`] and [`AgentFlags`] are what was typed; `server::Options` and `node::Options` are what is meant. The
//! environment is read here and nowhere else. A config file's keys are flags without their dashes; the command line
//! wins over it, and both win over the environment.

mod apiserver;
mod config;
mod kubelet;
mod registries;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use ipnet::IpNet;

pub use apiserver::{ApiServerArgumentError, api_settings};
pub use config::{ConfigError, expand};
pub use kubelet::{KubeletArgumentError, KubeletSettings};
pub use registries::{RegistriesError, read as read_registries};

/// `k3rs`
#[derive(Debug, Parser)]
#[command(
    name = "k3rs",
    about = "Kubernetes, small and simple",
    disable_version_flag = true,
    args_override_self = true
)]
pub struct Cli {
    /// Print the version
    #[arg(long, short = 'v')]
    pub version: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a server: the control plane and, unless told otherwise, a node
    #[command(args_override_self = true)]
    Server(Box<ServerFlags>),
    /// Run a node that belongs to a server
    #[command(args_override_self = true)]
    Agent(Box<AgentFlags>),
    /// Look at the node's containers
    Crictl(Box<crate::crictl::Args>),
}

/// Flags of `k3rs server`.
#[derive(Clone, Debug, Args)]
pub struct ServerFlags {
    #[command(flatten)]
    pub node: NodeFlags,
    /// Listen on this address
    #[arg(long, default_value = "0.0.0.0", help_heading = "Listener")]
    pub bind_address: IpAddr,
    /// Listen on this port
    #[arg(long, default_value_t = 6443, help_heading = "Listener")]
    pub https_listen_port: u16,
    /// The address at which others reach this server
    #[arg(long, help_heading = "Listener")]
    pub advertise_address: Option<IpAddr>,
    /// Further names and addresses on the serving certificate
    #[arg(long, value_delimiter = ',', help_heading = "Listener")]
    pub tls_san: Vec<String>,
    /// Cut the nodes' pod ranges from these
    #[arg(long, value_delimiter = ',', default_value = "10.42.0.0/16", help_heading = "Networking")]
    pub cluster_cidr: Vec<IpNet>,
    /// Take the addresses of Services from these
    #[arg(long, value_delimiter = ',', default_value = "10.43.0.0/16", help_heading = "Networking")]
    pub service_cidr: Vec<IpNet>,
    /// Take node ports from this range
    #[arg(long, value_parser = port_range, default_value = "30000-32767", help_heading = "Networking")]
    pub service_node_port_range: PortRange,
    /// The address of the cluster's DNS; the tenth of the first Service range if not given
    #[arg(long, value_delimiter = ',', help_heading = "Networking")]
    pub cluster_dns: Vec<IpAddr>,
    /// The cluster's DNS zone
    #[arg(long, default_value = "cluster.local", help_heading = "Networking")]
    pub cluster_domain: String,
    /// Write the administrator's kubeconfig here
    #[arg(long, short = 'o', env = "K3S_KUBECONFIG_OUTPUT", help_heading = "Client")]
    pub write_kubeconfig: Option<PathBuf>,
    /// The mode of the kubeconfig, octal
    #[arg(long, env = "K3S_KUBECONFIG_MODE", value_parser = octal, default_value = "600", help_heading = "Client")]
    pub write_kubeconfig_mode: u32,
    /// With this secret only agents can join
    #[arg(long, env = "K3S_AGENT_TOKEN", hide_env_values = true, help_heading = "Cluster")]
    pub agent_token: Option<String>,
    /// Set a flag of the API server, NAME=VALUE: of the audit log, of who is believed (oidc-*), of how much is answered at once
    #[arg(long, help_heading = "Components")]
    pub kube_apiserver_arg: Vec<String>,
    /// Leave out a packaged component: coredns, servicelb
    #[arg(long, value_delimiter = ',', help_heading = "Components")]
    pub disable: Vec<String>,
    /// Run no controllers
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Components")]
    pub disable_controller_manager: bool,
    /// Run no scheduler
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Components")]
    pub disable_scheduler: bool,
    /// Run no node beside the control plane
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Components")]
    pub disable_agent: bool,
}

/// Flags of `k3rs agent`.
#[derive(Clone, Debug, Args)]
pub struct AgentFlags {
    #[command(flatten)]
    pub node: NodeFlags,
}

/// Flags that servers and agents share.
#[derive(Clone, Debug, Args)]
pub struct NodeFlags {
    /// Read flags from this file
    #[arg(long, short = 'c', env = "K3S_CONFIG_FILE", default_value = "/etc/rancher/k3s/config.yaml")]
    pub config: PathBuf,
    /// Log what happens in detail
    #[arg(long, env = "K3S_DEBUG", action = ArgAction::SetTrue)]
    pub debug: bool,
    /// Keep state in this directory
    #[arg(long, short = 'd', env = "K3S_DATA_DIR", default_value = "/var/lib/rancher/k3s", help_heading = "Data")]
    pub data_dir: PathBuf,
    /// The secret with which nodes join
    #[arg(long, short = 't', env = "K3S_TOKEN", hide_env_values = true, help_heading = "Cluster")]
    pub token: Option<String>,
    /// Read the secret from this file
    #[arg(long, env = "K3S_TOKEN_FILE", help_heading = "Cluster")]
    pub token_file: Option<PathBuf>,
    /// Join this server
    #[arg(long, short = 's', env = "K3S_URL", help_heading = "Cluster")]
    pub server: Option<String>,
    /// The node's name; the host's, in lower case, if not given
    #[arg(long, env = "K3S_NODE_NAME", help_heading = "Node")]
    pub node_name: Option<String>,
    /// Register the node with this label, KEY=VALUE
    #[arg(long, value_delimiter = ',', help_heading = "Node")]
    pub node_label: Vec<String>,
    /// Register the node with this taint, KEY=VALUE:EFFECT
    #[arg(long, value_delimiter = ',', help_heading = "Node")]
    pub node_taint: Vec<String>,
    /// Set a flag of the kubelet, NAME=VALUE: max-pods, eviction-hard, system-reserved, config (a file of them), ...
    #[arg(long, help_heading = "Node")]
    pub kubelet_arg: Vec<String>,
    /// Read from this file where images are pulled from: mirrors, credentials, authorities
    #[arg(long, default_value = registries::DEFAULT, help_heading = "Node")]
    pub private_registry: PathBuf,
    /// Ask no registry itself that has mirrors
    #[arg(long, action = ArgAction::SetTrue, help_heading = "Node")]
    pub disable_default_registry_endpoint: bool,
    /// Leave containers to the runtime at this socket, such as unix:///run/containerd/containerd.sock
    #[arg(long, help_heading = "Node")]
    pub container_runtime_endpoint: Option<String>,
    /// Ask for images at this socket, where it is another than the runtime's
    #[arg(long, help_heading = "Node")]
    pub image_service_endpoint: Option<String>,
    /// The node's addresses; that of the default route if not given
    #[arg(long, short = 'i', value_delimiter = ',', help_heading = "Networking")]
    pub node_ip: Vec<IpAddr>,
    /// Addresses at which the node is reached from outside
    #[arg(long, value_delimiter = ',', help_heading = "Networking")]
    pub node_external_ip: Vec<IpAddr>,
    /// The name servers that pods inherit
    #[arg(long, env = "K3S_RESOLV_CONF", help_heading = "Networking")]
    pub resolv_conf: Option<PathBuf>,
}

/// First and last of a range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

fn port_range(text: &str) -> Result<PortRange, String> {
    let parsed = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    match parsed {
        Some((first, last)) if first > 0 && first <= last => Ok(PortRange { first, last }),
        _ => Err(format!("{text} is not a range of ports: write FIRST-LAST, such as 30000-32767")),
    }
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("{text} is not a file mode: write it in octal, such as 644"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_flags_of_a_command_are_called_alike() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn ranges_and_modes_are_checked() {
        assert_eq!(port_range("30000-32767"), Ok(PortRange { first: 30000, last: 32767 }));
        assert!(port_range("9-8").is_err() && port_range("80").is_err() && port_range("0-70000").is_err());
        assert_eq!(octal("0644"), Ok(0o644));
        assert!(octal("888").is_err() && octal("7777").is_err());
    }

    #[test]
    fn the_last_word_on_a_flag_counts() {
        let args = ["k3rs", "server", "--https-listen-port=1", "--tls-san=a", "--https-listen-port=2", "--tls-san=b,c"];
        let Ok(Cli { command: Some(Command::Server(flags)), .. }) = Cli::try_parse_from(args) else { panic!("parses") };
        assert_eq!(flags.https_listen_port, 2);
        assert_eq!(flags.tls_san, ["a", "b", "c"]);
    }
}
