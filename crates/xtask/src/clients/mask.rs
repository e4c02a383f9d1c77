//! What two servers cannot agree on in the words of their clients: uids, times, revisions, ages, ports, addresses. Each is
//! replaced by its name; how wide columns are follows from it, so spaces count once.

use std::sync::LazyLock;

use regex::Regex;

static MASKS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
        // RFC 3339, as kubectl describes, as helm lists, as C does.
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|( ?[+-]\d\d:?\d\d)?( UTC)?)", "<time>"),
        (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun),? ([A-Z][a-z]{2} [ \d]\d|\d\d [A-Z][a-z]{2} \d{4}) \d\d:\d\d:\d\d( [+-]?\w+)?", "<time>"),
        (r#"((?i)resource ?version"?:\s*)"?\d+"?"#, "$1<revision>"),
        (r"\b(\d+[smhd])+\b", "<age>"),
        (r"\b10\.43\.\d{1,3}\.\d{1,3}\b", "<address>"),
        (r"(modifiedAt=)\d+", "$1<time>"),
        (r"127\.0\.0\.1:\d+", "<server>"),
        (r"(nodePort: |:)3[0-2]\d{3}\b", "$1<port>"),
        (r"(NodePort: +\S+ +)3[0-2]\d{3}\b", "$1<port>"),
        (r"kube-api-access-[bcdfghjklmnpqrstvwxz2456789]{5}", "kube-api-access-<random>"),
        // Scratch files of kubectl, and how it opens them.
        (r"/tmp/(LIVE|MERGED|kubectl-edit)-[\w.-]+", "/tmp/$1"),
        // Words of programs' logs: when, by whom.
        (r"\b([EWI])\d{4} <?[\w:.>]+ +\d+ ", "$1 "),
        // client-go's own end of a watch races with the stream that it closes by it; of upstream's server it logs so, too.
        (r#"(?m)^[IWE] reflector\.go:\d+\] "Warning: watch ended with error".*(context canceled|very short watch).*\n"#, ""),
        (r"[ \t]+", " "),
    ]
    .map(|(pattern, name)| (Regex::new(pattern).expect("a constant"), name))
    .into()
});

pub(super) fn mask(text: &str) -> String {
    MASKS.iter().fold(text.to_owned(), |text, (pattern, name)| pattern.replace_all(&text, *name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_chose_is_named() {
        let check = |text: &str, expected: &str| assert_eq!(mask(text), expected);
        check("uid: 0f8fad5b-d9cb-469f-a165-70867728950e", "uid: <uid>");
        check("creationTimestamp: \"2026-01-02T03:04:05Z\"", "creationTimestamp: \"<time>\"");
        check("LAST DEPLOYED: Sun Nov 22 01:35:29 2026", "LAST DEPLOYED: <time>");
        check("a\t2026-11-22 01:35:29.123456 +0000 UTC\tb", "a <time> b");
        check("Fri, 02 Jan 2026 03:04:05 +0000", "<time>");
        check("  resourceVersion: \"17\"", " resourceVersion: <revision>");
        check("Resource Version:  17", "Resource Version: <revision>");
        check(
            "web   ClusterIP   10.43.7.8   <none>   80:30123/TCP   3m2s",
            "web ClusterIP <address> <none> 80:<port>/TCP <age>",
        );
        check("replicas: 3, port: 80, size 30123", "replicas: 3, port: 80, size 30123");
        let ended = |why: &str| {
            format!("I1122 12:20:15.1 77 reflector.go:664] \"Warning: watch ended with error\" err=\"{why}\"\n")
        };
        check(&ended("context canceled"), "");
        let refused = mask(&ended("forbidden"));
        assert!(refused.contains("forbidden"), "what a server says is kept: {refused}");
    }
}
