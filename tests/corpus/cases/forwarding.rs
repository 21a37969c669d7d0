//! What tells an upstream who asks: never the client's word, in no spelling that a server could take for it.

use crate::case::{Case, get};

/// The field comes through with no value of the client's. Refusing is no answer: other proxies in front may send it.
fn dropped(name: &str) -> Case {
    get(&format!("{name}: evil\r\nX-Own: kept\r\n")).passes().kept("x-own", "kept")
}

/// As `dropped`; but nobody sends such a name in good faith, so that refusing is as good.
fn alias(name: &str) -> Case {
    dropped(name).or_refused()
}

cases! {
    x_forwarded_for: dropped("X-Forwarded-For");
    x_forwarded_for_twice: get("X-Forwarded-For: evil\r\nx-forwarded-for: evil\r\n").passes();
    x_forwarded_for_with_our_address: get("X-Forwarded-For: evil, 127.0.0.1\r\n").passes();
    x_forwarded_for_of_nothing: get("X-Forwarded-For:\r\n").passes();
    x_forwarded_proto: dropped("X-Forwarded-Proto");
    x_forwarded_host: dropped("X-Forwarded-Host");
    x_forwarded_port: dropped("X-Forwarded-Port");
    x_forwarded_prefix: dropped("X-Forwarded-Prefix");
    x_forwarded_server: dropped("X-Forwarded-Server");
    x_forwarded_of_any_kind: dropped("X-Forwarded-Tls-Client-Cert");
    forwarded: dropped("Forwarded");
    forwarded_with_parameters: get("Forwarded: for=evil;proto=https;by=evil, for=\"[::1]\"\r\n").passes()
        .gone("forwarded");
    x_real_ip: dropped("X-Real-IP");
    x_request_id: dropped("X-Request-ID");
    x_origin_host: dropped("X-Origin-Host");
    x_forwarded_for_with_underscores: alias("X_Forwarded_For");
    x_forwarded_for_with_one_underscore: alias("X-Forwarded_For");
    x_forwarded_for_with_the_other_underscore: alias("X_Forwarded-For");
    x_forwarded_for_in_capitals_with_underscores: alias("X_FORWARDED_FOR");
    x_forwarded_proto_with_underscores: alias("X_Forwarded_Proto");
    x_real_ip_with_underscores: alias("X_Real_IP");
    x_request_id_with_underscores: alias("X_Request_ID");
    x_origin_host_with_underscores: alias("X_Origin_Host");
    other_underscores_are_nobodys_business: get("X_Own: kept\r\n").passes();
    host_with_underscores_is_no_host: get("X-Own: kept\r\nHTTP_HOST: a\r\n").passes().kept("x-own", "kept");
}
