//! Chunked bodies (RFC 9112 section 7.1). What is wrong is found out only in the body: the upstream may have seen the
//! beginning of the request, but never an end.

use crate::case::{Step, chunked};

cases! {
    two_chunks: chunked("5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n").passes().body("helloyou");
    no_chunks: chunked("0\r\n\r\n").passes();
    a_size_in_capitals: chunked("A\r\nhellohello\r\n0\r\n\r\n").passes().body("hellohello");
    a_size_in_lower_case: chunked("a\r\nhellohello\r\n0\r\n\r\n").passes().body("hellohello");
    a_size_with_leading_zeros: chunked("005\r\nhello\r\n000\r\n\r\n").passes().body("hello").or_refused();
    a_chunk_that_looks_like_the_end: chunked("5\r\n0\r\n\r\n\r\n0\r\n\r\n").passes().body("0\r\n\r\n");
    byte_by_byte_chunks: chunked("").then(Step::Dribble(b"5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n".to_vec()))
        .passes().body("helloyou");
    chunks_of_one_byte: chunked("1\r\na\r\n".repeat(2000) + "0\r\n\r\n").passes().body("a".repeat(2000));
    a_big_chunk: chunked(format!("f4240\r\n{}\r\n0\r\n\r\n", "a".repeat(1_000_000))).passes()
        .body("a".repeat(1_000_000));
    a_size_with_0x: chunked("0x5\r\nhello\r\n0\r\n\r\n").cut();
    a_size_with_a_plus: chunked("+5\r\nhello\r\n0\r\n\r\n").cut();
    a_size_with_a_minus: chunked("-5\r\nhello\r\n0\r\n\r\n").cut();
    a_size_with_an_underscore: chunked("0_5\r\nhello\r\n0\r\n\r\n").cut();
    a_size_that_is_no_number: chunked("evil\r\nhello\r\n0\r\n\r\n").cut();
    a_size_with_a_bad_digit: chunked("5g\r\nhello\r\n0\r\n\r\n").cut();
    an_empty_size: chunked("\r\nhello\r\n0\r\n\r\n").cut();
    a_space_before_a_size: chunked(" 5\r\nhello\r\n0\r\n\r\n").cut();
    a_space_after_a_size: chunked("5 \r\nhello\r\n0\r\n\r\n").cut();
    a_tab_after_a_size: chunked("5\t\r\nhello\r\n0\r\n\r\n").cut();
    a_tab_before_the_last_size: chunked("5\r\nhello\r\n\t0\r\n\r\n").cut();
    a_nul_after_a_size: chunked("5\0\r\nhello\r\n0\r\n\r\n").cut();
    a_size_in_obs_text: chunked(b"\xb5\r\nhello\r\n0\r\n\r\n").cut();
    a_size_beyond_64_bits: chunked("10000000000000005\r\nhello\r\n0\r\n\r\n").cut();
    a_size_of_64_bits: chunked("ffffffffffffffff\r\nhello\r\n0\r\n\r\n").then(Step::HalfClose).cut();
    a_size_beyond_32_bits: chunked("100000005\r\nhello\r\n0\r\n\r\n").then(Step::HalfClose).cut();
    a_size_of_a_kilobyte_of_zeros: chunked(format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(1024))).passes()
        .body("hello").or_refused();
    an_extension: chunked("5;a=b\r\nhello\r\n0\r\n\r\n").passes().body("hello").or_refused();
    an_extension_in_quotes: chunked("5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n").passes().body("hello").or_refused();
    an_extension_of_the_last_chunk: chunked("5\r\nhello\r\n0;a=b\r\n\r\n").passes().body("hello").or_refused();
    an_extension_without_name: chunked("5;\r\nhello\r\n0\r\n\r\n").cut();
    an_extension_after_white_space: chunked("5 ;a=b\r\nhello\r\n0\r\n\r\n").passes().body("hello").or_refused();
    an_extension_with_a_bare_lf: chunked("5;a\nhello\r\n0\r\n\r\n").cut();
    an_extension_with_a_bare_lf_inside: chunked("5;a\nb\r\nhello\r\n0\r\n\r\n").cut();
    an_extension_with_a_bare_cr: chunked("5;a\rb\r\nhello\r\n0\r\n\r\n").cut();
    an_extension_with_a_bare_cr_before_it: chunked("5\r;a\r\nhello\r\n0\r\n\r\n").cut();
    an_extension_with_a_nul: chunked("5;a\0\r\nhello\r\n0\r\n\r\n").cut();
    an_extension_with_an_open_quote: chunked("5;a=\"b\r\nhello\r\n0\r\n\r\n").cut();
    an_extension_with_crlf_in_quotes: chunked("5;a=\"\r\nhello\"\r\n\r\n0\r\n\r\n").cut();
    an_extension_of_a_megabyte: chunked(format!("5;a={}\r\nhello\r\n0\r\n\r\n", "b".repeat(1_000_000))).cut();
    many_extensions: chunked(format!("{}0\r\n\r\n", "1;aaaaaaaaaaaaaaaa=bbbbbbbbbbbbbbbb\r\na\r\n".repeat(20_000)))
        .passes().body("a".repeat(20_000)).or_refused();
    a_bare_lf_after_a_size: chunked("5\nhello\r\n0\r\n\r\n").cut();
    a_bare_lf_after_the_data: chunked("5\r\nhello\n0\r\n\r\n").cut();
    a_bare_lf_after_the_last_size: chunked("5\r\nhello\r\n0\n\r\n").cut();
    a_bare_lf_at_the_end: chunked("5\r\nhello\r\n0\r\n\n").then(Step::HalfClose).cut();
    a_bare_cr_after_a_size: chunked("5\rhello\r\n0\r\n\r\n").cut();
    two_crs_after_a_size: chunked("5\r\r\nhello\r\n0\r\n\r\n").cut();
    a_bare_cr_after_the_data: chunked("5\r\nhello\r0\r\n\r\n").cut();
    a_cr_and_another_character_after_the_data: chunked("5\r\nhello\rX0\r\n\r\n").cut();
    two_other_characters_after_the_data: chunked("5\r\nhelloXX0\r\n\r\n").cut();
    more_data_than_the_size: chunked("5\r\nhello you\r\n0\r\n\r\n").cut();
    less_data_than_the_size: chunked("6\r\nhello\r\n0\r\n\r\n").cut();
    nothing_after_the_data: chunked("5\r\nhello0\r\n\r\n").cut();
    no_last_chunk: chunked("5\r\nhello\r\n").then(Step::HalfClose).cut();
    no_last_chunk_and_a_client_that_is_gone: chunked("5\r\nhello\r\n").then(Step::Vanish);
    cut_off_in_a_chunk: chunked("5\r\nhel").then(Step::HalfClose).cut();
    cut_off_in_a_size: chunked("5\r\nhello\r\n1").then(Step::HalfClose).cut();
    cut_off_before_the_last_line: chunked("5\r\nhello\r\n0\r\n").then(Step::HalfClose).cut();
    a_trailer: chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n").passes().body("hello");
    a_trailer_that_frames: chunked("5\r\nhello\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: evil\r\n\r\n")
        .passes().body("hello").or_refused();
    a_trailer_that_routes: chunked("5\r\nhello\r\n0\r\nHost: evil.test\r\n\r\n").passes().body("hello").or_refused();
    a_trailer_that_claims: chunked("5\r\nhello\r\n0\r\nX-Forwarded-For: evil\r\nX_Real_IP: evil\r\n\r\n")
        .passes().body("hello").or_refused();
    a_trailer_for_one_hop: chunked("5\r\nhello\r\n0\r\nConnection: evil\r\nKeep-Alive: evil\r\nProxy-Authorization: evil\r\n\r\n")
        .passes().body("hello").or_refused();
    a_trailer_that_authenticates: chunked("5\r\nhello\r\n0\r\nX-Request-Id: evil\r\nX-Origin-Host: evil\r\n\r\n")
        .passes().body("hello").or_refused();
    a_folded_trailer: chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\n 2\r\n\r\n").cut();
    a_trailer_with_a_space_before_the_colon: chunked("5\r\nhello\r\n0\r\nX-Sum : 1\r\n\r\n").cut();
    a_trailer_without_colon: chunked("5\r\nhello\r\n0\r\nX-Sum\r\n\r\n").cut();
    a_trailer_with_a_bare_cr: chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r2\r\n\r\n").cut();
    a_trailer_with_a_bare_lf: chunked("5\r\nhello\r\n0\r\nX-Sum: 1\n\r\n").then(Step::HalfClose).cut();
    a_trailer_with_a_nul: chunked("5\r\nhello\r\n0\r\nX-Sum: \0\r\n\r\n").cut();
    a_request_in_the_place_of_trailers: chunked("5\r\nhello\r\n0\r\nGET /evil HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        .cut();
    trailers_of_a_megabyte: chunked(format!("5\r\nhello\r\n0\r\nX-Sum: {}\r\n\r\n", "1".repeat(1_000_000))).cut();
    ten_thousand_trailers: chunked(format!("5\r\nhello\r\n0\r\n{}\r\n", "X-Sum: 1\r\n".repeat(10_000))).cut();
}
