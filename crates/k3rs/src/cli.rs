//! `k3rs server`, `k3rs agent`: from the command line to a running process and its exit code.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Parser;
use futures::TryFutureExt;
use kubelet::Power;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

use crate::agent::{self, Agent, ServerUrl};
use crate::components::node::{self, external::Endpoints};
use crate::flags::{Cli, Command, KubeletSettings, NodeFlags, ServerFlags, api_settings, expand, read_registries};
use crate::layout::Layout;
use crate::server::{Options, Server};
use crate::tokens::Token;
use crate::{VERSION, addresses, crictl};

/// What the libraries have no name for.
const SIGPWR: i32 = rustix::process::Signal::POWER.as_raw();
const KUBELET_PORT: u16 = 10250;
/// Beside the data directory, so that a host keeps its name when its data are made anew.
const NODE_PASSWORD: &str = "/etc/rancher/node/password";

/// Runs the program as `args` (the program's name first) ask; returns its exit code.
pub fn main(args: Vec<OsString>) -> i32 {
    if let Some(code) = early(&args) {
        return code;
    }
    let args = called(args);
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
        Some(Command::Agent(flags)) => agent(&flags.node),
        Some(Command::Crictl(args)) => crictl::main(*args),
    }
}

/// By another name, which a link gave it, this is the command of that name.
fn called(mut args: Vec<OsString>) -> Vec<OsString> {
    let name = args.first().and_then(|it| Path::new(it).file_name()).unwrap_or_default();
    if name == "crictl" {
        args[0] = OsString::from("k3rs");
        args.insert(1, OsString::from("crictl"));
    }
    args
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
    let options = options(flags);
    let power = options.iter().flat_map(|it| &it.node).map(|node| node.power.clone()).next();
    let started = options.map(|options| Server::start(options).map_err(|why| why.to_string()));
    run(flags.node.debug, started, power.unwrap_or_default(), |server: Server| async move {
        server.stop().await.map_err(|why| format!("closing the datastore: {why}"))
    })
}

fn agent(flags: &NodeFlags) -> i32 {
    let options = agent_options(flags);
    let power = options.iter().map(|options| options.node.power.clone()).next();
    let started = options.map(|options| Agent::start(options).map_err(|why| why.to_string()));
    run(flags.debug, started, power.unwrap_or_default(), |agent: Agent| async move {
        agent.stop().await;
        Ok(())
    })
}

/// Runs what `starting` starts until it is told to stop; also before it has started.
///
/// SIGTERM and SIGINT stop this process alone: pods go on. SIGPWR, which a node's init hands on, says that the machine goes
/// down: pods end first, in order. SIGUSR2 says that it does not, after all.
fn run<T>(
    debug: bool,
    starting: Result<impl Future<Output = Result<T, String>>, String>,
    power: Power,
    stop: impl AsyncFnOnce(T) -> Result<(), String>,
) -> i32 {
    start_log(debug);
    // A second provider in the process would be a bug: this one is the first to be asked.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let starting = match starting {
        Ok(starting) => starting,
        Err(why) => return refuse(&why),
    };
    // Whatever a client may nest is gone through on any of its threads. What of a stack is not used takes no memory.
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    // A huge page for each thread's stack, and others of which little is used, would double what a small server holds.
    // Containers are given them back. A kernel without them has nothing to refuse.
    _ = rustix::thread::disable_transparent_huge_pages(true);
    let runtime = match threads.enable_all().thread_stack_size(api::codec::json::STACK).build() {
        Ok(runtime) => runtime,
        Err(why) => return refuse(&why),
    };
    runtime.block_on(async {
        let kinds = [SignalKind::terminate(), SignalKind::from_raw(SIGPWR), SignalKind::user_defined2()];
        let [mut terminate, mut down, mut up] = match kinds.map(signal) {
            [Ok(terminate), Ok(down), Ok(up)] => [terminate, down, up],
            [Err(why), ..] | [_, Err(why), _] | [.., Err(why)] => return refuse(&why),
        };
        let mut told = std::pin::pin!(async {
            loop {
                tokio::select! {
                    _ = terminate.recv() => return,
                    _ = tokio::signal::ctrl_c() => return,
                    _ = down.recv() => power.goes_down(),
                    _ = up.recv() => power.stays_up(),
                    () = power.let_go() => return,
                }
            }
        });
        let started = tokio::select! {
            started = starting => match started {
                Ok(started) => started,
                Err(why) => return refuse(&why),
            },
            () = &mut told => return 0,
        };
        told.await;
        info!("stopping");
        match stop(started).await {
            Ok(()) => 0,
            Err(why) => {
                error!(why, "stopping");
                1
            }
        }
    })
}

fn start_log(debug: bool) {
    let filter = EnvFilter::new(if debug { "debug,h2=info,hyper=info,rustls=info" } else { "info" });
    // Logging twice in one process would be a bug; the first subscriber stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
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
    if flags.node.server.as_deref().is_some_and(|url| !url.is_empty()) {
        return Err("a cluster has one server in this version of k3rs: join others with `k3rs agent`, or leave out \
                    --server (K3S_URL) to make a cluster of its own"
            .to_owned());
    }
    let node = node_options(&flags.node)?;
    let node_ip = node.ips[0];
    Ok(Options {
        data_dir: flags.node.data_dir.clone(),
        bind: SocketAddr::from((flags.bind_address, flags.https_listen_port)),
        advertise: flags.advertise_address.unwrap_or(node_ip),
        names: flags.tls_san.iter().cloned().chain([node.name.clone(), node_ip.to_string()]).collect(),
        cluster_cidrs: flags.cluster_cidr.clone(),
        service_cidrs: flags.service_cidr.clone(),
        node_ports: flags.service_node_port_range.first..=flags.service_node_port_range.last,
        cluster_domain: flags.cluster_domain.clone(),
        kubeconfig: flags.write_kubeconfig.clone().unwrap_or_else(|| PathBuf::from("/etc/rancher/k3s/k3s.yaml")),
        kubeconfig_mode: flags.write_kubeconfig_mode,
        node: (!flags.disable_agent).then(|| node.clone()),
        node_name: node.name,
        controllers: !flags.disable_controller_manager,
        scheduler: !flags.disable_scheduler,
        cluster_dns: cluster_dns(flags),
        token: token(&flags.node)?,
        agent_token: flags.agent_token.clone(),
        api: api_settings(&flags.kube_apiserver_arg).map_err(|why| why.to_string())?,
    })
}

/// What the flags mean for a node.
fn node_options(flags: &NodeFlags) -> Result<node::Options, String> {
    let drop_ins = Layout::new(&flags.data_dir).agent("etc/kubelet.conf.d");
    let here = || vec![addresses::default_route().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))];
    Ok(node::Options {
        name: flags.node_name.clone().unwrap_or_else(addresses::hostname).to_lowercase(),
        ips: if flags.node_ip.is_empty() { here() } else { flags.node_ip.clone() },
        external_ips: flags.node_external_ip.clone(),
        labels: flags.node_label.clone(),
        taints: flags.node_taint.clone(),
        resolv_conf: flags.resolv_conf.clone().unwrap_or_else(|| PathBuf::from("/etc/resolv.conf")),
        password: PathBuf::from(NODE_PASSWORD),
        port: KUBELET_PORT,
        power: Power::default(),
        kubelet: KubeletSettings::parse(&flags.kubelet_arg, &drop_ins).map_err(|why| why.to_string())?,
        registries: read_registries(&flags.private_registry, flags.disable_default_registry_endpoint)
            .map_err(|why| why.to_string())?,
        cri_socket: PathBuf::from(node::SOCKET),
        external: external(flags)?,
    })
}

/// The runtime that flags name instead of the node's own.
fn external(flags: &NodeFlags) -> Result<Option<Endpoints>, String> {
    let socket = |endpoint: &Option<String>| {
        let stated = endpoint.as_deref().filter(|it| !it.is_empty());
        stated.map(cri::remote::socket_of).transpose().map_err(|why| why.to_string())
    };
    match (socket(&flags.container_runtime_endpoint)?, socket(&flags.image_service_endpoint)?) {
        (Some(runtime), images) => Ok(Some(Endpoints { runtime, images })),
        (None, None) => Ok(None),
        (None, Some(_)) => Err("--image-service-endpoint is for another container runtime: name it with \
                                --container-runtime-endpoint, or leave both out"
            .to_owned()),
    }
}

/// What the flags mean for an agent.
fn agent_options(flags: &NodeFlags) -> Result<agent::Options, String> {
    let lacking = |what: &str, how: &str| format!("an agent needs {what}: say {how}");
    let server = flags.server.as_deref().filter(|url| !url.is_empty());
    let server = server.ok_or_else(|| lacking("a server to join", "--server https://HOST:6443, or K3S_URL"))?;
    let token = token(flags)?.ok_or_else(|| lacking("the server's token", "--token or --token-file, or K3S_TOKEN"))?;
    Ok(agent::Options {
        data_dir: flags.data_dir.clone(),
        server: ServerUrl::parse(server).map_err(|why| why.to_string())?,
        token: Token::parse(&token)?,
        node: node_options(flags)?,
    })
}

fn token(flags: &NodeFlags) -> Result<Option<String>, String> {
    match (&flags.token, &flags.token_file) {
        (Some(token), _) => Ok(Some(token.clone())),
        (None, Some(path)) => read_token(path).map(Some),
        (None, None) => Ok(None),
    }
}

fn read_token(path: &Path) -> Result<String, String> {
    let text =
        std::fs::read_to_string(path).map_err(|why| format!("reading the token from {}: {why}", path.display()))?;
    match text.trim() {
        "" => Err(format!("the token file {} is empty: write the token into it", path.display())),
        token => Ok(token.to_owned()),
    }
}
