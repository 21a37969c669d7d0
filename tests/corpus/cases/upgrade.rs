//! Upgrades (RFC 9110 section 7.8): the one way for bytes to pass unread, so the narrowest.

use crate::case::{Case, End, Step, Then, get, post, sends};

const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                         Sec-WebSocket-Version: 13\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n";

fn switched(case: Case) -> Case {
    case.script(SWITCHED, Then::Echo)
}

cases! {
    a_websocket: switched(get(WEBSOCKET)).then(Step::Answers(1)).send("ping").passes().kept("upgrade", "websocket")
        .tunnels("ping");
    a_websocket_in_other_case: switched(get(&WEBSOCKET.replace("Upgrade\r", "keep-alive, UPGRADE\r").replace("websocket", "WebSocket")))
        .then(Step::Answers(1)).send("ping").passes().tunnels("ping");
    a_websocket_that_is_declined: get(WEBSOCKET).script("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", Then::Keep)
        .passes().tunnels("").gets(200, "no").end(End::Any);
    a_tunnel_is_not_parsed: switched(get(WEBSOCKET)).then(Step::Answers(1)).send("GET /x HTTP/1.1\r\n\r\n")
        .passes().tunnels("GET /x HTTP/1.1\r\n\r\n");
    an_upgrade_with_a_length: post(&format!("{WEBSOCKET}Content-Length: 5\r\n"), "hello").refused();
    an_upgrade_with_chunks: post(&format!("{WEBSOCKET}Transfer-Encoding: chunked\r\n"), "5\r\nhello\r\n0\r\n\r\n")
        .refused();
    an_upgrade_with_a_length_of_zero: switched(get(&format!("{WEBSOCKET}Content-Length: 0\r\n")))
        .passes().tunnels("").or_refused();
    an_upgrade_nobody_nominated: get("Upgrade: websocket\r\n").passes().gone("upgrade");
    a_nomination_without_upgrade: get("Connection: upgrade\r\n").passes().gone("upgrade");
    an_upgrade_to_h2c: get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n")
        .passes().gone("upgrade").gone("http2-settings").or_refused();
    an_upgrade_to_h2c_in_a_list: get("Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n").passes().gone("upgrade")
        .or_refused();
    an_upgrade_to_h2c_in_capitals: get("Connection: Upgrade\r\nUpgrade: H2C\r\n").passes().gone("upgrade").or_refused();
    an_upgrade_to_h2c_in_a_second_field: get("Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n").passes()
        .or_refused();
    an_upgrade_in_http_1_0: sends(format!("GET / HTTP/1.0\r\nHost: shop.test\r\n{WEBSOCKET}\r\n"))
        .passes().gone("upgrade").closes();
    an_upgrade_that_is_no_token: get("Connection: Upgrade\r\nUpgrade: a b\r\n").passes().gone("upgrade").or_refused();
    a_request_behind_an_upgrade_that_is_declined: get(WEBSOCKET)
        .send("GET /two HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: evil\r\n\r\n")
        .script("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", Then::Keep)
        .passes().tunnels("").gets(200, "no").passes().line("GET /two HTTP/1.1").end(End::Any);
    a_101_nobody_asked_for: get("").script(SWITCHED, Then::Echo).passes().fails();
    a_101_to_another_protocol: get(WEBSOCKET)
        .script("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: evil\r\n\r\n", Then::Close)
        .passes().tunnels("").declined();
    a_101_without_upgrade: get(WEBSOCKET).script("HTTP/1.1 101 Switching Protocols\r\n\r\n", Then::Close).passes()
        .tunnels("").declined();
}
