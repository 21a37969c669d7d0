//! The labels of one service that concern Roo, and what is found wrong with them.

use std::collections::BTreeMap;

use super::{Fault, key_form, native, original};
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
    pub(super) fn first_set(&self, labels: &[&'static str]) -> Option<&'static str> {
        labels.iter().copied().find(|label| self.labels.contains_key(*label))
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
        match value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => false,
            "false" | "0" | "no" | "off" => true,
            _ => {
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
            let fault =
                if native::UNSUPPORTED.contains(&label.as_str()) { Fault::Unsupported } else { unknown(&label) };
            self.fault(label, fault);
        }
    }
}

impl Fault {
    /// This fault of `label` as a problem of `service`.
    pub(crate) fn problem(&self, service: &str, label: String) -> Problem {
        Problem { service: service.to_owned(), message: format!("{label} {self}"), label }
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
    native::ALL.contains(&label) || original::ALL.contains(&label)
}

fn unknown(label: &str) -> Fault {
    let names = || native::ALL.iter().chain(original::ALL.iter()).copied();
    let lower = label.to_ascii_lowercase();
    let distance = |name: &&str| strsim::damerau_levenshtein(&lower, &name.to_ascii_lowercase());
    match names().min_by_key(distance) {
        _ if lower.starts_with("com.roo.") => {
            Fault::UnknownNear { nearest: format!("{}<host>:<scheme>", key_form::PREFIX) }
        }
        Some(nearest) if distance(&nearest) <= TYPOS_MAX => Fault::UnknownNear { nearest: nearest.to_owned() },
        _ => Fault::Unknown { known: names().collect::<Vec<_>>().join(", ") },
    }
}

/// More slips than this and the nearest name is a guess of ours rather than the user's intent.
const TYPOS_MAX: usize = 3;
