//! What passes through the API server to a pod and back: a process's streams, a port, the node's own figures.

use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{NODE, World};

/// More than all buffers on the way hold.
const PIECE: usize = 1 << 20;
const PIECES: usize = 24;

pub(crate) async fn reach_the_pod(world: &World, pods: &Api<Pod>) {
    input_comes_back_whole_and_the_exit_code_after_it(pods).await;
    a_port_is_forwarded(pods).await;
    let figures = format!("/api/v1/nodes/{NODE}/proxy/metrics/cadvisor");
    let request = Request::get(figures).body(Vec::new()).unwrap();
    let told = world.client.request_text(request).await.unwrap();
    assert!(told.contains("namespace=\"default\",pod=\"web\"}"), "{told}");
}

/// A process hears that its input ends, and its output is there to the last byte.
async fn input_comes_back_whole_and_the_exit_code_after_it(pods: &Api<Pod>) {
    let streams = AttachParams::default().stdin(true).stdout(true).stderr(false);
    let mut process = pods.exec("web", ["/bin/payload", "copy"], &streams).await.unwrap();
    let (mut stdin, mut stdout) = (process.stdin().unwrap(), process.stdout().unwrap());
    let piece = |number: usize| (0..PIECE).map(|at| (at * 31 + number) as u8).collect::<Vec<u8>>();
    let say = async {
        for number in 0..PIECES {
            stdin.write_all(&piece(number)).await.unwrap();
        }
        stdin.shutdown().await.unwrap();
        drop(stdin);
    };
    let hear = async {
        let mut heard = vec![0; PIECE];
        for number in 0..PIECES {
            stdout.read_exact(&mut heard).await.unwrap();
            assert!(heard == piece(number), "piece {number} is another");
        }
        assert_eq!(stdout.read(&mut heard).await.unwrap(), 0, "more came back than went");
    };
    futures::future::join(say, hear).await;
    let status = process.take_status().unwrap().await.unwrap();
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
    let causes = status.details.unwrap().causes.unwrap();
    assert_eq!(causes[0].message.as_deref(), Some("5"));
}

async fn a_port_is_forwarded(pods: &Api<Pod>) {
    let mut ports = pods.portforward("web", &[8080]).await.unwrap();
    let mut heard = String::new();
    ports.take_stream(8080).unwrap().read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "web");
}
