//! The access log: what its lines say, and that nothing of it stands in a request's way.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use roo_proxy::{AccessFormat, AccessLog, AccessOnly, AccessTo, Config, Timeouts};
use serde_json::Value;

use crate::bench::{Bench, until};
use crate::client::{Raw, get, raw, request2, status, text};
use crate::upstream::Upstream;

/// A file of its own for a test, gone when dropped.
struct LogFile(PathBuf);

impl LogFile {
    fn new() -> LogFile {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("roo-access-{}-{}.log", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        LogFile(std::env::temp_dir().join(name))
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap_or_default()
    }

    fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// The lines, once there are so many.
    async fn wait(&self, count: usize) -> Vec<String> {
        until("the lines are there", || self.lines().len() >= count).await;
        let lines = self.lines();
        assert_eq!(lines.len(), count, "{lines:#?}");
        lines
    }

    async fn json(&self, count: usize) -> Vec<Value> {
        let lines = self.wait(count).await;
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|fault| panic!("{fault}: {line}"))).collect()
    }
}

impl Drop for LogFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn config(file: &LogFile, format: AccessFormat, only: AccessOnly) -> Config {
    let log = AccessLog { to: AccessTo::File(file.0.clone()), format, only, node: "node-1".into() };
    Config { access_log: Some(log), timeouts: quick(), ..Config::default() }
}

/// Ticks come soon, and with them lines; no request is in a hurry.
fn quick() -> Timeouts {
    Timeouts { idle_upstream: Duration::from_millis(200), ..Timeouts::default() }
}

#[tokio::test]
async fn a_line_tells_what_a_request_was_and_became() {
    let file = LogFile::new();
    let bench = Bench::with(config(&file, AccessFormat::Json, AccessOnly::All));
    let upstream = Upstream::echo("a").await;
    bench.routes(&[("a.test:http", upstream.url()), ("a.test:https", upstream.url())]);
    let request = "POST /p?b=c&token=hidden HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nUser-Agent: me \"1\"\r\n\
                   Referer: https://u:p@b.test/?key=hidden\r\nAuthorization: hidden\r\nCookie: hidden\r\nConnection: close\r\n\r\nhello";
    let response = raw(bench.http, request).await;
    assert_eq!(status(&response), 200);
    let line = &file.json(1).await[0];
    for (name, expected) in [
        ("node", "node-1"),
        ("client", "127.0.0.1"),
        ("host", "a.test"),
        ("method", "POST"),
        ("path", "/p?b=c&token=***"),
        ("protocol", "HTTP/1.1"),
        ("end", "whole"),
        ("route", "a.test:http"),
        ("user_agent", "me \"1\""),
        ("referer", "https://***@b.test/?key=***"),
    ] {
        assert_eq!(line[name], expected, "{name} in {line:#}");
    }
    assert_eq!((&line["status"], &line["received_bytes"]), (&200.into(), &5.into()), "{line:#}");
    let body = response.split_once("\r\n\r\n").unwrap().1;
    assert!(line["sent_bytes"].as_u64().unwrap() > 0 && line["sent_bytes"].as_u64().unwrap() <= body.len() as u64);
    assert!(upstream.url().starts_with(line["upstream"].as_str().unwrap().trim_end_matches('/')), "{line:#}");
    assert!(line["upstream"].as_str().unwrap().contains(line["address"].as_str().unwrap()), "{line:#}");
    for name in ["duration_seconds", "connect_seconds", "first_byte_seconds"] {
        assert!(line[name].as_f64().unwrap() < 60.0, "{name} in {line:#}");
    }
    assert!(response.contains(line["request_id"].as_str().unwrap()), "{line:#}");
    assert!(!file.text().contains("hidden") && line.get("tls").is_none() && line.get("error").is_none(), "{line:#}");

    let response = bench.https2("a.test").await.send_request(request2("GET", "a.test", "/2")).await.unwrap();
    let sent = text(response).await.len();
    let line = &file.json(2).await[1];
    assert_eq!((line["protocol"].as_str(), line["tls"].as_str()), (Some("HTTP/2.0"), Some("TLSv1_3")), "{line:#}");
    assert_eq!((line["sent_bytes"].as_u64(), line["end"].as_str()), (Some(sent as u64), Some("whole")), "{line:#}");
    assert!(line["cipher"].as_str().unwrap().starts_with("TLS13_"), "{line:#}");
}

#[tokio::test]
async fn how_it_ended_is_told() {
    let file = LogFile::new();
    let bench = Bench::with(config(&file, AccessFormat::Json, AccessOnly::All));
    let upstream = Upstream::says(&["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"]).await;
    let silent = Upstream::serve(|_| std::future::pending()).await;
    bench.routes(&[
        ("half.test:http", upstream.url()),
        ("silent.test:http", silent.url()),
        ("none.test:http", "http://127.0.0.1:1".to_owned()),
    ]);
    get(bench.http, "half.test").await;
    let line = &file.json(1).await[0];
    assert_eq!((line["end"].as_str(), line["sent_bytes"].as_u64()), (Some("broken"), Some(4)), "{line:#}");

    let mut client = Raw::connect(bench.http).await;
    client.send("GET / HTTP/1.1\r\nHost: silent.test\r\n\r\n").await;
    until("it is under way", || bench.control.stats().requests == 1).await;
    drop(client);
    let line = &file.json(2).await[1];
    assert_eq!((line["end"].as_str(), line["status"].as_u64()), (Some("left"), Some(499)), "{line:#}");

    assert_eq!(status(&get(bench.http, "none.test").await), 502);
    let line = &file.json(3).await[2];
    assert_eq!((line["error"].as_str(), line["end"].as_str()), (Some("upstream-refused"), Some("whole")), "{line:#}");
    assert_eq!(line["address"], "127.0.0.1:1");

    assert_eq!(status(&raw(bench.http, "nonsense\r\n\r\n").await), 400);
    let line = &file.json(4).await[3];
    assert_eq!((line["error"].as_str(), line["status"].as_u64()), (Some("bad-request"), Some(400)), "{line:#}");
    assert_eq!(line.get("method"), None);
}

#[tokio::test]
async fn the_combined_format_is_one_that_others_read() {
    let file = LogFile::new();
    let bench = Bench::with(config(&file, AccessFormat::Combined, AccessOnly::All));
    let upstream = Upstream::echo("a").await;
    bench.routes(&[("a.test:http", upstream.url())]);
    let hostile = "GET /a\"b HTTP/1.1\r\nHost: a.test\r\nUser-Agent: a\\\" 200 \"\r\nConnection: close\r\n\r\n";
    raw(bench.http, hostile).await;
    raw(bench.http, "GET / HTTP/1.1\r\nHost: b.test\r\nReferer: http://c.test/\r\nConnection: close\r\n\r\n").await;
    let lines = file.wait(2).await;
    let (start, rest) = lines[0].split_once(" - - [").unwrap();
    let (time, rest) = rest.split_once("] ").unwrap();
    assert_eq!((start, time.len(), &time[2..3], &time[time.len() - 6..]), ("127.0.0.1", 26, "/", " +0000"));
    assert!(rest.starts_with("\"GET /a\\x22b HTTP/1.1\" 200 "), "{rest}");
    assert!(rest.ends_with(" \"-\" \"a\\x5C\\x22 200 \\x22\""), "{rest}");
    assert!(
        lines[1].contains("\"GET / HTTP/1.1\" 404 ") && lines[1].ends_with(" \"http://c.test/\" \"-\""),
        "{}",
        lines[1]
    );
}

#[tokio::test]
async fn errors_alone_or_a_sample_beside_them() {
    for only in [AccessOnly::Errors, AccessOnly::Sample(0)] {
        let file = LogFile::new();
        let bench = Bench::with(config(&file, AccessFormat::Json, only));
        let upstream = Upstream::echo("a").await;
        bench.routes(&[("a.test:http", upstream.url())]);
        assert_eq!(status(&get(bench.http, "a.test").await), 200);
        assert_eq!(status(&get(bench.http, "b.test").await), 404);
        assert_eq!(file.json(1).await[0]["status"], 404, "{only:?}");
    }
    let file = LogFile::new();
    let bench = Bench::with(config(&file, AccessFormat::Json, AccessOnly::Sample(1_000_000)));
    bench.routes(&[("a.test:http", Upstream::echo("a").await.url())]);
    get(bench.http, "a.test").await;
    file.json(1).await;
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_opened_anew() {
    let (file, moved) = (LogFile::new(), LogFile::new());
    let bench = Bench::with(config(&file, AccessFormat::Json, AccessOnly::All));
    get(bench.http, "a.test").await;
    file.wait(1).await;
    std::fs::rename(&file.0, &moved.0).unwrap();
    get(bench.http, "b.test").await;
    moved.wait(2).await;
    assert!(bench.control.reopen_access_log());
    get(bench.http, "c.test").await;
    assert_eq!(file.json(1).await[0]["host"], "c.test");
    assert_eq!(moved.lines().len(), 2);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_holds_nobody_up() {
    let file = LogFile::new();
    let mut config = config(&file, AccessFormat::Json, AccessOnly::All);
    if let Some(log) = &mut config.access_log {
        log.to = AccessTo::File("/nowhere/at/all".into());
    }
    let bench = Bench::with(config);
    assert_eq!(status(&get(bench.http, "a.test").await), 404);
    // A disk that is always full.
    let mut config = self::config(&file, AccessFormat::Json, AccessOnly::All);
    if let Some(log) = &mut config.access_log {
        log.to = AccessTo::File("/dev/full".into());
    }
    let bench = Bench::with(config);
    assert_eq!(status(&get(bench.http, "a.test").await), 404);
}

#[tokio::test]
async fn the_last_lines_are_written_before_the_end() {
    let file = LogFile::new();
    let mut config = config(&file, AccessFormat::Json, AccessOnly::All);
    config.timeouts = Timeouts::default();
    let bench = Bench::with(config);
    for _ in 0..20 {
        get(bench.http, "a.test").await;
    }
    bench.proxy.shutdown(Duration::from_secs(20)).await;
    assert_eq!(file.lines().len(), 20);
}
