//! Logs: which lines are given, in which form, and how a followed one goes on and ends.

use std::io::Write as _;

use expect_test::{Expect, expect};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};

use super::*;

const LOG: &str = "2026-01-01T00:00:00.000000001Z stdout F one\n\
    2026-01-01T00:00:01Z stderr F two\n\
    2026-01-01T00:00:02Z stdout P thr\n\
    2026-01-01T00:00:02Z stdout F ee\n\
    not a line\n\
    2026-01-01T00:00:03Z stdout F \n\
    2026-01-01T00:00:04Z stdout F five\n";

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

async fn check(options: LogOptions, expect: Expect) {
    let file = file(LOG);
    let parts: Vec<_> =
        open(file.path(), options, std::future::pending().boxed()).unwrap().try_collect().await.unwrap();
    expect.assert_eq(&String::from_utf8(parts.concat()).unwrap());
}

#[tokio::test]
async fn parts_become_lines_and_what_is_no_line_is_passed_over() {
    check(
        LogOptions::default(),
        expect![[r"
        one
        two
        three

        five
    "]],
    )
    .await;
}

#[tokio::test]
async fn a_log_is_narrowed_by_stream_time_lines_and_bytes() {
    check(
        LogOptions { stderr: Some(true), ..LogOptions::default() },
        expect![[r"
        two
    "]],
    )
    .await;
    let since = Some("2026-01-01T00:00:03Z".parse().unwrap());
    check(
        LogOptions { since, timestamps: true, ..LogOptions::default() },
        expect![[r"
        2026-01-01T00:00:03Z 
        2026-01-01T00:00:04Z five
    "]],
    )
    .await;
    check(
        LogOptions { tail_lines: Some(1), ..LogOptions::default() },
        expect![[r"
        five
    "]],
    )
    .await;
    check(LogOptions { tail_lines: Some(0), ..LogOptions::default() }, expect![""]).await;
    check(
        LogOptions { tail_lines: Some(99), limit_bytes: Some(6), ..LogOptions::default() },
        expect![[r"
        one
        tw"]],
    )
    .await;
}

#[tokio::test]
async fn a_followed_log_goes_on_over_rotation_until_its_container_ends() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut log = std::fs::File::create(&path).unwrap();
    writeln!(log, "2026-01-01T00:00:00Z stdout F one").unwrap();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut lines = open(&path, options, ended.map(drop).boxed()).unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), "one\n");

    writeln!(log, "2026-01-01T00:00:01Z stdout F two").unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), "two\n");

    std::fs::rename(&path, dir.path().join("0.log.old")).unwrap();
    let mut log = std::fs::File::create(&path).unwrap();
    writeln!(log, "2026-01-01T00:00:02Z stdout F three").unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), "three\n");

    writeln!(log, "2026-01-01T00:00:03Z stdout F last").unwrap();
    end.send(()).unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), "last\n");
    assert!(lines.next().await.is_none());
}

#[test]
fn a_link_in_a_logs_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(open(&path, LogOptions::default(), std::future::pending().boxed()).is_err());
}

#[test]
fn the_last_words_are_cut_to_their_limits() {
    let file = file(LOG);
    assert_eq!(tail::last_words(file.path(), 80, 7).unwrap(), "\n\nfive\n");
    assert_eq!(tail::last_words(file.path(), 1, 2048).unwrap(), "five\n");
}
