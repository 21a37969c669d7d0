//! Field lines (RFC 9112 section 5).

use crate::case::{get, post, sends};

cases! {
    a_field_is_kept: get("X-A: b\r\n").passes().kept("x-a", "b");
    white_space_around_a_value: get("X-A: \t b c\t \r\n").passes().kept("x-a", "b c");
    no_white_space_before_a_value: get("X-A:b\r\n").passes().kept("x-a", "b");
    an_empty_value: get("X-A:\r\n").passes().kept("x-a", "");
    a_tab_in_a_value: get("X-A: b\tc\r\n").passes().kept("x-a", "b\tc").or_refused();
    obs_text_in_a_value: sends(b"GET / HTTP/1.1\r\nHost: shop.test\r\nX-A: \xfc\xff\r\n\r\n")
        .passes().kept("x-a", "\u{fc}\u{ff}").or_refused();
    a_colon_in_a_value: get("X-A: b:c: d\r\n").passes().kept("x-a", "b:c: d");
    a_name_of_all_token_characters: get("!#$%&'*+-.^`|~09: b\r\n").passes().or_refused();
    a_space_before_the_colon: get("X-A : b\r\n").refused();
    a_tab_before_the_colon: get("X-A\t: b\r\n").refused();
    a_space_before_the_colon_of_the_length: get("Content-Length : 5\r\n").refused();
    a_space_before_the_colon_of_the_coding: get("Transfer-Encoding : chunked\r\n").refused();
    a_space_in_a_name: get("X A: b\r\n").refused();
    a_space_before_the_first_name: sends("GET / HTTP/1.1\r\n Host: shop.test\r\n\r\n").refused();
    a_folded_first_line: sends("GET / HTTP/1.1\r\n X-A: b\r\nHost: shop.test\r\n\r\n").refused();
    an_obs_fold: get("X-A: b\r\n c\r\n").refused();
    an_obs_fold_with_a_tab: get("X-A: b\r\n\tc\r\n").refused();
    an_obs_fold_in_the_coding: post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n").refused();
    an_obs_fold_that_looks_like_a_field: get("X-A: b\r\n Content-Length: 5\r\n").refused();
    an_obs_fold_with_an_empty_value: get("X-A:\r\n b\r\n").refused();
    a_line_of_white_space: get("X-A: b\r\n \r\n").refused();
    no_colon: get("X-A\r\n").refused();
    no_name: get(": b\r\n").refused();
    a_bare_lf_in_a_value: get("X-A: b\nX-B: c\r\n").refused();
    a_bare_lf_ends_a_field: get("X-A: b\n").refused();
    a_bare_lf_ends_the_head: sends("GET / HTTP/1.1\r\nHost: shop.test\r\n\n").refused();
    a_bare_lf_everywhere: sends("GET / HTTP/1.1\nHost: shop.test\n\n").refused();
    lf_cr_ends_a_field: get("X-A: b\n\rX-B: c\r\n").refused();
    a_bare_cr_in_a_value: get("X-A: b\rX-B: c\r\n").refused();
    a_bare_cr_before_crlf: get("X-A: b\r\r\n").refused();
    a_bare_cr_in_a_name: get("X-\rA: b\r\n").refused();
    a_bare_cr_begins_a_line: get("\rX-A: b\r\n").refused();
    a_bare_cr_after_the_colon: get("Transfer-Encoding:\rchunked\r\n").refused();
    a_bare_cr_ends_the_head: sends("GET / HTTP/1.1\r\nHost: shop.test\r\n\r\rGET /evil HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        .refused();
    a_nul_in_a_value: get("X-A: b\0c\r\n").refused();
    a_nul_in_a_name: get("X\0A: b\r\n").refused();
    a_nul_at_the_end_of_a_value: get("X-A: b\0\r\n").refused();
    a_nul_alone_in_a_value: get("X-A: \0\r\n").refused();
    a_control_character_in_a_value: get("X-A: b\x01c\r\n").refused();
    a_vertical_tab_in_a_value: get("X-A: b\x0bc\r\n").refused();
    a_form_feed_before_a_value: get("X-A:\x0cb\r\n").refused();
    a_delete_character_in_a_value: get("X-A: b\x7fc\r\n").refused();
    a_backspace_in_a_name: get("X-A\x08: b\r\n").refused();
    a_name_in_quotes: get("\"X-A\": b\r\n").refused();
    a_slash_in_a_name: get("X/A: b\r\n").refused();
    obs_text_in_a_name: sends(b"GET / HTTP/1.1\r\nHost: shop.test\r\nX-\xffA: b\r\n\r\n").refused();
    a_name_after_a_bom: sends(b"GET / HTTP/1.1\r\nHost: shop.test\r\n\xef\xbb\xbfX-A: b\r\n\r\n").refused();
    a_second_request_line_among_the_fields: get("GET /evil HTTP/1.1\r\nX-A: b\r\n").refused();
    fields_of_a_megabyte: get(&format!("X-A: {}\r\n", "a".repeat(1_000_000))).refused();
    ten_thousand_fields: get(&"X-A: b\r\n".repeat(10_000)).refused();
    a_hundred_fields: get(&(0..90).map(|n| format!("X-A{n}: b\r\n")).collect::<String>()).passes().kept("x-a89", "b");
    one_field_given_twice_stays_twice: get("Accept: a\r\nAccept: b\r\n").passes();
}
