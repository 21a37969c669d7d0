//! Several requests on one connection, and what stands between them (RFC 9112 sections 2.2 and 9.3).

use crate::case::{Case, Step, Then, post, sends};

const ONE: &str = "GET /one HTTP/1.1\r\nHost: shop.test\r\n\r\n";
const TWO: &str = "GET /two HTTP/1.1\r\nHost: shop.test\r\n\r\n";
const GOOD_POST: &str = "POST /one HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello";

/// A good request with something behind it.
fn one_and(rest: &str) -> Case {
    sends(format!("{ONE}{rest}")).passes().line("GET /one HTTP/1.1")
}

cases! {
    two_requests: one_and(TWO).passes().line("GET /two HTTP/1.1");
    ten_requests: (0..10).fold(sends(ONE.repeat(10)), |case, _| case.passes().line("GET /one HTTP/1.1"));
    two_requests_one_after_the_other: sends(ONE).then(Step::Answers(1)).send(TWO)
        .passes().line("GET /one HTTP/1.1").passes().line("GET /two HTTP/1.1");
    two_requests_byte_by_byte: sends("").then(Step::Dribble(format!("{ONE}{TWO}").into_bytes()))
        .passes().line("GET /one HTTP/1.1").passes().line("GET /two HTTP/1.1");
    a_body_and_a_request: sends(format!("{GOOD_POST}{TWO}"))
        .passes().line("POST /one HTTP/1.1").body("hello").passes().line("GET /two HTTP/1.1");
    a_chunked_body_and_a_request: post("Transfer-Encoding: chunked\r\n", &format!("5\r\nhello\r\n0\r\n\r\n{TWO}"))
        .passes().body("hello").passes().line("GET /two HTTP/1.1");
    a_head_request_and_another: sends(format!("HEAD /one HTTP/1.1\r\nHost: shop.test\r\n\r\n{TWO}"))
        .passes().line("HEAD /one HTTP/1.1").asked_by_head().passes().line("GET /two HTTP/1.1");
    an_empty_line_between: one_and(&format!("\r\n{TWO}")).passes().line("GET /two HTTP/1.1").or_refused();
    a_bare_lf_between: one_and(&format!("\n{TWO}")).refused();
    a_body_that_is_longer_than_it_says: sends(format!("{GOOD_POST}evil\r\n\r\n")).passes().body("hello").refused();
    a_line_after_a_body: sends(format!("{GOOD_POST}\r\n{TWO}")).passes().body("hello").passes()
        .line("GET /two HTTP/1.1").or_refused();
    garbage_after_a_request: one_and("evil evil evil evil\r\n\r\n").refused();
    a_nul_after_a_request: one_and("\0\0\0\0\r\n\r\n").refused();
    a_bad_request_behind_a_good_one: one_and("GET /evil HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab").refused();
    a_good_request_behind_a_bad_one: sends(format!("GET / HTTP/1.1\r\nHost: shop.test\r\nX-A : b\r\n\r\n{TWO}"))
        .refused();
    a_good_request_behind_one_without_host: sends(format!("GET / HTTP/1.1\r\n\r\n{TWO}")).refused();
    a_good_request_behind_two_hosts: sends(format!("GET / HTTP/1.1\r\nHost: shop.test\r\nHost: a\r\n\r\n{TWO}"))
        .refused();
    a_good_request_behind_a_body_nobody_can_read: post("Transfer-Encoding: gzip\r\n", TWO).refused();
    a_request_behind_one_for_nobody: sends(format!(
        "POST / HTTP/1.1\r\nHost: other.test\r\nContent-Length: {}\r\n\r\n{TWO}", TWO
        .len())).then(Step::HalfClose).refused();
    a_request_behind_http_1_0: sends(format!("GET /one HTTP/1.0\r\nHost: shop.test\r\n\r\n{TWO}"))
        .passes().line("GET /one HTTP/1.1").closes();
    a_body_that_never_comes: early().cut();
    a_refusal_before_the_body_has_ended: post("Content-Length: 100\r\n", "hello")
        .early("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", Then::Close)
        .then(Step::Answers(1)).then(Step::HalfClose).cut();
    a_refusal_before_the_body_has_ended_and_a_request: post("Content-Length: 100\r\n", "")
        .early("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", Then::Close)
        .then(Step::Answers(1)).send("GET /evil HTTP/1.1\r\nHost: shop.test\r\n\r\n").then(Step::HalfClose).cut();
    the_upstream_closes_after_the_first: sends(ONE)
        .script("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\none", Then::Close)
        .then(Step::Answers(1)).send(TWO)
        .passes().gets(200, "one").passes().line("GET /two HTTP/1.1");
    the_answers_keep_their_order: sends(format!("{ONE}{TWO}"))
        .script("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n", Then::Keep)
        .script("HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\ntwo", Then::Keep)
        .passes().gets(200, "one").passes().gets(404, "two");
}

/// The client stops in the middle of its body.
fn early() -> Case {
    post("Content-Length: 100\r\n", "hello").then(Step::Upstream).then(Step::HalfClose)
}
