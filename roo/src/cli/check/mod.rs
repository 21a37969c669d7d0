//! `roo check`: the labels of stack files, read as a node would read them. Asks nobody.

mod compose;
mod interpolate;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args as ClapArgs;
use roo_docker::{Description, Problem, Service, Severity};
use serde_json::json;

use super::Failure;
use super::output;
use crate::app::draw;

#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Stack files; of several that speak of the same service, the later one wins
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The stack's name, which begins the names of its services [default: the file's `name`, or none]
    #[arg(long, value_name = "NAME")]
    stack: Option<String>,
    /// Fail on warnings too
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the routes and the problems.
///
/// # Errors
/// If there are problems: any error, and with `--strict` any warning. A file that can't be read is a fault of usage.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let report = Report::of(args)?;
    if args.json {
        output::json(&report.json())
    } else {
        report.print()
    }
    let count = |severity| report.problems.iter().filter(|problem| problem.severity == severity).count();
    match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => Ok(()),
        (0, warnings) if !args.strict => {
            eprintln!("roo: {}", counted(warnings, "warning"));
            Ok(())
        }
        (errors, warnings) => {
            Err(Failure::Failed(format!("{}, {}", counted(errors, "error"), counted(warnings, "warning"))))
        }
    }
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What would come into being, and what not.
struct Report {
    services: Vec<Service>,
    problems: Vec<Problem>,
}

impl Report {
    fn of(args: &Args) -> Result<Self, Failure> {
        let mut problems = Vec::new();
        let mut declared: BTreeMap<String, Description> = BTreeMap::new();
        let mut stack = args.stack.clone();
        for path in &args.files {
            let file = path.display();
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::Usage(format!("can't read {file}: {error}; name a stack file")))?;
            let read = compose::read(&text, &|name| std::env::var(name).ok())
                .map_err(|fault| Failure::Failed(format!("{file} is no stack file: {fault}")))?;
            stack = stack.or(read.name);
            problems.extend(read.problems);
            for description in read.services {
                match declared.get_mut(&description.name) {
                    Some(earlier) => merge(earlier, description),
                    None => drop(declared.insert(description.name.clone(), description)),
                }
            }
        }
        let full = |name: &str| stack.as_ref().map_or_else(|| name.to_owned(), |stack| format!("{stack}_{name}"));
        for problem in &mut problems {
            problem.service = full(&problem.service);
        }
        let named = |description: Description| Description { name: full(&description.name), ..description };
        let (mut services, found) = roo_docker::settle(declared.into_values().map(named).collect());
        problems.extend(found);
        for service in &mut services {
            let name = service.name.clone();
            service.routes.retain(|route| match draw(&name, route) {
                Ok(_) => true,
                Err(faults) => {
                    let problem = |fault: crate::app::Refused| Problem {
                        service: name.clone(),
                        message: format!("{}: {}", fault.label, fault.message),
                        label: fault.label,
                        severity: Severity::Error,
                    };
                    problems.extend(faults.into_iter().map(problem));
                    false
                }
            });
        }
        problems.sort();
        problems.dedup();
        Ok(Self { services, problems })
    }

    fn json(&self) -> serde_json::Value {
        let services: Vec<&Service> = self.services.iter().filter(|service| !service.routes.is_empty()).collect();
        json!({ "services": services, "problems": self.problems })
    }

    fn print(&self) {
        let mut rows = Vec::new();
        for service in &self.services {
            for route in &service.routes {
                let to: Vec<&str> = route.to.iter().map(|target| target.url.as_str()).collect();
                rows.push(vec![route.origin(), to.join(" "), service.name.clone()]);
            }
        }
        output::table(&["ORIGIN", "TO", "SERVICE"], &rows);
        for Problem { service, message, severity, .. } in &self.problems {
            let severity = if *severity == Severity::Error { "error" } else { "warning" };
            eprintln!("{severity}: service {}: {}", output::printable(service), output::printable(message));
        }
    }
}

/// Puts a later file's word over an earlier one's.
fn merge(earlier: &mut Description, later: Description) {
    earlier.service_labels.extend(later.service_labels);
    earlier.container_labels.extend(later.container_labels);
    if !later.image.is_empty() {
        earlier.image = later.image;
    }
    earlier.ports.published.extend(later.ports.published);
    earlier.ports.published.sort_unstable();
    earlier.ports.published.dedup();
}
