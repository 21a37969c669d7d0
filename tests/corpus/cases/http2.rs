//! Requests that came over HTTP/2 and go on over HTTP/1.1 (RFC 9113 sections 8.1 to 8.3): what is malformed there must
//! not become something else here.

use crate::case::{Case, End, Step, frames};
use crate::frame::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, block, data, frame, headers, request,
};

/// `GET /` with further fields.
fn get2(more: &[(&str, &str)]) -> Case {
    frames(request(1, true, "GET", "/", more))
}

/// `POST /` with further fields and a body.
fn post2(more: &[(&str, &str)], body: &str) -> Case {
    frames([request(1, false, "POST", "/", more), data(1, true, body)].concat())
}

/// A request of exactly these fields.
fn only(fields: &[(&str, &str)]) -> Case {
    frames(headers(1, true, fields))
}

fn path(path: &str) -> Case {
    frames(request(1, true, "GET", path, &[]))
}

cases! {
    h2_get: get2(&[]).passes().line("GET / HTTP/1.1");
    h2_post: post2(&[("content-length", "5")], "hello").passes().line("POST / HTTP/1.1").body("hello");
    h2_post_without_length: post2(&[], "hello").passes().body("hello");
    h2_get_with_a_body: frames([request(1, false, "GET", "/", &[]), data(1, true, "hello")].concat()).passes()
        .body("hello");
    h2_get_with_an_empty_body: frames([request(1, false, "GET", "/", &[]), data(1, true, "")].concat()).passes();
    h2_head: frames(request(1, true, "HEAD", "/", &[])).passes().asked_by_head();
    h2_a_hidden_request_in_a_body: post2(&[], "0\r\n\r\nGET /evil HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        .passes().body("0\r\n\r\nGET /evil HTTP/1.1\r\nHost: shop.test\r\n\r\n");
    h2_two_streams: frames(request(1, true, "GET", "/one", &[])).then(Step::Answers(1))
        .send(request(3, true, "GET", "/two", &[]))
        .passes().line("GET /one HTTP/1.1").passes().line("GET /two HTTP/1.1");
    h2_trailers: frames([request(1, false, "POST", "/", &[]), data(1, false, "hello"), headers(1, true, &[("x-sum", "1")])].concat())
        .passes().body("hello");
    h2_trailers_that_claim: frames([request(1, false, "POST", "/", &[]), data(1, false, "hello"),
        headers(1, true, &[("x-forwarded-for", "evil"), ("x_real_ip", "evil")])].concat()).passes().body("hello").or_refused();
    h2_trailers_that_frame: frames([request(1, false, "POST", "/", &[]), data(1, false, "hello"),
        headers(1, true, &[("content-length", "9"), ("host", "evil.test")])].concat()).passes().body("hello").or_refused();
    h2_trailers_with_a_pseudo_field: frames([request(1, false, "POST", "/", &[]), data(1, false, "hello"),
        headers(1, true, &[(":path", "/evil")])].concat()).cut();
    h2_trailers_with_crlf: frames([request(1, false, "POST", "/", &[]), data(1, false, "hello"),
        headers(1, true, &[("x-sum", "1\r\nx-evil: 1")])].concat()).cut();
    h2_a_length_that_is_too_long: post2(&[("content-length", "10")], "hello").cut();
    h2_a_length_that_is_too_short: post2(&[("content-length", "3")], "hello").cut();
    h2_a_length_of_zero_with_a_body: post2(&[("content-length", "0")], "GET /evil HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        .cut();
    h2_a_length_without_a_body: frames(request(1, true, "POST", "/", &[("content-length", "5")])).refused();
    h2_two_lengths_that_differ: post2(&[("content-length", "5"), ("content-length", "6")], "hello").refused();
    h2_two_lengths_that_agree: post2(&[("content-length", "5"), ("content-length", "5")], "hello").passes()
        .body("hello").or_refused();
    h2_a_length_in_a_list: post2(&[("content-length", "5, 5")], "hello").passes().body("hello").or_refused();
    h2_a_signed_length: post2(&[("content-length", "+5")], "hello").refused();
    h2_an_empty_length: post2(&[("content-length", "")], "hello").refused();
    h2_a_length_with_crlf: post2(&[("content-length", "5\r\nx-evil: 1")], "hello").refused();
    h2_transfer_encoding: post2(&[("transfer-encoding", "chunked")], "0\r\n\r\nGET /evil HTTP/1.1\r\nHost: shop.test\r\n\r\n").refused();
    h2_transfer_encoding_and_length: post2(&[("transfer-encoding", "chunked"), ("content-length", "5")], "hello")
        .refused();
    h2_an_alias_of_transfer_encoding: post2(&[("transfer_encoding", "chunked")], "hello")
        .passes().body("hello").gone("transfer_encoding").or_refused();
    h2_connection: get2(&[("connection", "x-private"), ("x-private", "evil")]).refused();
    h2_connection_close: get2(&[("connection", "close")]).refused();
    h2_keep_alive: get2(&[("keep-alive", "timeout=5")]).refused();
    h2_proxy_connection: get2(&[("proxy-connection", "keep-alive")]).refused();
    h2_upgrade: get2(&[("upgrade", "websocket")]).refused();
    h2_te_of_trailers: get2(&[("te", "trailers")]).passes();
    h2_te_of_codings: get2(&[("te", "gzip")]).refused();
    h2_te_of_trailers_and_codings: get2(&[("te", "trailers, gzip")]).refused();
    h2_settings: get2(&[("http2-settings", "AAMAAABkAAQAAP__")]).passes().gone("http2-settings").or_refused();
    h2_proxy_authorization: get2(&[("proxy-authorization", "Basic evil")]).passes().gone("proxy-authorization");
    h2_claims: get2(&[("x-forwarded-for", "evil"), ("x-real-ip", "evil"), ("forwarded", "for=evil"), ("x-request-id", "evil")]).passes();
    h2_claims_with_underscores: get2(&[("x_forwarded_for", "evil"), ("x-forwarded_proto", "evil"), ("x_real_ip", "evil")]).passes().or_refused();
    h2_a_name_in_capitals: get2(&[("X-Own", "evil")]).refused();
    h2_one_capital_in_a_name: get2(&[("x-oWn", "evil")]).refused();
    h2_a_name_with_a_space: get2(&[("x own", "evil")]).refused();
    h2_a_name_with_a_colon: get2(&[("x:own", "evil")]).refused();
    h2_a_name_that_begins_with_a_colon: get2(&[(":evil", "evil")]).refused();
    h2_an_empty_name: get2(&[("", "evil")]).refused();
    h2_a_name_with_crlf: get2(&[("x-own: a\r\nx-evil", "evil")]).refused();
    h2_a_name_with_obs_text: get2(&[("x-\u{ff}", "evil")]).refused();
    h2_a_value_with_crlf: get2(&[("x-own", "a\r\nx-evil: b")]).refused();
    h2_a_value_with_a_request: get2(&[("x-own", "a\r\n\r\nGET /evil HTTP/1.1\r\nHost: shop.test\r\n\r\n")]).refused();
    h2_a_value_with_lf: get2(&[("x-own", "a\nx-evil: b")]).refused();
    h2_a_value_with_cr: get2(&[("x-own", "a\rx-evil: b")]).refused();
    h2_a_value_with_nul: get2(&[("x-own", "a\0evil")]).refused();
    h2_a_value_with_white_space_before: get2(&[("x-own", " a")]).passes().kept("x-own", "a").or_refused();
    h2_a_value_with_white_space_behind: get2(&[("x-own", "a\t")]).passes().kept("x-own", "a").or_refused();
    h2_obs_text_in_a_value: get2(&[("x-own", "\u{fc}")]).passes().kept("x-own", "\u{fc}").or_refused();
    h2_cookies_are_joined: get2(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]).passes()
        .kept("cookie", "a=1; b=2; c=3");
    h2_host_that_agrees: get2(&[("host", "shop.test")]).passes();
    h2_host_that_differs: get2(&[("host", "evil.test")]).refused();
    h2_host_twice: get2(&[("host", "shop.test"), ("host", "evil.test")]).refused();
    h2_host_without_authority: only(&[(":method", "GET"), (":scheme", "https"), (":path", "/"), ("host", "shop.test")])
        .passes().or_refused();
    h2_no_host_at_all: only(&[(":method", "GET"), (":scheme", "https"), (":path", "/")]).refused();
    h2_an_empty_authority: only(&[(":method", "GET"), (":scheme", "https"), (":authority", ""), (":path", "/")])
        .refused();
    h2_an_authority_with_a_user: only(&[(":method", "GET"), (":scheme", "https"), (":authority", "evil@shop.test"), (":path", "/")]).refused();
    h2_an_authority_with_a_path: only(&[(":method", "GET"), (":scheme", "https"), (":authority", "shop.test/evil"), (":path", "/")]).refused();
    h2_an_authority_with_crlf: only(&[(":method", "GET"), (":scheme", "https"), (":authority", "shop.test\r\nx-evil: 1"), (":path", "/")]).refused();
    h2_an_authority_of_nobody: only(&[(":method", "GET"), (":scheme", "https"), (":authority", "other.test"), (":path", "/")]).end(End::Answered);
    h2_two_authorities: only(&[(":method", "GET"), (":scheme", "https"), (":authority", "shop.test"), (":authority", "evil.test"), (":path", "/")]).refused();
    h2_no_method: only(&[(":scheme", "https"), (":authority", "shop.test"), (":path", "/")]).refused();
    h2_two_methods: only(&[(":method", "GET"), (":method", "POST"), (":scheme", "https"), (":authority", "shop.test"), (":path", "/")]).refused();
    h2_a_method_with_a_space: frames(request(1, true, "GET /evil HTTP/1.1\r\nx: ", "/", &[])).refused();
    h2_a_method_that_is_a_request_line: frames(request(1, true, "GET /evil HTTP/1.1", "/", &[])).refused();
    h2_an_empty_method: frames(request(1, true, "", "/", &[])).refused();
    h2_no_scheme: only(&[(":method", "GET"), (":authority", "shop.test"), (":path", "/")]).refused();
    h2_another_scheme: only(&[(":method", "GET"), (":scheme", "http"), (":authority", "shop.test"), (":path", "/")])
        .passes().or_refused();
    h2_a_scheme_that_is_a_url: only(&[(":method", "GET"), (":scheme", "https://evil.test/?"), (":authority", "shop.test"), (":path", "/")]).refused();
    h2_no_path: only(&[(":method", "GET"), (":scheme", "https"), (":authority", "shop.test")]).refused();
    h2_two_paths: only(&[(":method", "GET"), (":scheme", "https"), (":authority", "shop.test"), (":path", "/"), (":path", "/evil")]).refused();
    h2_an_empty_path: path("").refused();
    h2_a_path_without_slash: path("evil").refused();
    h2_a_path_in_absolute_form: path("http://evil.test/").refused();
    h2_a_path_with_a_space: path("/ HTTP/1.1\r\nHost: evil.test\r\n\r\n").refused();
    h2_a_path_with_a_space_alone: path("/a b").refused();
    h2_a_path_with_crlf: path("/\r\nx-evil: 1").refused();
    h2_a_path_with_nul: path("/\0").refused();
    h2_a_path_with_a_tab: path("/a\tb").refused();
    h2_a_path_with_a_fragment: path("/a#evil").passes().line("GET /a HTTP/1.1").or_refused();
    h2_a_path_with_a_query: path("/a?b=%0d%0a").passes().line("GET /a?b=%0d%0a HTTP/1.1");
    h2_asterisk_for_options: frames(request(1, true, "OPTIONS", "*", &[])).passes().line("OPTIONS * HTTP/1.1");
    h2_asterisk_for_get: path("*").refused();
    h2_a_pseudo_field_behind_others: only(&[(":method", "GET"), (":scheme", "https"), (":authority", "shop.test"), ("x-own", "a"), (":path", "/")]).refused();
    h2_a_pseudo_field_of_answers: get2(&[(":status", "200")]).refused();
    h2_connect: only(&[(":method", "CONNECT"), (":authority", "shop.test:80")]).end(End::Answered);
    h2_extended_connect: extended("websocket").passes().line("GET / HTTP/1.1").kept("upgrade", "websocket").fails().or_refused();
    h2_extended_connect_to_something_else: extended("connect-udp").end(End::Answered);
    h2_extended_connect_to_a_list: extended("websocket, h2c").end(End::Answered);
    h2_padding: frames([request(1, false, "POST", "/", &[]), frame(DATA, END_STREAM | PADDED, 1, b"\x04hello\0\0\0\0")].concat())
        .passes().body("hello");
    h2_too_much_padding: frames([request(1, false, "POST", "/", &[]), frame(DATA, END_STREAM | PADDED, 1, b"\xffhello")].concat()).cut();
    h2_a_head_in_pieces: frames(in_pieces(&[("x-own", "kept")])).passes().kept("x-own", "kept");
    h2_a_head_that_never_ends: frames(endless()).refused();
    h2_data_before_the_head: frames(data(1, true, "evil")).refused();
    h2_data_after_the_end: frames([request(1, true, "GET", "/", &[]), data(1, true, "evil")].concat()).passes()
        .gets_or_fails(200, "answer 1").or_refused();
    h2_a_reset_in_the_body: frames([request(1, false, "POST", "/", &[]), data(1, false, "hello")].concat())
        .then(Step::Upstream).send(frame(crate::frame::RST_STREAM, 0, 1, [0, 0, 0, 8])).then(Step::Vanish);
    h2_gone_in_the_body: frames([request(1, false, "POST", "/", &[]), data(1, false, "hello")].concat())
        .then(Step::Upstream).then(Step::Vanish);
    h2_expecting_100: frames(request(1, false, "POST", "/", &[("expect", "100-continue")])).send(data(1, true, "hello"))
        .passes().body("hello");
    h2_a_big_field: get2(&[("x-own", &"a".repeat(15_000))]).passes().or_refused();
}

/// A request to change a stream to another protocol (RFC 8441).
fn extended(protocol: &str) -> Case {
    let shop = [(":scheme", "https"), (":authority", "shop.test"), (":path", "/")];
    only(&[&[(":method", "CONNECT"), (":protocol", protocol)][..], &shop].concat())
}

/// A request whose fields are split over two frames, in the middle of one.
fn in_pieces(more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", "shop.test"), (":path", "/")];
    let block = block(&[&pseudo[..], more].concat());
    let (one, two) = block.split_at(block.len() - 3);
    [frame(HEADERS, END_STREAM, 1, one), frame(CONTINUATION, END_HEADERS, 1, two)].concat()
}

/// A head that goes on and on.
fn endless() -> Vec<u8> {
    let pseudo = [(":method", "GET"), (":scheme", "https"), (":authority", "shop.test"), (":path", "/")];
    let mut frames = frame(HEADERS, END_STREAM, 1, block(&pseudo));
    let more = frame(CONTINUATION, 0, 1, block(&[("x-evil", &"a".repeat(10_000))]));
    for _ in 0..200 {
        frames.extend_from_slice(&more);
    }
    frames
}
