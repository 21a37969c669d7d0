//! `roo route explain`: the answer of the API as a page for people.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::client::ClientArgs;
use super::{Failure, output};

/// Asks a node what would become of a request for `url`, and prints it.
pub(super) async fn run(client: &ClientArgs, url: &str) -> Result<(), Failure> {
    let url = utf8_percent_encode(url, NON_ALPHANUMERIC);
    let told: Value = client.json(&format!("/roo/v1/explain?url={url}")).await?;
    if client.json {
        output::json(&told);
        return Ok(());
    }
    output::table(&["WHAT", "SO"], &facts(&told));
    for (name, columns) in [("instances", &INSTANCES[..]), ("near", &NEAR)] {
        let Some(rows) = told[name].as_array().filter(|rows| !rows.is_empty()) else { continue };
        println!();
        let cells = |row: &Value| columns.iter().map(|(_, field)| output::cell(&row[field])).collect();
        let head: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
        output::table(&head, &rows.iter().map(cells).collect::<Vec<_>>());
    }
    Ok(())
}

const INSTANCES: [(&str, &str); 6] = [
    ("INSTANCE", "address"),
    ("DESTINATION", "destination"),
    ("PERCENT", "percent"),
    ("REQUESTS", "requests"),
    ("STATE", "state"),
    ("WHY", "why"),
];
const NEAR: [(&str, &str); 2] = [("NEAR", "origin"), ("WHY NOT", "why")];

/// What is not a list, one line each.
fn facts(told: &Value) -> Vec<Vec<String>> {
    let cell = |path: &str| told.pointer(path).map(output::cell).filter(|text| !text.is_empty());
    let with = |path: &str, words: &str| cell(path).map(|text| format!("{words}{text}")).unwrap_or_default();
    let line = |name: &str, text: Option<String>| text.map(|text| vec![name.to_owned(), text]);
    let certificate = || {
        let state = cell("/certificate/state")?;
        Some(match cell("/certificate/name") {
            Some(name) => {
                format!("{name}{}{}", with("/certificate/issuer", ", by "), with("/certificate/not_after", ", until "))
            }
            None => format!("{state}{}", with("/certificate/note", ": ")),
        })
    };
    let ejection = || {
        let failures = cell("/settings/ejection/failures")?;
        if failures == "0" {
            return Some("never".to_owned());
        }
        Some(format!(
            "after {failures} failures, for {} to {}, {} % at most",
            cell("/settings/ejection/backoff")?,
            cell("/settings/ejection/backoff_max")?,
            cell("/settings/ejection/percent_max")?
        ))
    };
    [
        line("url", cell("/url")),
        line("node", cell("/node")),
        line("outcome", cell("/outcome").map(|outcome| format!("{outcome}{}", with("/why", ": ")))),
        line("location", cell("/location")),
        line("route", cell("/route/origin").map(|origin| format!("{origin}{}", with("/route/rule", ", by ")))),
        line(
            "source",
            cell("/route/source").map(|source| format!("{source}{}", with("/route/revision", ", revision "))),
        ),
        line("key", cell("/route/key")),
        line("fault", cell("/route/error")),
        line("certificate", certificate()),
        line("balance", cell("/settings/balance")),
        line("connect", cell("/settings/connect_timeout").map(|time| format!("within {time}"))),
        line("response", cell("/settings/response_timeout").map(|time| format!("within {time}"))),
        line("ejection", ejection()),
    ]
    .into_iter()
    .flatten()
    .collect()
}
