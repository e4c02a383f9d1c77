//! `k3rs server`, `k3rs agent`: from the command line to a running process and its exit code.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

use crate::components::node;
use crate::flags::{Cli, Command, ServerFlags, expand};
use crate::server::{Options, Server};
use crate::{VERSION, addresses};

const KUBELET_PORT: u16 = 10250;

/// Runs the program as `args` (the program's name first) ask; returns its exit code.
pub fn main(args: Vec<OsString>) -> i32 {
    if let Some(code) = early(&args) {
        return code;
    }
    #[expect(clippy::disallowed_methods, reason = "the flags table's own variable, needed before clap reads it")]
    let config_env = std::env::var_os("K3S_CONFIG_FILE");
    let args = match expand(args, config_env) {
        Ok(args) => args,
        Err(why) => return refuse(&why),
    };
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(why) => {
            // Help and version are asked for, the rest is a mistake; clap knows which stream each goes to.
            let _ = why.print();
            return why.exit_code();
        }
    };
    match cli.command {
        _ if cli.version => version(),
        None => version(),
        Some(Command::Server(flags)) => server(&flags),
        Some(Command::Agent(_)) => refuse(&"an agent without a server has nothing to run: say --server and --token"),
    }
}

/// What this binary is when it is not a command: a pod's shim. Called before there is a second thread; `None` goes on.
pub fn early(args: &[OsString]) -> Option<i32> {
    (args.get(1)? == node::SHIM).then(|| containers::shim_main(&args[2..]))
}

#[expect(clippy::print_stdout, reason = "the version is what was asked for")]
fn version() -> i32 {
    println!("k3rs version {VERSION}");
    0
}

#[expect(clippy::print_stderr, reason = "before there is a log")]
fn refuse(why: &dyn std::fmt::Display) -> i32 {
    eprintln!("k3rs: {why}");
    1
}

fn server(flags: &ServerFlags) -> i32 {
    start_log(flags.node.debug);
    // A second provider in the process would be a bug: this one is the first to be asked.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = match options(flags) {
        Ok(options) => options,
        Err(why) => return refuse(&why),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return refuse(&why),
    };
    runtime.block_on(async {
        let mut terminate = match signal(SignalKind::terminate()) {
            Ok(terminate) => terminate,
            Err(why) => return refuse(&why),
        };
        let server = match Server::start(options).await {
            Ok(server) => server,
            Err(why) => return refuse(&why),
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        info!("stopping");
        match server.stop().await {
            Ok(()) => 0,
            Err(why) => {
                error!(%why, "closing the datastore");
                1
            }
        }
    })
}

fn start_log(debug: bool) {
    let filter = EnvFilter::new(if debug { "debug,h2=info,hyper=info,rustls=info" } else { "info" });
    // Logging twice in one process would be a bug; the first subscriber stays.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

/// The tenth address of the first Service range, unless the flags say otherwise.
fn cluster_dns(flags: &ServerFlags) -> Vec<IpAddr> {
    if !flags.cluster_dns.is_empty() {
        return flags.cluster_dns.clone();
    }
    flags.service_cidr.first().and_then(|range| range.hosts().nth(9)).into_iter().collect()
}

/// What the flags mean.
fn options(flags: &ServerFlags) -> Result<Options, String> {
    let node_ip = match flags.node.node_ip.first() {
        Some(ip) => *ip,
        None => addresses::default_route().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    };
    let node_name = match &flags.node.node_name {
        Some(name) => name.clone(),
        None => addresses::hostname().to_lowercase(),
    };
    let token = match (&flags.node.token, &flags.node.token_file) {
        (Some(token), _) => Some(token.clone()),
        (None, Some(path)) => Some(read_token(path)?),
        (None, None) => None,
    };
    Ok(Options {
        data_dir: flags.node.data_dir.clone(),
        bind: SocketAddr::from((flags.bind_address, flags.https_listen_port)),
        advertise: flags.advertise_address.unwrap_or(node_ip),
        names: flags.tls_san.iter().cloned().chain([node_name.clone(), node_ip.to_string()]).collect(),
        cluster_cidrs: flags.cluster_cidr.clone(),
        service_cidrs: flags.service_cidr.clone(),
        node_ports: flags.service_node_port_range.first..=flags.service_node_port_range.last,
        cluster_domain: flags.cluster_domain.clone(),
        kubeconfig: flags.write_kubeconfig.clone().unwrap_or_else(|| PathBuf::from("/etc/rancher/k3s/k3s.yaml")),
        kubeconfig_mode: flags.write_kubeconfig_mode,
        node: (!flags.disable_agent).then(|| node::Options {
            name: node_name.clone(),
            ips: if flags.node.node_ip.is_empty() { vec![node_ip] } else { flags.node.node_ip.clone() },
            external_ips: flags.node.node_external_ip.clone(),
            labels: flags.node.node_label.clone(),
            taints: flags.node.node_taint.clone(),
            cluster_cidrs: flags.cluster_cidr.clone(),
            service_cidrs: flags.service_cidr.clone(),
            cluster_dns: cluster_dns(flags),
            cluster_domain: flags.cluster_domain.clone(),
            resolv_conf: flags.node.resolv_conf.clone().unwrap_or_else(|| PathBuf::from("/etc/resolv.conf")),
            port: KUBELET_PORT,
        }),
        node_name,
        scheduler: !flags.disable_scheduler,
        cluster_dns: cluster_dns(flags),
        token,
    })
}

fn read_token(path: &Path) -> Result<String, String> {
    let text =
        std::fs::read_to_string(path).map_err(|why| format!("reading the token from {}: {why}", path.display()))?;
    match text.trim() {
        "" => Err(format!("the token file {} is empty: write the token into it", path.display())),
        token => Ok(token.to_owned()),
    }
}
