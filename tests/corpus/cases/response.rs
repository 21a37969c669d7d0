//! What upstreams answer (RFC 9112 sections 6.3 and 9, RFC 9110 section 15.2). A client gets a correct message, an error,
//! or a cut connection, and never what belongs to another request.

use crate::case::{Case, End, Step, Then, answered, get, sends};

const OK: &str = "HTTP/1.1 200 OK\r\n";
const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

/// A 200 with these fields and this body.
fn ok(fields: &str, body: &str) -> Case {
    answered(format!("{OK}{fields}\r\n{body}")).passes()
}

/// As `ok`, but the upstream keeps its connection, so that what is too much may still be there.
fn kept(fields: &str, body: &str) -> Case {
    get("").script(format!("{OK}{fields}\r\n{body}"), Then::Keep).passes()
}

fn head(answer: &str) -> Case {
    sends("HEAD / HTTP/1.1\r\nHost: shop.test\r\n\r\n").script(answer, Then::Keep).passes().asked_by_head()
}

cases! {
    a_length_in_the_answer: kept("Content-Length: 5\r\n", "hello").gets(200, "hello");
    chunks_in_the_answer: kept("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n").gets(200, "hello");
    until_the_end: ok("", "hello").gets(200, "hello").end(End::Any);
    http_1_0_until_the_end: answered("HTTP/1.0 200 OK\r\n\r\nhello").passes().gets(200, "hello").end(End::Any);
    http_1_0_with_a_length: answered("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello").passes().gets(200, "hello")
        .end(End::Any);
    http_1_0_with_chunks: answered("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        .passes().gets_or_fails(200, "hello");
    an_empty_answer: kept("Content-Length: 0\r\n", "").gets(200, "");
    no_reason: get("").script("HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", Then::Keep).passes()
        .gets_or_fails(200, "hello");
    an_empty_reason: get("").script("HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello", Then::Keep).passes()
        .gets(200, "hello");
    answer_with_two_lengths_that_differ: kept("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!").fails();
    answer_with_two_lengths_that_agree: kept("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")
        .gets_or_fails(200, "hello");
    answer_with_two_lengths_in_one_field: kept("Content-Length: 5, 6\r\n", "hello!").fails();
    answer_with_a_signed_length: kept("Content-Length: +5\r\n", "hello").fails();
    answer_with_a_negative_length: ok("Content-Length: -1\r\n", "hello").fails();
    answer_with_a_length_in_hex: ok("Content-Length: 0x5\r\n", "hello").fails();
    answer_with_an_empty_length: ok("Content-Length:\r\n", "hello").declined();
    answer_with_a_length_beyond_64_bits: ok("Content-Length: 18446744073709551621\r\n", "hello").fails();
    answer_with_length_and_chunks: kept("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n")
        .gets_or_fails(200, "hello");
    answer_with_an_unknown_coding: ok("Transfer-Encoding: evil\r\n", "hello").declined();
    answer_with_gzip_and_chunked: kept("Transfer-Encoding: gzip, chunked\r\n", "5\r\nhello\r\n0\r\n\r\n").declined();
    answer_with_chunked_twice: kept("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n").declined();
    answer_with_chunked_and_identity: ok("Transfer-Encoding: chunked, identity\r\n", "5\r\nhello\r\n0\r\n\r\n").fails();
    answer_with_an_obs_fold: kept("X-A: b\r\n c\r\nContent-Length: 5\r\n", "hello").gets_or_fails(200, "hello");
    answer_with_a_folded_length: kept("Content-Length:\r\n 5\r\n", "hello").gets_or_fails(200, "hello");
    answer_with_a_space_before_the_colon: kept("Content-Length : 5\r\n", "hello").declined();
    answer_with_a_nul: kept("X-A: b\0c\r\nContent-Length: 5\r\n", "hello").fails();
    answer_with_a_bare_cr: kept("X-A: b\rX-Evil: c\r\nContent-Length: 5\r\n", "hello").declined();
    answer_with_a_bare_lf: kept("X-A: b\nX-B: c\r\nContent-Length: 5\r\n", "hello").gets_or_fails(200, "hello");
    answer_with_no_colon: kept("evil\r\nContent-Length: 5\r\n", "hello").declined();
    answer_with_a_line_that_begins_with_white_space: get("")
        .script("HTTP/1.1 200 OK\r\n X-A: b\r\nContent-Length: 5\r\n\r\nhello", Then::Keep)
        .passes().gets_or_fails(200, "hello");
    answer_of_another_protocol: answered("ICY 200 OK\r\nContent-Length: 5\r\n\r\nhello").passes().fails();
    answer_of_http_2: answered("HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello").passes().declined();
    answer_of_http_0_9: answered("hello").passes().fails();
    answer_with_a_status_of_two_digits: answered("HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello").passes().fails();
    answer_with_a_status_of_four_digits: answered("HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello").passes()
        .fails();
    answer_with_a_status_of_zero: answered("HTTP/1.1 000 OK\r\nContent-Length: 5\r\n\r\nhello").passes().fails();
    answer_with_a_signed_status: answered("HTTP/1.1 +20 OK\r\nContent-Length: 5\r\n\r\nhello").passes().fails();
    answer_that_is_empty: answered("").passes().fails();
    answer_cut_off_in_its_line: answered("HTTP/1.1 200").passes().fails();
    answer_cut_off_in_its_fields: answered("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n").passes().fails();
    answer_cut_off_in_its_body: ok("Content-Length: 10\r\n", "hello").fails();
    answer_cut_off_before_its_body: ok("Content-Length: 10\r\n", "").fails();
    answer_cut_off_in_a_chunk: ok("Transfer-Encoding: chunked\r\n", "a\r\nhello").fails();
    answer_cut_off_between_chunks: ok("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n").fails();
    answer_cut_off_in_its_trailers: ok("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n").fails();
    answer_cut_off_before_its_chunks: ok("Transfer-Encoding: chunked\r\n", "").fails();
    answer_with_a_chunk_size_in_0x: kept("Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n").fails();
    answer_with_a_signed_chunk_size: kept("Transfer-Encoding: chunked\r\n", "+5\r\nhello\r\n0\r\n\r\n").fails();
    answer_with_a_negative_chunk_size: kept("Transfer-Encoding: chunked\r\n", "-5\r\nhello\r\n0\r\n\r\n").fails();
    answer_with_a_chunk_size_beyond_64_bits: kept("Transfer-Encoding: chunked\r\n", "10000000000000005\r\nhello\r\n0\r\n\r\n").fails();
    answer_with_an_empty_chunk_size: kept("Transfer-Encoding: chunked\r\n", "\r\nhello\r\n0\r\n\r\n").fails();
    answer_with_more_data_than_the_chunk_size: kept("Transfer-Encoding: chunked\r\n", "5\r\nhello you\r\n0\r\n\r\n")
        .fails();
    answer_with_a_bare_lf_in_chunks: kept("Transfer-Encoding: chunked\r\n", "5\nhello\n0\n\n")
        .gets_or_fails(200, "hello");
    answer_with_a_chunk_extension: kept("Transfer-Encoding: chunked\r\n", "5;evil\r\nhello\r\n0\r\n\r\n")
        .gets_or_fails(200, "hello");
    answer_with_a_trailer: kept("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
        .gets(200, "hello");
    answer_with_a_trailer_that_frames: kept("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n")
        .gets_or_fails(200, "hello");
    more_than_the_length: kept("Content-Length: 5\r\n", "helloevil").gets(200, "hello").end(End::Any);
    another_answer_behind: get("").script(format!("{OK}Content-Length: 5\r\n\r\nhello{EVIL}"), Then::Keep)
        .passes().gets(200, "hello").end(End::Any);
    another_answer_behind_chunks: get("")
        .script(format!("{OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{EVIL}"), Then::Keep)
        .passes().gets(200, "hello").end(End::Any);
    another_answer_on_the_idle_connection: get("").then(Step::Answers(1)).then(Step::UpstreamSays(EVIL.into()))
        .passes().end(End::Any);
    half_an_answer_on_the_idle_connection: get("").then(Step::Answers(1))
        .then(Step::UpstreamSays(b"HTTP/1.1 200 OK\r\nX-Evil: ".to_vec()))
        .passes().end(End::Any);
    an_empty_line_on_the_idle_connection: get("").then(Step::Answers(1)).then(Step::UpstreamSays(b"\r\n".to_vec()))
        .passes().end(End::Any);
    a_408_on_the_idle_connection: get("").then(Step::Answers(1))
        .then(Step::UpstreamSays(b"HTTP/1.1 408 Evil\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec()))
        .passes().end(End::Any);
    head_with_the_length_of_the_body: head("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    head_with_chunked: head("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    head_without_length: head("HTTP/1.1 200 OK\r\n\r\n");
    head_with_a_body: head(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{EVIL}", EVIL.len())).end(End::Any);
    head_with_two_lengths: sends("HEAD / HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        .script("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Then::Keep).passes()
        .asked_by_head().gets_or_fails(200, "");
    a_204: get("").script("HTTP/1.1 204 No Content\r\n\r\n", Then::Keep).passes().gets(204, "");
    a_204_with_a_length: get("").script("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil", Then::Keep)
        .passes().gets_or_fails(204, "");
    a_204_with_chunks: get("")
        .script("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n", Then::Keep)
        .passes().gets_or_fails(204, "");
    a_304: get("").script("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Then::Keep).passes().gets(304, "");
    a_304_with_a_body: get("")
        .script(format!("HTTP/1.1 304 Not Modified\r\nContent-Length: {}\r\n\r\n{EVIL}", EVIL.len()), Then::Keep)
        .passes().gets_or_fails(304, "");
    a_205_with_a_body: get("").script("HTTP/1.1 205 Reset Content\r\nContent-Length: 5\r\n\r\nhello", Then::Keep)
        .passes().gets_or_fails(205, "hello");
    a_100_nobody_asked_for: get("")
        .script(format!("HTTP/1.1 100 Continue\r\n\r\n{OK}Content-Length: 5\r\n\r\nhello"), Then::Keep)
        .passes().gets(200, "hello");
    early_hints: get("")
        .script(format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}Content-Length: 5\r\n\r\nhello"), Then::Keep)
        .passes().gets(200, "hello");
    an_interim_with_a_length: get("")
        .script(format!("HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\nevil{OK}Content-Length: 5\r\n\r\nhello"), Then::Keep)
        .passes().fails();
    a_thousand_interims: get("")
        .script(format!("{}{OK}Content-Length: 5\r\n\r\nhello", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(1000)), Then::Keep)
        .passes().gets_or_fails(200, "hello");
    interims_without_end: answered("HTTP/1.1 102 Processing\r\n\r\n".repeat(50_000)).passes().fails();
    only_an_interim: answered("HTTP/1.1 100 Continue\r\n\r\n").passes().fails();
    fields_of_a_megabyte_in_the_answer: kept(&format!("X-A: {}\r\nContent-Length: 5\r\n", "a".repeat(1_000_000)), "hello").declined();
    ten_thousand_fields_in_the_answer: kept(&format!("{}Content-Length: 5\r\n", "X-A: b\r\n".repeat(10_000)), "hello")
        .declined();
    hop_fields_in_the_answer: kept("Connection: X-Private\r\nX-Private: evil\r\nKeep-Alive: evil\r\nProxy-Connection: evil\r\nContent-Length: 5\r\n", "hello")
        .gets(200, "hello").end(End::Any);
    the_length_nominated_in_the_answer: kept("Connection: content-length\r\nContent-Length: 5\r\n", "hello")
        .gets(200, "hello").end(End::Any);
    an_upgrade_offered_in_the_answer: kept("Connection: Upgrade\r\nUpgrade: evil\r\nContent-Length: 5\r\n", "hello")
        .gets(200, "hello").end(End::Any);
    close_in_the_answer_is_for_the_upstream: kept("Connection: close\r\nContent-Length: 5\r\n", "hello")
        .gets(200, "hello").end(End::Any);
    a_length_byte_by_byte: get("").script(format!("{OK}Content-Length: 5\r\n\r\nhello"), Then::Dribble)
        .passes().gets(200, "hello");
    chunks_byte_by_byte: get("")
        .script(format!("{OK}Transfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), Then::Dribble)
        .passes().gets_or_fails(200, "hello");
    interims_byte_by_byte: get("")
        .script(format!("HTTP/1.1 103 Early Hints\r\n\r\n{OK}Content-Length: 5\r\n\r\nhello"), Then::Dribble)
        .passes().gets(200, "hello");
    two_answers_byte_by_byte: get("").send("GET /two HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        .script(format!("{OK}Content-Length: 3\r\n\r\none"), Then::Dribble)
        .script(format!("{OK}Transfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"), Then::Dribble)
        .passes().gets(200, "one").passes().gets(200, "two");
    a_hundred_kilobytes: kept("Content-Length: 100000\r\n", &"a".repeat(100_000))
        .gets(200, "a".repeat(100_000));
    until_the_end_to_http_1_0: sends("GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n")
        .script("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", Then::Keep).passes()
        .gets(200, "hello").closes();
    cut_off_to_http_1_0: sends("GET / HTTP/1.0\r\nHost: shop.test\r\nConnection: keep-alive\r\n\r\n")
        .script("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", Then::Close).passes().fails();
}
