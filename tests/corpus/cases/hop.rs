//! Fields for one hop, and those that `Connection` nominates (RFC 9110 section 7.6.1).

use crate::case::{Case, End, get, post, sends};

cases! {
    keep_alive_is_for_one_hop: get("Connection: keep-alive\r\nKeep-Alive: timeout=5, evil=1\r\n").passes()
        .gone("keep-alive");
    a_nominated_field: get("Connection: X-Private\r\nX-Private: evil\r\nX-Own: kept\r\n").passes()
        .kept("x-own", "kept");
    a_nominated_field_before_its_nomination: get("X-Private: evil\r\nConnection: x-private\r\n").passes();
    nominated_in_other_case: get("Connection: x-PRIVATE\r\nX-private: evil\r\n").passes();
    nominated_among_others: get("Connection: , keep-alive ,\tX-Private,,\r\nX-Private: evil\r\n").passes();
    nominated_in_a_second_field: get("Connection: keep-alive\r\nConnection: x-private\r\nX-Private: evil\r\n").passes();
    nominated_and_given_twice: get("Connection: x-private\r\nX-Private: evil\r\nX-Private: evil2\r\n").passes();
    nominated_beside_close: get("Connection: close, x-private\r\nX-Private: evil\r\n").passes().closes();
    host_cannot_be_nominated: get("Connection: host\r\n").passes().or_refused();
    the_length_cannot_be_nominated: post("Connection: content-length\r\nContent-Length: 5\r\n", "hello").passes()
        .body("hello").or_refused();
    the_coding_cannot_be_nominated: post("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n")
        .passes().body("hello").or_refused();
    our_own_fields_cannot_be_nominated: get(
        "Connection: x-forwarded-for, x-real-ip, x-request-id, x-forwarded-proto, x-origin-host\r\n").passes();
    our_own_fields_cannot_be_nominated_with_claims: get(
        "Connection: x-forwarded-for, x-real-ip\r\nX-Forwarded-For: evil\r\nX-Real-IP: evil\r\n").passes();
    cookies_cannot_be_kept_by_nominating_close: get("Connection: close\r\nCookie: a=1\r\n").passes()
        .kept("cookie", "a=1").closes();
    a_nomination_that_is_no_token: get("Connection: x private, \"x\"\r\nX-Own: kept\r\n").passes().kept("x-own", "kept")
        .or_refused();
    a_nomination_of_obs_text: sends(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: \xff, x-private\r\nX-Private: evil\r\n\r\n")
        .passes().or_refused();
    ten_thousand_nominations: get(&format!("Connection: {}x-private\r\nX-Private: evil\r\n", "a,".repeat(10_000)))
        .passes().or_refused();
    a_nominated_alias: get("Connection: x_private\r\nX_Private: evil\r\nX-Own: kept\r\n").passes()
        .kept("x-own", "kept");
    proxy_connection: get("Proxy-Connection: keep-alive, evil\r\n").passes().gone("proxy-connection");
    proxy_authorization: get("Proxy-Authorization: Basic evil\r\n").passes().gone("proxy-authorization");
    proxy_authenticate: get("Proxy-Authenticate: Basic evil\r\n").passes().gone("proxy-authenticate");
    httpoxy: get("Proxy: http://evil.test\r\n").passes().gone("proxy");
    te_of_codings: get("TE: gzip, deflate;q=0.5\r\nConnection: te\r\n").passes().gone("te");
    te_of_codings_without_nomination: get("TE: gzip\r\n").passes().gone("te");
    te_of_trailers: get("TE: trailers\r\nConnection: TE\r\n").passes();
    te_of_trailers_and_codings: get("TE: trailers, evil\r\nConnection: TE\r\n").passes();
    a_list_of_trailers: post("Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", "0\r\nX-Sum: 1\r\n\r\n").passes();
    settings_of_http_2: get("HTTP2-Settings: AAMAAABkAAQAAP__\r\nConnection: HTTP2-Settings\r\n").passes()
        .gone("http2-settings");
    settings_of_http_2_without_nomination: get("HTTP2-Settings: AAMAAABkAAQAAP__\r\n").passes().gone("http2-settings");
    connection_close: get("Connection: close\r\n").passes().closes();
    connection_close_in_capitals: get("Connection: CLOSE\r\n").passes().closes();
    connection_close_in_a_list: get("Connection: keep-alive, close\r\n").passes().closes();
    connection_close_and_another_request: close_and_more().passes().closes();
    connection_close_in_http_1_0: sends("GET / HTTP/1.0\r\nHost: shop.test\r\nConnection: close\r\n\r\n").passes()
        .closes();
    keep_alive_nominated_in_http_1_0: sends(
        "GET / HTTP/1.0\r\nHost: shop.test\r\nConnection: keep-alive, x-private\r\nX-Private: evil\r\n\r\n").passes().end(End::Any);
    an_empty_connection: get("Connection:\r\n").passes();
    max_forwards: get("Max-Forwards: 0\r\n").passes().kept("max-forwards", "0");
    via_is_kept: get("Via: 1.1 other\r\n").passes();
}

/// What follows a request that is the last is never looked at.
fn close_and_more() -> Case {
    get("Connection: close\r\n").send("GET /evil HTTP/1.1\r\nHost: shop.test\r\n\r\n")
}
