//! The labels of one service that concern Roo, and what is found wrong with them.

use std::collections::BTreeMap;

use super::{
    Fault, key_form, native,
    origin::{HostPort, Scheme},
    original,
    settings::parse_flag,
};
use crate::snapshot::Problem;

/// Both levels of labels merged, only those that are Roo's or look as if they were meant to be.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    labels: BTreeMap<String, String>,
    faults: Vec<(String, Fault)>,
}

impl Sheet {
    /// Merges the two levels. The service's wins; a differing value and an unknown name are faults.
    pub(super) fn merge(service: &BTreeMap<String, String>, container: &BTreeMap<String, String>) -> Self {
        let mut sheet = Self::default();
        for (label, value) in service.iter().chain(container) {
            match sheet.labels.get(label) {
                _ if !is_ours(label) => {}
                None => {
                    sheet.labels.insert(label.clone(), value.clone());
                }
                Some(winner) if winner.trim() == value.trim() => {}
                Some(winner) => {
                    let fault = Fault::Differs { value: value.clone(), winner: winner.clone() };
                    sheet.fault(label, fault);
                }
            }
        }
        sheet.check_names();
        sheet
    }

    /// The trimmed value of a label. An empty one is a fault and counts as not set.
    pub(super) fn value(&mut self, label: &str) -> Option<String> {
        let value = self.labels.get(label)?.trim();
        if value.is_empty() {
            self.fault(label, Fault::Empty);
            return None;
        }
        Some(value.to_owned())
    }

    /// A label that must be there because another is.
    pub(super) fn required(&mut self, label: &str, because: &str, example: String) -> Option<String> {
        if !self.labels.contains_key(label) {
            let because = because.to_owned();
            self.fault(label, Fault::Missing { because, example });
        }
        self.value(label)
    }

    /// A label that must parse; what `parse` finds wrong is recorded.
    pub(super) fn parsed<T>(
        &mut self,
        label: &str,
        value: &str,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        parse(value).map_err(|fault| self.fault(label, fault)).ok()
    }

    /// The names of all labels that start with `prefix`.
    pub(super) fn names(&self, prefix: &str) -> Vec<String> {
        let starting = self.labels.keys().filter(|label| label.starts_with(prefix));
        starting.cloned().collect()
    }

    /// Whether any of these labels is set, and which first.
    pub(super) fn first_set<'a>(&self, labels: &[&'a str]) -> Option<&'a str> {
        labels.iter().copied().find(|label| self.labels.contains_key(*label))
    }

    /// A scheme label: its default when it is not set, `None` when it is wrong.
    pub(super) fn scheme(&mut self, label: &str, default: Scheme) -> Option<Scheme> {
        match self.value(label) {
            None => Some(default),
            Some(value) => self.parsed(label, &value, Scheme::parse),
        }
    }

    /// A comma list of hosts. One that is wrong does not disturb the others.
    pub(super) fn hosts(&mut self, label: &str, list: &str) -> Vec<HostPort> {
        let mut hosts = Vec::new();
        for value in list.split(',').map(str::trim).filter(|value| !value.is_empty()) {
            if hosts.len() == HOSTS_MAX {
                self.fault(label, Fault::TooManyHosts { max: HOSTS_MAX });
                break;
            }
            hosts.extend(self.parsed(label, value, HostPort::parse));
        }
        hosts
    }

    pub(super) fn fault(&mut self, label: impl Into<String>, fault: Fault) {
        self.faults.push((label.into(), fault));
    }

    /// Whether `roo.enable` takes the service out. A value that can't be read does: somebody wanted
    /// something other than the default.
    pub(super) fn off(&mut self) -> bool {
        let Some(value) = self.value(native::ENABLE) else {
            return false;
        };
        match parse_flag(&value) {
            Some(on) => !on,
            None => {
                self.fault(native::ENABLE, Fault::NotABoolean { value });
                true
            }
        }
    }

    /// All faults as problems of `service`, sorted.
    pub(super) fn problems(self, service: &str) -> Vec<Problem> {
        let problem = |(label, fault): (String, Fault)| fault.problem(service, label);
        let mut problems: Vec<Problem> = self.faults.into_iter().map(problem).collect();
        problems.sort();
        problems.dedup();
        problems
    }

    fn check_names(&mut self) {
        for label in self.names("") {
            if known(&label) || label.starts_with(key_form::PREFIX) {
                continue;
            }
            let reserved = native::general(&label).is_some_and(|label| native::UNSUPPORTED.contains(&label.as_str()));
            let fault = if reserved { Fault::Unsupported } else { unknown(&label) };
            self.fault(label, fault);
        }
    }
}

impl Fault {
    /// This fault of `label` as a problem of `service`.
    pub(crate) fn problem(&self, service: &str, label: String) -> Problem {
        Problem { service: service.to_owned(), message: format!("{label} {self}"), label, severity: self.severity() }
    }
}

/// Whether a label is Roo's, or a slip of the pen away from being so.
fn is_ours(label: &str) -> bool {
    let lower = label.to_ascii_lowercase();
    lower.starts_with("roo.")
        || lower.starts_with("com.roo.")
        || original::ALL.iter().any(|name| name.eq_ignore_ascii_case(label))
}

fn known(label: &str) -> bool {
    native::is_known(label) || original::ALL.contains(&label)
}

fn unknown(label: &str) -> Fault {
    let lower = label.to_ascii_lowercase();
    if lower.starts_with("com.roo.") {
        return Fault::UnknownNear { nearest: format!("{}<host>:<scheme>", key_form::PREFIX) };
    }
    if let Some((group, rest)) = native::split(&lower) {
        return match near(&rest) {
            Some(nearest) if native::is_of_a_route(nearest) => Fault::UnknownNear { nearest: group.label(nearest) },
            _ => Fault::Unknown { known: known_names() },
        };
    }
    if lower.starts_with(native::ROUTES) {
        return Fault::UnknownNear { nearest: format!("{}<name>.host", native::ROUTES) };
    }
    match near(&lower) {
        Some(nearest) => Fault::UnknownNear { nearest: nearest.to_owned() },
        None => Fault::Unknown { known: known_names() },
    }
}

/// The label that was most likely meant.
fn near(lower: &str) -> Option<&'static str> {
    let distance = |name: &str| strsim::damerau_levenshtein(lower, &name.to_ascii_lowercase());
    let nearest = native::names().chain(original::ALL).min_by_key(|name| distance(name))?;
    (distance(nearest) <= TYPOS_MAX).then_some(nearest)
}

fn known_names() -> String {
    native::names().chain(original::ALL).collect::<Vec<_>>().join(", ")
}

/// Far above what one service is asked by, far below what would weigh on the store.
const HOSTS_MAX: usize = 1000;

/// More slips than this and the nearest name is a guess of ours rather than the user's intent.
const TYPOS_MAX: usize = 3;
