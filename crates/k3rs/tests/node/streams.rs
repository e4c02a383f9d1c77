//! What passes through the API server to a pod and back: a process's streams, a port, the node's own figures.

use api::cri::{ContainerFilter, ExecRequest, ExecSyncRequest, ListContainersRequest, RuntimeService as _};
use bytes::Bytes;
use cri::remote::Remote;
use futures::{SinkExt as _, StreamExt as _};
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use tokio_util::task::TaskTracker;

use crate::world::{NODE, World, eventually};

/// More than all buffers on the way hold.
const PIECE: usize = 1 << 20;
const PIECES: usize = 24;

pub(crate) async fn reach_the_pod(world: &World, pods: &Api<Pod>) {
    input_comes_back_whole_and_the_exit_code_after_it(pods).await;
    a_port_is_forwarded(pods).await;
    clients_of_cri_find_the_pods_container(world).await;
    let figures = format!("/api/v1/nodes/{NODE}/proxy/metrics/cadvisor");
    let request = Request::get(figures).body(Vec::new()).unwrap();
    let told = world.client.request_text(request).await.unwrap();
    assert!(told.contains("namespace=\"default\",pod=\"web\"}"), "{told}");
}

/// A process hears that its input ends, and its output is there to the last byte.
pub(crate) async fn input_comes_back_whole_and_the_exit_code_after_it(pods: &Api<Pod>) {
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

/// The socket that `crictl` uses: lists, processes, ports and events of the same containers.
async fn clients_of_cri_find_the_pods_container(world: &World) {
    let remote = Remote::new(world.cri_socket(), None, TaskTracker::new());
    let label_selector = [("io.kubernetes.pod.name".to_owned(), "web".to_owned())].into();
    let filter = Some(ContainerFilter { label_selector, ..ContainerFilter::default() });
    let listed = remote.list_containers(ListContainersRequest { filter }).await.unwrap().containers;
    let [container] = &listed[..] else { panic!("{listed:?}") };
    let mut events = remote.container_events().await.unwrap();

    let cmd = ["/bin/payload", "copy"].map(str::to_owned).to_vec();
    let container_id = container.id.clone();
    let request = ExecRequest { container_id, cmd, stdin: true, stdout: true, ..ExecRequest::default() };
    let mut session = remote.exec(request.clone()).await.unwrap();
    let (mut stdin, stdout) = (session.stdin.take().unwrap(), session.stdout.take().unwrap());
    stdin.send(Bytes::from_static(b"over the socket")).await.unwrap();
    stdin.close().await.unwrap();
    let heard: Vec<Bytes> = stdout.map(Result::unwrap).collect().await;
    assert_eq!(heard.concat(), b"over the socket");
    assert_eq!(session.exit.await, Ok(5));

    // A client that goes takes its process along.
    let session = remote.exec(request).await.unwrap();
    eventually("the process", || world.processes_of("copy").count() == 1).await;
    drop(session);
    eventually("the process's end", || world.processes_of("copy").count() == 0).await;

    let absent = ExecSyncRequest { container_id: "absent".to_owned(), cmd: vec!["x".to_owned()], timeout: 1 };
    assert_eq!(remote.exec_sync(absent).await.unwrap_err().code, api::cri::Code::NotFound);
    let mut port = remote.port_forward(&container.pod_sandbox_id, 8080).await.unwrap();
    port.input.close().await.unwrap();
    let heard: Vec<Bytes> = port.output.map(Result::unwrap).collect().await;
    assert_eq!(heard.concat(), b"web");
    assert!(futures::FutureExt::now_or_never(events.next()).is_none(), "nothing has happened to containers");
}
