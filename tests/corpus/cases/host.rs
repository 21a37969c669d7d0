//! Whom a request is for (RFC 9112 sections 3.2 and 3.2.2, RFC 9110 section 7.2).

use crate::case::{Case, End, sends};

fn host(lines: &str) -> Case {
    sends(format!("GET / HTTP/1.1\r\n{lines}\r\n"))
}

/// The absolute form with the host given beside it.
fn absolute(target: &str, host: &str) -> Case {
    sends(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

cases! {
    no_host: host("").refused();
    no_host_in_http_1_0: sends("GET / HTTP/1.0\r\n\r\n").refused();
    an_empty_host: host("Host:\r\n").refused();
    two_hosts_that_agree: host("Host: shop.test\r\nHost: shop.test\r\n").refused();
    two_hosts_that_differ: host("Host: shop.test\r\nHost: evil.test\r\n").refused();
    two_hosts_in_one_field: host("Host: shop.test, evil.test\r\n").refused();
    two_hosts_with_a_space: host("Host: shop.test evil.test\r\n").refused();
    a_host_after_a_fold: host("X-A: b\r\n Host: other.test\r\nHost: shop.test\r\n").refused();
    a_host_with_a_path: host("Host: shop.test/evil\r\n").refused();
    a_host_with_a_user: host("Host: evil@shop.test\r\n").refused();
    a_host_with_a_scheme: host("Host: http://shop.test\r\n").refused();
    a_host_with_a_query: host("Host: shop.test?evil\r\n").refused();
    a_host_with_a_fragment: host("Host: shop.test#evil\r\n").refused();
    a_host_with_a_backslash: host("Host: shop.test\\evil\r\n").refused();
    a_host_with_a_tab: host("Host: shop.\ttest\r\n").refused();
    a_host_with_a_nul: host("Host: shop.test\0evil\r\n").refused();
    a_host_with_a_percent: host("Host: shop%2etest\r\n").refused();
    a_host_with_quotes: host("Host: \"shop.test\"\r\n").refused();
    a_host_of_obs_text: sends(b"GET / HTTP/1.1\r\nHost: sh\xc3\xb6p.test\r\n\r\n").refused();
    a_host_with_an_empty_label: host("Host: shop..test\r\n").refused();
    a_host_that_begins_with_a_point: host("Host: .shop.test\r\n").refused();
    a_host_with_a_bad_port: host("Host: shop.test:abc\r\n").refused();
    a_host_with_a_port_beyond_16_bits: host("Host: shop.test:65616\r\n").refused();
    a_host_with_two_ports: host("Host: shop.test:80:80\r\n").refused();
    a_host_with_a_signed_port: host("Host: shop.test:+80\r\n").refused();
    a_host_with_a_port: host("Host: shop.test:80\r\n").passes().host("shop.test:80");
    a_host_in_capitals: host("Host: SHOP.test\r\n").passes();
    a_host_with_a_point_at_the_end: host("Host: shop.test.\r\n").passes().host("shop.test.").or_refused();
    a_host_nobody_has: host("Host: other.test\r\n").end(End::Answered);
    an_address_in_brackets: host("Host: [::1]\r\n").end(End::Answered);
    a_broken_address_in_brackets: host("Host: [::1\r\n").end(End::Answered);
    absolute_form: absolute("http://shop.test/a?b", "shop.test").passes().line("GET /a?b HTTP/1.1");
    absolute_form_without_path: absolute("http://shop.test", "shop.test").passes().line("GET / HTTP/1.1");
    absolute_form_with_a_query_alone: absolute("http://shop.test?b", "shop.test").passes().line("GET /?b HTTP/1.1")
        .or_refused();
    absolute_form_in_capitals: absolute("HTTP://SHOP.TEST/a", "shop.test").passes().line("GET /a HTTP/1.1");
    absolute_form_for_options: sends("OPTIONS http://shop.test HTTP/1.1\r\nHost: shop.test\r\n\r\n").passes()
        .or_refused();
    absolute_form_against_host: absolute("http://shop.test/", "evil.test").refused();
    host_against_absolute_form: absolute("http://evil.test/", "shop.test").refused();
    absolute_form_with_another_port: absolute("http://shop.test:81/", "shop.test").refused();
    absolute_form_without_host: sends("GET http://shop.test/ HTTP/1.1\r\n\r\n").refused();
    absolute_form_with_an_empty_host: absolute("http://shop.test/", "").refused();
    absolute_form_with_a_user: absolute("http://evil@shop.test/", "shop.test").refused();
    absolute_form_with_another_host_as_user: absolute("http://shop.test@evil.test/", "shop.test").refused();
    absolute_form_with_another_scheme: absolute("ftp://shop.test/", "shop.test").refused();
    absolute_form_of_https_in_the_clear: absolute("https://shop.test/", "shop.test").passes().line("GET / HTTP/1.1")
        .or_refused();
    absolute_form_with_a_backslash: absolute("http://shop.test\\@evil.test/", "shop.test").refused();
    absolute_form_without_authority: absolute("http:///a", "shop.test").refused();
    absolute_form_of_a_word: absolute("evil:shop.test", "shop.test").refused();
}
