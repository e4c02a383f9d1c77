//! Getting, listing, paging; views and encodings; discovery.

use apiserver::authn::User;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn get(cluster: &Cluster, target: &str, accept: &str) -> Answer {
    let request = Request::builder().uri(target).header("accept", accept).body(Full::new(Bytes::new())).unwrap();
    cluster.call(User::component("admin", &["system:masters"]), request).await.read().await
}

async fn with_maps(count: usize) -> Cluster {
    let cluster = Cluster::start().await;
    for at in 0..count {
        let object = json!({"metadata": {"name": format!("m{at}"), "labels": {"even": (at % 2 == 0).to_string()}}});
        cluster.send("POST", MAPS, object).await.expect(201);
    }
    cluster
}

#[tokio::test]
async fn pages_share_one_revision_whatever_is_written_between() {
    let cluster = with_maps(5).await;
    let first = cluster.send("GET", &format!("{MAPS}?limit=2"), Value::Null).await.expect(200);
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    assert!(first["items"][0].get("kind").is_none(), "items of a list have no type of their own");

    cluster.send("DELETE", &format!("{MAPS}/m4"), Value::Null).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = cluster.send("GET", &format!("{MAPS}?limit=9&continue={token}"), Value::Null).await.expect(200);
    let names: Vec<_> = second["items"].as_array().unwrap().iter().map(|item| &item["metadata"]["name"]).collect();
    assert_eq!(names, ["m2", "m3", "m4"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    cluster.send("GET", &format!("{MAPS}?continue=rubbish"), Value::Null).await.expect(400);
}

#[tokio::test]
async fn selectors_choose() {
    let cluster = with_maps(4).await;
    let count = async |query: &str| {
        let list = cluster.send("GET", &format!("{MAPS}?{query}"), Value::Null).await.expect(200);
        list["items"].as_array().unwrap().len()
    };
    assert_eq!(count("labelSelector=even%3Dtrue").await, 2);
    assert_eq!(count("labelSelector=even+notin+(true)").await, 2);
    assert_eq!(count("fieldSelector=metadata.name%3Dm1").await, 1);
    assert_eq!(count("fieldSelector=metadata.name!%3Dm1").await, 3);
    cluster.send("GET", &format!("{MAPS}?fieldSelector=data.k%3Dv"), Value::Null).await.expect(400);
    cluster.send("GET", &format!("{MAPS}?labelSelector=%3D%3D"), Value::Null).await.expect(400);
}

#[tokio::test]
async fn a_revision_that_is_yet_to_come_is_waited_for_and_then_refused() {
    let cluster = with_maps(1).await;
    let refused = cluster.send("GET", &format!("{MAPS}?resourceVersion=999999"), Value::Null).await.expect(504);
    assert_eq!(refused["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
}

#[tokio::test]
async fn every_encoding_and_view_shows_the_same_objects() {
    let cluster = with_maps(1).await;
    let table = get(&cluster, MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json").await.expect(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["cells"][0], "m0");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let metadata =
        get(&cluster, MAPS, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").await.expect(200);
    assert_eq!(metadata["items"][0]["metadata"]["name"], "m0");
    let yaml = get(&cluster, &format!("{MAPS}/m0"), "application/yaml").await;
    assert!(String::from_utf8_lossy(&yaml.bytes).contains("name: m0"));

    let protobuf = get(&cluster, MAPS, "application/vnd.kubernetes.protobuf").await;
    assert_eq!(protobuf.headers["content-type"], "application/vnd.kubernetes.protobuf");
    let decoded = api::codec::protobuf::from_protobuf(&protobuf.bytes, |_, kind| {
        api::schema::builtin_model(&format!("io.k8s.api.core.v1.{kind}"))
    });
    assert_eq!(decoded.unwrap()["items"][0]["metadata"]["name"], "m0");
    get(&cluster, MAPS, "text/html").await.expect(406);
}

#[tokio::test]
async fn clients_discover_what_is_served() {
    let cluster = Cluster::start().await;
    let core = cluster.send("GET", "/api/v1", Value::Null).await.expect(200);
    let pods = core["resources"].as_array().unwrap().iter().find(|entry| entry["name"] == "pods").unwrap();
    assert_eq!((&pods["shortNames"], &pods["namespaced"]), (&json!(["po"]), &json!(true)));
    let groups = cluster.send("GET", "/apis", Value::Null).await.expect(200);
    assert!(groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "apps"));
    let all = get(&cluster, "/apis", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
        .await
        .expect(200);
    assert_eq!(all["kind"], "APIGroupDiscoveryList");
    assert_eq!(cluster.send("GET", "/apis/nothing.example.com", Value::Null).await.code, 404);
    cluster.send("GET", "/apis/apps/v7", Value::Null).await.expect(404);

    let index = cluster.send("GET", "/openapi/v3", Value::Null).await.expect(200);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let apps = cluster.send("GET", url, Value::Null).await.expect(200);
    assert!(apps["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"].is_object());
    cluster.send("GET", "/readyz?verbose", Value::Null).await;
}

#[tokio::test]
async fn reviews_answer_without_storing() {
    let cluster = Cluster::start().await;
    let ask = |user: &str| json!({"spec": {"user": user, "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}});
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let answer = cluster.send("POST", path, ask("nobody")).await.expect(201);
    assert_eq!(answer["status"]["allowed"], false);
    let answer = cluster.send("POST", path, ask("system:kube-scheduler")).await.expect(201);
    assert_eq!(answer["status"]["allowed"], true);
    let who = cluster.send("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({})).await.expect(201);
    assert_eq!(who["status"]["userInfo"]["username"], "admin");
}

/// What kubectl validates a `List` by: asked for with a sign that the answer may not have.
#[tokio::test]
async fn openapi_in_protobuf_has_a_media_type_that_go_can_read() {
    let cluster = Cluster::start().await;
    let asked = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let answer = get(&cluster, "/openapi/v2", asked).await;
    assert_eq!(answer.headers["content-type"], "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
}

#[tokio::test]
async fn what_nothing_stores_has_its_columns_too() {
    let cluster = Cluster::start().await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let row = ["scheduler", "Healthy", "ok", ""];
    let all = get(&cluster, "/api/v1/componentstatuses", table).await.expect(200);
    assert_eq!((&all["kind"], all["rows"].as_array().unwrap().len()), (&json!("Table"), 3));
    assert_eq!(all["rows"][2]["cells"], json!(row));
    let one = get(&cluster, "/api/v1/componentstatuses/scheduler", table).await.expect(200);
    assert_eq!(one["rows"][0]["cells"], json!(row));
}

/// Long lists are written while they are read; whichever way, they are the same list.
#[tokio::test]
async fn long_lists_are_what_short_ones_are() {
    let cluster = Cluster::start().await;
    let text = "x\"\n".repeat(10_000);
    for at in 0..40 {
        let object = json!({"metadata": {"name": format!("m{at:02}")}, "data": {"text": text}});
        cluster.send("POST", MAPS, object).await.expect(201);
    }
    let names = |list: &Value, field: &str| -> Vec<String> {
        let name = |item: &Value| match field {
            "rows" => item["object"]["metadata"]["name"].clone(),
            _ => item["metadata"]["name"].clone(),
        };
        list[field].as_array().unwrap().iter().map(|item| name(item).as_str().unwrap().to_owned()).collect()
    };
    let expected: Vec<String> = (0..40).map(|at| format!("m{at:02}")).collect();
    let whole = cluster.send("GET", MAPS, Value::Null).await;
    assert!(whole.bytes.len() > 1 << 20);
    let whole = whole.expect(200);
    assert_eq!((names(&whole, "items"), &whole["kind"]), (expected.clone(), &json!("ConfigMapList")));
    assert_eq!(whole["items"][7]["data"]["text"], json!(text));

    let table = get(&cluster, MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io").await.expect(200);
    assert_eq!((names(&table, "rows"), &table["metadata"]), (expected.clone(), &whole["metadata"]));
    let partial = get(&cluster, MAPS, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").await;
    assert_eq!(names(&partial.expect(200), "items"), expected);
    let yaml = get(&cluster, MAPS, "application/yaml").await;
    assert_eq!(api::codec::yaml::parse(std::str::from_utf8(&yaml.bytes).unwrap()).unwrap(), whole);
    let protobuf = get(&cluster, MAPS, "application/vnd.kubernetes.protobuf").await;
    let decoded = api::codec::protobuf::from_protobuf(&protobuf.bytes, |_, kind| {
        api::schema::builtin_model(&format!("io.k8s.api.core.v1.{kind}"))
    });
    assert_eq!(names(&decoded.unwrap(), "items"), expected);
    let page = cluster.send("GET", &format!("{MAPS}?limit=15"), Value::Null).await.expect(200);
    assert_eq!((names(&page, "items").len(), &page["metadata"]["remainingItemCount"]), (15, &json!(25)));
}

/// Pages of a revision stay what they were, also when they are no longer in the recent history.
#[tokio::test]
async fn pages_go_on_through_any_number_of_writes() {
    let cluster = with_maps(6).await;
    // Few small ones are remembered, few large ones are not.
    for (writes, size) in [(10, 1), (40, 400_000)] {
        let first = cluster.send("GET", &format!("{MAPS}?limit=2"), Value::Null).await.expect(200);
        let second = format!("{MAPS}?limit=2&continue={}", first["metadata"]["continue"].as_str().unwrap());
        let before = cluster.send("GET", &second, Value::Null).await.expect(200);
        for n in 0..writes {
            let text = n.to_string().repeat(size);
            let change = json!({"metadata": {"name": format!("m{}", n % 6)}, "data": {"text": text}});
            cluster.send("PUT", &format!("{MAPS}/m{}", n % 6), change).await.expect(200);
        }
        cluster.send("DELETE", &format!("{MAPS}/m4"), Value::Null).await.expect(200);
        cluster.send("POST", MAPS, json!({"metadata": {"name": "m21"}})).await.expect(201);
        let after = cluster.send("GET", &second, Value::Null).await.expect(200);
        assert_eq!(after, before, "{writes} writes");
        assert_eq!(after["metadata"]["remainingItemCount"], 2);
        cluster.send("DELETE", &format!("{MAPS}/m21"), Value::Null).await.expect(200);
        cluster.send("POST", MAPS, json!({"metadata": {"name": "m4"}})).await.expect(201);
    }
}
