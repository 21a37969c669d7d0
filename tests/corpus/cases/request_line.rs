//! The request line (RFC 9112 sections 2.2, 2.3 and 3).

use crate::case::{End, Step, get, sends};

/// A request with this line and the right host.
fn line(line: &str) -> crate::case::Case {
    sends(format!("{line}\r\nHost: shop.test\r\n\r\n"))
}

cases! {
    plain_get: get("").passes().line("GET / HTTP/1.1");
    the_whole_target_is_kept: line("GET /a/../b//c%2F%00?x=%0d%0aevil&y HTTP/1.1")
        .passes().line("GET /a/../b//c%2F%00?x=%0d%0aevil&y HTTP/1.1").or_refused();
    one_empty_line_before: sends("\r\nGET / HTTP/1.1\r\nHost: shop.test\r\n\r\n").passes().or_refused();
    an_unknown_method: line("BREW / HTTP/1.1").passes().line("BREW / HTTP/1.1");
    a_method_with_odd_token_characters: line("M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.1")
        .passes().line("M-SEARCH!#$%&'*+.^_`|~ / HTTP/1.1").or_refused();
    a_method_in_lower_case_is_another_one: line("get / HTTP/1.1").passes().line("get / HTTP/1.1").or_refused();
    a_method_with_a_bad_character: line("GE[T / HTTP/1.1").refused();
    a_method_with_a_colon: line("GET: / HTTP/1.1").refused();
    a_method_with_obs_text: sends(b"G\xc3\x8bT / HTTP/1.1\r\nHost: shop.test\r\n\r\n").refused();
    no_method: line(" / HTTP/1.1").refused();
    white_space_before_the_method: line(" GET / HTTP/1.1").refused();
    two_spaces_after_the_method: line("GET  / HTTP/1.1").refused();
    two_spaces_after_the_target: line("GET /  HTTP/1.1").refused();
    a_tab_after_the_method: line("GET\t/ HTTP/1.1").refused();
    a_tab_in_the_target: line("GET /a\tb HTTP/1.1").refused();
    a_space_in_the_target: line("GET /a b HTTP/1.1").refused();
    white_space_after_the_version: line("GET / HTTP/1.1 ").refused();
    a_word_after_the_version: line("GET / HTTP/1.1 evil").refused();
    a_second_request_line_in_the_target: line("GET /\rGET /evil HTTP/1.1").refused();
    a_nul_in_the_target: line("GET /a\0b HTTP/1.1").refused();
    a_bare_cr_before_the_target: line("GET \r/ HTTP/1.1").refused();
    a_bare_cr_before_the_version: line("GET / \rHTTP/1.1").refused();
    a_bare_cr_after_the_version: sends("GET / HTTP/1.1\r\r\nHost: shop.test\r\n\r\n").refused();
    a_bare_cr_ends_the_line: sends("GET / HTTP/1.1\rHost: shop.test\r\n\r\n").refused();
    a_bare_lf_ends_the_line: sends("GET / HTTP/1.1\nHost: shop.test\r\n\r\n").refused();
    a_vertical_tab_in_the_line: line("GET /\x0b HTTP/1.1").refused();
    a_form_feed_instead_of_a_space: line("GET\x0c/ HTTP/1.1").refused();
    a_delete_character_in_the_target: line("GET /\x7f HTTP/1.1").refused();
    obs_text_in_the_target: sends(b"GET /\xc3\xbc HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        .passes().or_refused();
    bytes_in_the_target_that_are_no_text: sends(b"GET /\xff\xfe HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        .passes().or_refused();
    a_fragment_in_the_target: line("GET /a#evil HTTP/1.1").passes().line("GET /a HTTP/1.1").or_refused();
    a_target_without_slash: line("GET a HTTP/1.1").refused();
    a_target_of_a_query_alone: line("GET ?a HTTP/1.1").refused();
    a_target_with_two_slashes: line("GET //shop.test/a HTTP/1.1").passes().line("GET //shop.test/a HTTP/1.1");
    a_backslash_in_the_target: line("GET /a\\b HTTP/1.1").passes().or_refused();
    asterisk_for_options: line("OPTIONS * HTTP/1.1").passes().line("OPTIONS * HTTP/1.1");
    asterisk_for_get: line("GET * HTTP/1.1").refused();
    authority_form_for_get: line("GET shop.test:80 HTTP/1.1").refused();
    connect: line("CONNECT shop.test:80 HTTP/1.1").end(End::Answered);
    connect_with_a_path: line("CONNECT /evil HTTP/1.1").end(End::Answered);
    http_0_9: sends("GET /\r\n\r\n").refused();
    http_0_9_with_a_field: sends("GET /\r\nHost: shop.test\r\n\r\n").refused();
    http_1_0: sends("GET / HTTP/1.0\r\nHost: shop.test\r\n\r\n").passes().line("GET / HTTP/1.1").closes();
    http_1_0_kept: sends("GET / HTTP/1.0\r\nHost: shop.test\r\nConnection: keep-alive\r\n\r\n")
        .passes().line("GET / HTTP/1.1").end(End::Any);
    http_1_2: line("GET / HTTP/1.2").passes().line("GET / HTTP/1.1").or_refused();
    http_1_32: line("GET / HTTP/1.32").refused();
    http_2_0_by_name: line("GET / HTTP/2.0").refused();
    http_0_9_by_name: line("GET / HTTP/0.9").refused();
    http_11_1: line("GET / HTTP/11.1").refused();
    http_1_minus: line("GET / HTTP/1.-1").refused();
    a_version_without_point: line("GET / HTTP/11").refused();
    a_version_in_lower_case: line("GET / http/1.1").refused();
    another_protocol: line("GET / ICY/1.1").refused();
    the_preface_of_http_2: sends("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").refused();
    a_target_of_100_kilobytes: line(&format!("GET /{} HTTP/1.1", "a".repeat(100_000))).passes().or_refused();
    a_target_of_a_megabyte: line(&format!("GET /{} HTTP/1.1", "a".repeat(1_000_000))).refused();
    byte_by_byte: sends("").then(Step::Dribble(b"GET /slow HTTP/1.1\r\nHost: shop.test\r\nX-A: b\r\n\r\n".to_vec()))
        .passes().line("GET /slow HTTP/1.1").kept("x-a", "b");
    cut_off_in_the_line: sends("GET /evil HT").then(Step::HalfClose).refused();
    cut_off_in_the_fields: sends("GET /evil HTTP/1.1\r\nHost: shop.test\r\n").then(Step::HalfClose).refused();
}
