//! Content-Length and Transfer-Encoding, alone and against each other (RFC 9112 sections 6.1 to 6.3).

use crate::case::{Case, End, Step, post, sends};

/// A chunked body of five bytes behind another spelling of the field.
fn coding(fields: &str) -> Case {
    post(fields, "5\r\nhello\r\n0\r\n\r\n")
}

/// A second request hides behind a body.
const HIDDEN: &str = "GET /evil HTTP/1.1\r\nHost: shop.test\r\n\r\n";

cases! {
    a_length: post("Content-Length: 5\r\n", "hello").passes().line("POST / HTTP/1.1").body("hello");
    a_length_of_zero: post("Content-Length: 0\r\n", "").passes();
    no_length_is_no_body: post("", "").passes();
    get_with_a_length: sends("GET / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello").passes()
        .body("hello");
    head_with_a_length: sends("HEAD / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello")
        .passes().asked_by_head().body("hello");
    delete_with_a_length: sends("DELETE / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello")
        .passes().body("hello");
    options_with_a_length: sends("OPTIONS / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello")
        .passes().body("hello");
    a_hidden_request_in_a_body: post(&format!("Content-Length: {}\r\n", HIDDEN.len()), HIDDEN).passes().body(HIDDEN);
    a_length_in_pieces: post("Content-Length: 5\r\n", "he").then(Step::Upstream).send("llo").passes().body("hello")
        .or_refused();
    two_lengths_that_differ: post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!").refused();
    two_lengths_that_agree: post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello").refused();
    two_lengths_in_one_field: post("Content-Length: 5, 5\r\n", "hello").refused();
    two_lengths_in_one_field_that_differ: post("Content-Length: 5, 6\r\n", "hello!").refused();
    a_length_and_an_empty_one: post("Content-Length: 5\r\nContent-Length:\r\n", "hello").refused();
    a_length_and_zero: post("Content-Length: 0\r\nContent-Length: 39\r\n", HIDDEN).refused();
    an_empty_length: post("Content-Length:\r\n", "hello").refused();
    a_length_with_a_plus: post("Content-Length: +5\r\n", "hello").refused();
    a_length_with_a_minus: post("Content-Length: -5\r\n", "hello").refused();
    a_length_of_minus_zero: post("Content-Length: -0\r\n", "").refused();
    a_length_in_hex: post("Content-Length: 0x5\r\n", "hello").refused();
    a_length_in_hex_digits: post("Content-Length: a\r\n", "hellohello").refused();
    a_length_with_leading_zeros: post("Content-Length: 005\r\n", "hello").passes().body("hello").or_refused();
    a_length_with_an_underscore: post("Content-Length: 0_5\r\n", "hello").refused();
    a_length_with_a_point: post("Content-Length: 5.0\r\n", "hello").refused();
    a_length_with_an_exponent: post("Content-Length: 5e0\r\n", "hello").refused();
    a_length_with_a_word: post("Content-Length: 5 evil\r\n", "hello").refused();
    a_length_with_a_space_inside: post("Content-Length: 1 0\r\n", "hellohello").refused();
    a_length_with_a_semicolon: post("Content-Length: 5;\r\n", "hello").refused();
    a_length_with_a_comma: post("Content-Length: 5,\r\n", "hello").refused();
    a_length_with_a_vertical_tab: post("Content-Length:\x0b5\r\n", "hello").refused();
    a_length_in_quotes: post("Content-Length: \"5\"\r\n", "hello").refused();
    a_length_in_other_digits: sends("POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: \u{ff15}\r\n\r\nhello")
        .refused();
    a_length_beyond_64_bits: post("Content-Length: 18446744073709551621\r\n", "hello").refused();
    a_length_of_64_bits: post("Content-Length: 18446744073709551615\r\n", "hello").then(Step::HalfClose).cut();
    a_length_beyond_63_bits: post("Content-Length: 9223372036854775808\r\n", "hello").then(Step::HalfClose).cut();
    a_length_of_200_digits: post(&format!("Content-Length: {}\r\n", "9".repeat(200)), "hello").refused();
    a_body_that_is_too_short: post("Content-Length: 10\r\n", "hello").then(Step::HalfClose).cut();
    a_body_that_is_too_short_and_a_client_that_is_gone: post("Content-Length: 10\r\n", "hello").then(Step::Vanish);
    a_body_of_a_megabyte: post("Content-Length: 1000000\r\n", &"a".repeat(1_000_000)).passes()
        .body("a".repeat(1_000_000));
    length_with_chunked: coding("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n").refused();
    chunked_with_length: coding("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n").refused();
    length_of_zero_with_chunked: coding("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n").refused();
    length_against_chunked_with_a_hidden_request: post(
        "Content-Length: 44\r\nTransfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{HIDDEN}")).refused();
    length_shorter_than_chunked: post(
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", &format!("27\r\n{HIDDEN}\r\n0\r\n\r\n")).refused();
    an_empty_length_with_chunked: coding("Content-Length:\r\nTransfer-Encoding: chunked\r\n").refused();
    a_length_and_an_unknown_coding: post("Content-Length: 5\r\nTransfer-Encoding: evil\r\n", "hello").refused();
    a_length_and_identity: post("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", "hello").refused();
    a_length_and_an_empty_coding: post("Content-Length: 5\r\nTransfer-Encoding:\r\n", "hello").refused();
    chunked: coding("Transfer-Encoding: chunked\r\n").passes().body("hello");
    chunked_in_capitals: coding("TRANSFER-ENCODING: CHUNKED\r\n").passes().body("hello").or_refused();
    chunked_after_a_tab: coding("Transfer-Encoding:\tchunked\r\n").passes().body("hello").or_refused();
    chunked_before_a_space: coding("Transfer-Encoding: chunked \r\n").passes().body("hello").or_refused();
    chunked_twice: coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n").refused();
    chunked_twice_in_one_field: coding("Transfer-Encoding: chunked, chunked\r\n").refused();
    gzip_then_chunked: coding("Transfer-Encoding: gzip, chunked\r\n").refused();
    gzip_then_chunked_in_two_fields: coding("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n").refused();
    chunked_then_gzip: coding("Transfer-Encoding: chunked, gzip\r\n").refused();
    chunked_then_gzip_in_two_fields: coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n").refused();
    gzip_alone: coding("Transfer-Encoding: gzip\r\n").refused();
    identity_alone: coding("Transfer-Encoding: identity\r\n").refused();
    identity_then_chunked: coding("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n").refused();
    an_unknown_coding: coding("Transfer-Encoding: evil\r\n").refused();
    an_empty_coding: coding("Transfer-Encoding:\r\n").refused();
    an_empty_coding_before_chunked: coding("Transfer-Encoding: , chunked\r\n").refused();
    an_empty_coding_after_chunked: coding("Transfer-Encoding: chunked,\r\n").refused();
    chunked_with_a_parameter: coding("Transfer-Encoding: chunked;a=b\r\n").refused();
    chunked_with_a_prefix: coding("Transfer-Encoding: xchunked\r\n").refused();
    chunked_with_a_suffix: coding("Transfer-Encoding: chunkedx\r\n").refused();
    chunked_in_quotes: coding("Transfer-Encoding: \"chunked\"\r\n").refused();
    chunked_after_a_vertical_tab: coding("Transfer-Encoding: \x0bchunked\r\n").refused();
    chunked_before_a_nul: coding("Transfer-Encoding: chunked\0\r\n").refused();
    chunked_after_a_delete_character: coding("Transfer-Encoding: \x7fchunked\r\n").refused();
    chunked_with_a_long_s: sends(b"POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chun\xc4\xb7ed\r\n\r\n5\r\nhello\r\n0\r\n\r\n").refused();
    an_alias_of_the_coding: post("Content-Length: 5\r\nTransfer_Encoding: chunked\r\n", "hello")
        .passes().body("hello").gone("transfer_encoding").or_refused();
    an_alias_of_the_length: post("Content-Length: 5\r\nContent_Length: 9\r\n", "hello")
        .passes().body("hello").gone("content_length").or_refused();
    chunked_in_http_1_0: sends("POST / HTTP/1.0\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").refused();
    chunked_in_http_1_0_kept: sends(
        "POST / HTTP/1.0\r\nHost: shop.test\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").refused();
    length_with_chunked_in_http_1_0: sends(
        "POST / HTTP/1.0\r\nHost: shop.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello").refused();
    a_length_in_http_1_0: sends("POST / HTTP/1.0\r\nHost: shop.test\r\nContent-Length: 5\r\n\r\nhello")
        .passes().body("hello").closes();
    get_with_chunked: sends("GET / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        .passes().body("hello");
    expecting_100: post("Content-Length: 5\r\nExpect: 100-continue\r\n", "").then(Step::Interim).send("hello")
        .passes().body("hello");
    expecting_100_and_not_waiting: post("Content-Length: 5\r\nExpect: 100-continue\r\n", "hello").passes()
        .body("hello");
    expecting_100_chunked: post("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "").then(Step::Interim)
        .send("5\r\nhello\r\n0\r\n\r\n").passes().body("hello");
    expecting_100_without_a_body: post("Expect: 100-continue\r\n", "").passes().or_refused();
    expecting_100_in_http_1_0: sends("POST / HTTP/1.0\r\nHost: shop.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello")
        .passes().body("hello").closes();
    expecting_something_else: post("Content-Length: 5\r\nExpect: 200-ok\r\n", "hello").passes().body("hello")
        .end(End::Any).or_refused();
    expecting_100_obfuscated: post("Content-Length: 5\r\nExpect: y 100-continue\r\n", "hello")
        .passes().body("hello").end(End::Any).or_refused();
}
