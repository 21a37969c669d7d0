//! The flags of the daemon, made from the table of settings.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::SETTINGS;

/// What was given on the command line, by the name of the setting.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    pub(crate) given: BTreeMap<String, String>,
}

/// The original's only argument: the path of its configuration file.
const POSITIONAL: &str = "config-path";

impl Args for Flags {
    fn augment_args(mut command: Command) -> Command {
        for setting in SETTINGS {
            let env = if setting.secret {
                format!(" [env: {0}, {0}_FILE]", setting.env())
            } else {
                format!(" [env: {}]", setting.env())
            };
            let mut arg = Arg::new(setting.name)
                .long(setting.name)
                .value_name(setting.value)
                .help(format!("{}{env}", setting.help))
                .action(ArgAction::Set);
            if setting.switch {
                arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
            }
            command = command.arg(arg);
        }
        command.arg(
            Arg::new(POSITIONAL).value_name("CONFIG").help("Configuration file, as --config").conflicts_with("config"),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in SETTINGS {
            if let Some(text) = matches.get_one::<String>(setting.name) {
                self.given.insert(setting.name.to_owned(), text.clone());
            }
        }
        if let Some(path) = matches.get_one::<String>(POSITIONAL) {
            self.given.insert("config".to_owned(), path.clone());
        }
        Ok(())
    }
}
