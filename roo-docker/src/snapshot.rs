//! What was seen of the swarm at one moment.

use std::{collections::BTreeSet, net::IpAddr};

use serde::Serialize;

/// Everything known about the swarm's services at one moment. Immutable: a new one replaces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// How the watch itself is doing. Only under [`State::Watching`] do `services` say what exists now;
    /// under any other state they are what was last seen, so nothing may be taken down because of them.
    pub state: State,
    /// All services of the swarm, those without routes too, sorted by name.
    pub services: Vec<Service>,
    /// What is wrong with labels, sorted by service and label. Empty when all is well.
    pub problems: Vec<Problem>,
    /// When `services` were last read completely, in Unix milliseconds; `None` before the first time.
    pub synced_at: Option<u64>,
    /// The services whose tasks were read, in lower case: of others nothing is said about who runs.
    #[serde(skip)]
    pub tasks_of: BTreeSet<String>,
    /// Why the tasks of services can't be read, if they can't; they are then what was read last.
    pub tasks_error: Option<String>,
}

/// How the watch is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// Nothing was heard from the engine yet. Leads to any other state.
    Connecting,
    /// The engine answers but does not manage a swarm; asked again slowly, for it may be promoted.
    NotManager {
        /// What the engine said, or what to do.
        message: String,
    },
    /// Services are current: a change is seen within about 100 ms of the engine's event.
    Watching,
    /// The engine does not answer, or answers what can't be read; retried with growing pauses.
    Unreachable {
        /// What went wrong and where to look.
        error: String,
    },
}

/// One Swarm service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// The engine's id.
    pub id: String,
    /// The full name, for a stack `stack_service`.
    pub name: String,
    /// What its labels ask for, sorted by origin; no origin occurs twice in a snapshot.
    pub routes: Vec<LabelRoute>,
    /// The network that labels want its tasks to be reached in; `None`: any that we are in.
    pub network: Option<String>,
    /// Where it listens, as far as that is known.
    pub port: Option<u16>,
    /// Those that run and can be reached, by id. Empty for a service that nobody leads requests to.
    pub tasks: Vec<Task>,
}

/// One running task of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Task {
    /// The engine's id.
    pub id: String,
    /// Where it is in a network that we are in, too.
    pub address: IpAddr,
    /// What becomes of it.
    pub state: TaskState,
}

/// What becomes of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// It runs, and is healthy if it can tell. Next: `Stopping`, or gone.
    Running,
    /// It ends, now or soon, and never runs again. Next: gone.
    Stopping,
}

/// A route as labels ask for it. Whether its parts are ones that can be served is for the receiver to judge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct LabelRoute {
    /// The host that clients ask for: lower case, no trailing dot, `*.` in front for a wildcard.
    pub host: String,
    /// The port that clients ask for; `None` when it is the scheme's own (443 for https, 80 for http).
    pub port: Option<u16>,
    /// `https` or `http`, as clients speak to Roo.
    pub scheme: String,
    /// Where requests go, at least one.
    pub to: Vec<Target>,
    /// What else labels say about the route.
    pub settings: Vec<Setting>,
    /// The label that asks for the origin.
    pub label: String,
    /// The label that names the destinations; that of the origin where none does.
    pub to_label: String,
}

/// One destination of a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Target {
    /// A URL such as `http://test_test:80`, host as the label has it.
    pub url: String,
    /// Its share of the requests beside those of the others.
    pub weight: Option<u64>,
}

/// One field of a route's document that a label sets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Setting {
    /// The label.
    pub label: String,
    /// The field's name, a dot between an object and its member: `balance`, `tls.server_name`.
    pub field: String,
    /// What to put there.
    pub value: SettingValue,
}

/// A value as a document has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
pub enum SettingValue {
    /// True or false.
    Flag(bool),
    /// A whole number.
    Number(u64),
    /// Text.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
}

/// A label that can't be followed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The service's full name.
    pub service: String,
    /// The label's name.
    pub label: String,
    /// What is wrong, with the value, and how to mend it.
    pub message: String,
    /// Whether routes are missing because of it.
    pub severity: Severity,
}

/// How much a problem matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A route that was asked for does not come into being.
    Error,
    /// The routes are there, perhaps not as they were meant.
    Warning,
}

impl Snapshot {
    /// The snapshot before anything was heard.
    pub(crate) fn connecting() -> Self {
        Self {
            state: State::Connecting,
            services: Vec::new(),
            problems: Vec::new(),
            synced_at: None,
            tasks_of: BTreeSet::new(),
            tasks_error: None,
        }
    }

    /// The same services seen in another state.
    pub(crate) fn in_state(&self, state: State) -> Self {
        Self { state, ..self.clone() }
    }

    /// All routes of all services.
    pub fn routes(&self) -> impl Iterator<Item = (&Service, &LabelRoute)> {
        self.services.iter().flat_map(|service| service.routes.iter().map(move |route| (service, route)))
    }
}
