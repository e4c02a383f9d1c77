use std::io::Write as _;

use super::*;

fn parse_in(folder: &Path, arguments: &[&str]) -> Result<kubelet::Config, String> {
    let arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
    let settings = KubeletSettings::parse(&arguments, folder).map_err(|why| why.to_string())?;
    let mut config = kubelet::Config::new("n1");
    settings.apply(&mut config)?;
    Ok(config)
}

fn parse(arguments: &[&str]) -> Result<kubelet::Config, String> {
    parse_in(Path::new("/nowhere"), arguments)
}

#[test]
fn arguments_are_upstreams_flags_and_the_last_word_counts() {
    assert_eq!(parse(&[]).unwrap(), kubelet::Config::new("n1"));
    let config = parse(&[
        "max-pods=5",
        "eviction-hard=nodefs.available<1%",
        "--max-pods=7",
        "eviction-soft=memory.available<1Gi",
        "eviction-soft-grace-period=memory.available=1m30s",
        "eviction-minimum-reclaim=nodefs.available=1Gi,imagefs.available=2%",
        "eviction-pressure-transition-period=1m",
        "eviction-max-pod-grace-period=60",
        "system-reserved=cpu=200m,memory=500Mi",
        "kube-reserved=ephemeral-storage=1Gi",
        "enforce-node-allocatable=none",
        "image-gc-high-threshold=90",
        "image-gc-low-threshold=70",
        "minimum-image-ttl-duration=10m",
        "pod-max-pids=100",
        "container-log-max-size=1Mi",
        "container-log-max-files=3",
        "serialize-image-pulls=true",
        "registry-qps=5",
        "registry-burst=7",
        "node-status-update-frequency=20s",
        "cluster-dns=10.43.0.10,10.43.0.11",
        "cluster-domain=example.org",
        "resolv-conf=/etc/other",
        "seccomp-default=false",
        "protect-kernel-defaults=true",
        "allowed-unsafe-sysctls=kernel.msg*,net.core.somaxconn",
        "fail-swap-on=true",
        "read-only-port=0",
        "v=2",
        "feature-gates=WatchList=true,AllAlpha=false",
    ])
    .unwrap();
    assert_eq!(config.max_pods, 7);
    assert_eq!(config.eviction.hard.texts().into_iter().collect::<Vec<_>>(), [("nodefs.available", "1%".to_owned())]);
    assert_eq!(config.eviction.soft.texts()["memory.available"], "1Gi");
    assert_eq!(config.eviction.minimum_reclaim.texts().len(), 2);
    assert_eq!((config.eviction.transition.as_secs(), config.eviction.max_pod_grace), (60, 60));
    assert!(!config.eviction.enforce_pods);
    assert_eq!(config.system_reserved["memory"], "500Mi");
    assert_eq!(config.kube_reserved["ephemeral-storage"], "1Gi");
    assert_eq!((config.images.high, config.images.low, config.images.least_age.as_secs()), (90, 70, 600));
    assert_eq!((config.logs.size, config.logs.files), (1 << 20, 3));
    assert_eq!((config.pulls.serial, config.pulls.per_second, config.pulls.burst), (true, 5, 7));
    assert_eq!((config.pod_pids_limit, config.status_update.as_secs()), (Some(100), 20));
    assert_eq!((config.cluster_dns.len(), config.cluster_domain.as_str()), (2, "example.org"));
    assert_eq!(config.resolv_conf, Path::new("/etc/other"));
    assert_eq!((config.seccomp_default, config.protect_kernel_defaults, config.fail_swap_on), (false, true, true));
    assert_eq!(config.allowed_unsafe_sysctls, ["kernel.msg*", "net.core.somaxconn"]);
    assert_eq!(parse(&["pod-pids-limit=-1"]).unwrap().pod_pids_limit, None);
}

#[test]
fn what_cannot_be_had_or_meant_is_refused_by_its_name() {
    for (arguments, expect) in [
        (&["max-pods"][..], "--kubelet-arg max-pods: write NAME=VALUE"),
        (&["max-pods=many"], "--kubelet-arg max-pods: \"many\" is no number"),
        (&["max-pods=-1"], "--kubelet-arg max-pods: -1 is out of range"),
        (&["max-pod=1"], "--kubelet-arg max-pod: there is no such setting of the kubelet: did you mean max-pods?"),
        (&["zzz=1"], "--kubelet-arg zzz: there is no such setting of the kubelet"),
        (&["eviction-hard=disk<5%"], "--kubelet-arg eviction-hard: unsupported eviction signal \"disk\""),
        (
            &["eviction-hard=nodefs.available=5%"],
            "--kubelet-arg eviction-hard: \"nodefs.available=5%\" is not SIGNAL<AMOUNT",
        ),
        (
            &["eviction-soft=memory.available<1Gi"],
            "the settings of the kubelet do not go together: grace period must be specified",
        ),
        (
            &["image-gc-low-threshold=85"],
            "the settings of the kubelet do not go together: imageGCLowThresholdPercent 85",
        ),
        (&["read-only-port=10255"], "--kubelet-arg read-only-port: 10255 is not to be had here, only 0"),
        (&["anonymous-auth=true"], "--kubelet-arg anonymous-auth: true is not to be had here, only false"),
        (
            &["cpu-manager-policy=static"],
            "--kubelet-arg cpu-manager-policy: \"static\" is not to be had here, only none",
        ),
        (&["system-reserved=disk=1Gi"], "--kubelet-arg system-reserved: disk cannot be reserved"),
        (
            &["enforce-node-allocatable=pods,kube-reserved"],
            "--kubelet-arg enforce-node-allocatable: it is pods or none",
        ),
        (
            &["allowed-unsafe-sysctls=vm.swappiness"],
            "--kubelet-arg allowed-unsafe-sysctls: the sysctls \"vm.swappiness\" are not known",
        ),
        (
            &["feature-gates=WatchList=false"],
            "--kubelet-arg feature-gates: feature gate WatchList is on in 1.36 by default",
        ),
        (
            &["feature-gates=WatchLists=true"],
            "--kubelet-arg feature-gates: 1.36 has no feature gate WatchLists: did you mean WatchList?",
        ),
        (
            &["node-labels=a=b"],
            "--kubelet-arg node-labels: {\"a\":\"b\"} is not to be had here, only nothing: say them with --node-label",
        ),
        (&["container-log-max-files=1"], "--kubelet-arg container-log-max-files: there are at least 2 files"),
    ] {
        let refused = parse(arguments).unwrap_err();
        assert!(refused.starts_with(expect), "{arguments:?}: {refused}");
    }
}

fn write(path: &Path, fields: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let heading = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    std::fs::File::create(path).unwrap().write_all(format!("{heading}{fields}").as_bytes()).unwrap();
}

#[test]
fn drop_ins_are_merged_by_name_the_file_comes_tenth_and_arguments_win() {
    let dir = tempfile::tempdir().unwrap();
    let (drop_ins, file) = (dir.path().join("kubelet.conf.d"), dir.path().join("my.yaml"));
    write(&drop_ins.join("05-first.conf"), "maxPods: 50\npodsPerCore: 5\nevictionHard: {memory.available: 1Gi}\n");
    write(&file, "maxPods: 60\npodPidsLimit: 60\nevictionHard: {nodefs.available: 3%}\n");
    write(&drop_ins.join("50-last.conf"), "podPidsLimit: 70\nevictionSoft: {pid.available: 20%}\n");
    write(&drop_ins.join("README"), "unknown: 1\n");
    let named = format!("config={}", file.display());
    let config = parse_in(&drop_ins, &[&named, "eviction-soft-grace-period=pid.available=5m"]).unwrap();
    assert_eq!((config.max_pods, config.pods_per_core, config.pod_pids_limit), (60, 5, Some(70)));
    let hard: Vec<_> = config.eviction.hard.texts().into_iter().collect();
    assert_eq!(hard, [("memory.available", "1Gi".to_owned()), ("nodefs.available", "3%".to_owned())]);
    let config = parse_in(&drop_ins, &[&named, "max-pods=9", "eviction-soft="]).unwrap();
    assert_eq!(config.max_pods, 9, "an argument wins over every file");

    let folder = dir.path().join("more");
    write(&folder.join("a.conf"), "maxPods: 65\n");
    let more = format!("config-dir={}", folder.display());
    assert_eq!(parse_in(&drop_ins, &[&named, &more, "eviction-soft="]).unwrap().max_pods, 65);
}

#[test]
fn a_file_that_kubeadm_wrote_is_understood_and_its_zeros_say_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kubelet.yaml");
    write(
        &file,
        "authentication: {anonymous: {enabled: false}, webhook: {cacheTTL: 0s, enabled: true}}\n\
         authorization: {mode: Webhook, webhook: {cacheAuthorizedTTL: 0s, cacheUnauthorizedTTL: 0s}}\n\
         containerRuntimeEndpoint: \"\"\ncpuManagerReconcilePeriod: 0s\ncrashLoopBackOff: {}\n\
         evictionPressureTransitionPeriod: 0s\nimageMaximumGCAge: 0s\nimageMinimumGCAge: 0s\n\
         logging: {flushFrequency: 0, options: {json: {infoBufferSize: \"0\"}}, verbosity: 0}\nmemorySwap: {}\n\
         nodeStatusReportFrequency: 0s\nnodeStatusUpdateFrequency: 0s\nrotateCertificates: true\n\
         streamingConnectionIdleTimeout: 0s\nsyncFrequency: 0s\nvolumeStatsAggPeriod: 0s\nmaxPods: null\n",
    );
    let config = parse(&[&format!("config={}", file.display())]).unwrap();
    assert_eq!(config, kubelet::Config::new("n1"));
    write(
        &file,
        "shutdownGracePeriod: 0s\nshutdownGracePeriodCriticalPods: 0s\nmergeDefaultEvictionSettings: true\nevictionHard: {pid.available: 20%}\n",
    );
    let config = parse(&[&format!("config={}", file.display())]).unwrap();
    assert!(config.shutdown_grace.is_zero() && config.shutdown_grace_critical.is_zero());
    let hard = config.eviction.hard.texts();
    assert_eq!((hard["pid.available"].as_str(), hard["memory.available"].as_str()), ("20%", "100Mi"));
}

#[test]
fn a_file_that_is_wrong_is_named_with_what_is_wrong_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kubelet.yaml");
    let refused = |fields: &str| {
        write(&file, fields);
        parse(&[&format!("config={}", file.display())]).unwrap_err().replace(&file.display().to_string(), "FILE")
    };
    assert_eq!(refused("maxPod: 5\n"), "FILE: maxPod: a KubeletConfiguration has no such field: did you mean maxPods?");
    assert_eq!(refused("--v: 5\n"), "FILE: --v: a KubeletConfiguration has no such field");
    assert_eq!(
        refused("authentication: {anonymous: {enable: true}}\n"),
        "FILE: authentication.anonymous.enable: a KubeletConfiguration has no such field: did you mean \
         authentication.anonymous.enabled?"
    );
    assert_eq!(refused("maxPods: many\n"), "FILE: maxPods: \"many\" is not a number");
    assert_eq!(refused("imageMinimumGCAge: 5\n"), "FILE: imageMinimumGCAge: 5 is not a length of time, such as 1m30s");
    assert!(refused("readOnlyPort: 10255\n").starts_with("FILE: readOnlyPort: 10255 is not to be had here, only 0"));
    assert!(refused("- a\n").starts_with("FILE: "));
    std::fs::File::create(&file).unwrap().write_all(b"apiVersion: v1\nkind: Config\n").unwrap();
    let other = parse(&[&format!("config={}", file.display())]).unwrap_err();
    assert!(other.contains("its apiVersion is \"v1\": write a KubeletConfiguration"), "{other}");
    assert!(parse(&["config=/nowhere/at/all"]).unwrap_err().starts_with("reading /nowhere/at/all: "));
}

#[test]
fn the_nearest_name_is_one_that_may_have_been_meant() {
    assert_eq!(nearest("maxpods", ["max-pods", "port"].into_iter()), Some("max-pods"));
    assert_eq!(nearest("xyz", ["max-pods", "port"].into_iter()), None);
    assert_eq!(distance("kitten", "sitting"), 3);
}
