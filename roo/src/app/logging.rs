//! Where log lines go: standard output, as text on a terminal, else as JSON. `ROO_LOG` sets what is told.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts logging at `default`, unless `ROO_LOG` says otherwise (`debug`, `roo_kv=debug,warn`).
pub(super) fn start(default: &str) {
    let given = std::env::var("ROO_LOG").ok().filter(|text| !text.is_empty());
    // openraft tells at these levels what roo-kv tells again in its own words. What is given later wins.
    let text = format!("openraft=error,{}", given.as_deref().unwrap_or(default));
    let filter = EnvFilter::try_new(&text).unwrap_or_else(|_| {
        eprintln!("roo: ROO_LOG: `{text}` is no filter; write for example info or roo_kv=debug,info");
        EnvFilter::new(default)
    });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_target(true);
    if std::io::stdout().is_terminal() {
        builder.init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
