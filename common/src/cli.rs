//! Flags from the settings table, and the settings that every binary has.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, ValueParser};
use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgAction, Command};

use crate::Build;
use crate::config::{App, ConfigError, FromSetting, Kind, Layers, Setting, Settings, nearest};
use crate::telemetry::{LogFormat, LogLevel};

/// The outcome of reading the command line.
#[derive(Debug)]
pub enum Parsed {
    /// Run with these settings.
    Run(Box<Invocation>),
    /// Everything is said (help, version, a refused flag); leave with this status.
    Exit(ExitCode),
}

/// A command line that was understood.
#[derive(Debug)]
pub struct Invocation {
    /// The winning values of all layers.
    pub settings: Settings,
    /// Positional words, where the command takes any.
    pub words: Vec<String>,
    /// `--check-config`: say whether the configuration is good, and leave.
    pub check_config: bool,
    /// `--log-format`.
    pub log_format: LogFormat,
    /// `--log-level`.
    pub log_level: LogLevel,
}

/// Which of the flags that every binary has a command gets; a drop-in's own flags come first.
#[derive(Debug, Clone, Copy)]
pub struct Shared {
    /// `--config FILE`.
    pub config: bool,
    /// `--check-config`.
    pub check_config: bool,
    /// Names of the level and format flags.
    pub log: (&'static str, &'static str),
    /// Name and count limit of positional words; no words are taken when `None`.
    pub words: Option<(&'static str, usize)>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { config: true, check_config: true, log: ("log-level", "log-format"), words: None }
    }
}

/// Status for a wrong flag or configuration.
pub const USAGE: u8 = 2;

/// How much the help says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Help {
    /// `-h`: what there is.
    Short,
    /// `--help`: variables and examples too.
    Whole,
}

/// Makes the clap command of an app. [`parse`] uses it; `--man` pages and completions may too.
#[must_use]
pub fn command(build: &Build, app: &'static App, shared: Shared) -> Command {
    command_with(build, app, shared, Help::Whole)
}

fn command_with(build: &Build, app: &'static App, shared: Shared, extent: Help) -> Command {
    let env = |variable: String| match extent {
        Help::Short => String::new(),
        Help::Whole => format!(" [env: {variable}]"),
    };
    let more = format!("`{} --help` says more: defaults, variables, examples.", app.name);
    let version = format!("{} ({})", build.version, build.revision);
    let mut command = Command::new(app.name)
        .bin_name(app.name)
        .about(app.about)
        .version(version)
        .after_help(if extent == Help::Short { more } else { app.after_help.to_owned() })
        .disable_help_subcommand(true)
        .args_override_self(true)
        .max_term_width(100);
    for setting in app.settings.iter().filter(|setting| !setting.secret) {
        command = command.arg(argument(setting, help_of(app, setting, extent)));
        if setting.negatable {
            let help = format!("Same as --{}=false", setting.name);
            let no = Arg::new(format!("no-{}", setting.name)).long(format!("no-{}", setting.name)).help(help);
            command = command.arg(no.action(ArgAction::SetTrue).hide(true));
        }
    }
    if let Some((name, limit)) = shared.words {
        // The usage line says all there is to say of them.
        let words = Arg::new("words").num_args(0..=limit).action(ArgAction::Append).hide(true);
        command = command.arg(words).override_usage(format!("{} [OPTIONS] [{name}]...", app.name));
    }
    let heading = "Common options";
    if shared.config {
        let variable = env(format!("{}_CONFIG", app.env_prefix));
        let help = format!("YAML file with the same keys as the flags{variable}");
        command = command
            .arg(Arg::new("config").long("config").value_name("FILE").help(help).help_heading(heading));
    }
    if shared.check_config {
        let help = "Say whether the configuration is good, and leave; status 0 when it is";
        let check = Arg::new("check-config").long("check-config").action(ArgAction::SetTrue);
        command = command.arg(check.help(help).help_heading(heading));
    }
    let (level, format) = shared.log;
    let level = Arg::new("log-level").long(level).value_name("LEVEL").help_heading(heading);
    let format = Arg::new("log-format").long(format).value_name("FORMAT").help_heading(heading);
    let level_help = "error, warn, info, debug, trace, or a filter such as info,hyper=warn [default: info]";
    let format_help = "auto (human on a terminal, JSON otherwise), human, json [default: auto]";
    command
        .arg(level.help(format!("{level_help}{}", env(log_variable(app, "LEVEL")))))
        .arg(format.help(format!("{format_help}{}", env(log_variable(app, "FORMAT")))))
}

/// As much of a text as fits into a line beside a flag, and ends where a reader would pause; `…` for the rest.
fn beginning(text: &str) -> String {
    const FITS: usize = 52;
    if text.len() <= FITS {
        return text.to_owned();
    }
    let outside = |at: usize| text[..at].matches('(').count() == text[..at].matches(')').count();
    let pauses = ["; ", ": ", " (", " ["].into_iter().flat_map(|pause| text.match_indices(pause));
    let pauses: Vec<usize> = pauses.map(|(at, _)| at).filter(|at| outside(*at)).collect();
    let best = pauses.iter().filter(|at| **at <= FITS).max().or(pauses.iter().min());
    best.map_or(text.to_owned(), |at| format!("{}…", &text[..*at]))
}

/// What is said of a setting; in the short help no more than fits into a line.
fn help_of(app: &App, setting: &Setting, extent: Help) -> String {
    if extent == Help::Short {
        return beginning(setting.help);
    }
    let default = setting.default.filter(|text| !text.is_empty() && *text != "false");
    let default = default.map(|text| format!(" [default: {text}]")).unwrap_or_default();
    let env = match setting.only_extra_env {
        true => String::new(),
        false => format!(" [env: {}]", app.env_name(setting)),
    };
    format!("{}{default}{env}", setting.help)
}

fn argument(setting: &'static Setting, help: String) -> Arg {
    let mut arg = Arg::new(setting.name)
        .long(setting.name)
        .help(help)
        .help_heading(setting.group)
        .hide(setting.hidden)
        .value_name(setting.value_name)
        .allow_hyphen_values(true);
    if let Some(letter) = setting.short {
        arg = arg.short(letter);
    }
    match setting.kind {
        Kind::Text => arg.num_args(1).value_parser(ValueParser::string()),
        Kind::List => arg.num_args(1).action(ArgAction::Append).value_parser(ValueParser::string()),
        Kind::Bool => {
            let spellings = ["1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"];
            arg.num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .hide_possible_values(true)
                .value_parser(PossibleValuesParser::new(spellings))
        }
    }
}

/// Reads defaults, the file named by `--config` or `PREFIX_CONFIG`, the environment, and `arguments`
/// (the first of which is the command's name), and says to standard output or error what must be said.
pub fn parse(
    build: &Build,
    app: &'static App,
    shared: Shared,
    arguments: impl IntoIterator<Item = OsString>,
) -> Parsed {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let extent = if arguments.iter().any(|word| word == "-h") { Help::Short } else { Help::Whole };
    let command = command_with(build, app, shared, extent);
    let matches = match command.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return refuse(app, &error),
    };
    match invocation(app, shared, &matches) {
        Ok(invocation) => Parsed::Run(Box::new(invocation)),
        Err(error) => Parsed::Exit(refuse_config(app, &error)),
    }
}

/// Prints a configuration error the way a wrong flag is printed; the exit status is [`USAGE`].
pub fn refuse_config(app: &App, error: &ConfigError) -> ExitCode {
    eprintln!("{}: error: {error}\nTry `{} --help`.", app.name, app.name);
    ExitCode::from(USAGE)
}

fn refuse(app: &'static App, error: &clap::Error) -> Parsed {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return Parsed::Exit(ExitCode::SUCCESS);
    }
    let flag = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    if error.kind() == ErrorKind::UnknownArgument {
        let bare = flag.trim_start_matches('-');
        let known = app.settings.iter().filter(|setting| !setting.hidden).map(|setting| setting.name);
        let known = known.chain(["config", "check-config", "log-level", "log-format", "help", "version"]);
        let hint = nearest(bare, known).map(|name| format!(", did you mean `--{name}`?")).unwrap_or_default();
        eprintln!("{}: error: unknown flag `{flag}`{hint}\nTry `{} --help`.", app.name, app.name);
    } else {
        eprint!("{}", error.render());
    }
    Parsed::Exit(ExitCode::from(USAGE))
}

fn invocation(
    app: &'static App,
    shared: Shared,
    matches: &clap::ArgMatches,
) -> Result<Invocation, ConfigError> {
    let mut layers = Layers::new(app);
    if shared.config {
        let variable = || std::env::var_os(format!("{}_CONFIG", app.env_prefix)).map(PathBuf::from);
        if let Some(path) = matches.get_one::<String>("config").map(PathBuf::from).or_else(variable) {
            layers.file(&path)?;
        }
    }
    layers.process_environment();
    for (name, _) in std::env::vars_os() {
        let Some((name, meant)) = name.to_str().and_then(|name| Some((name, app.meant_variable(name)?)))
        else {
            continue;
        };
        eprintln!("{}: warning: nothing is called {name}, did you mean {meant}?", app.name);
    }
    for setting in app.settings.iter().filter(|setting| !setting.secret) {
        if let Some(values) = matches.get_many::<String>(setting.name) {
            layers.flag(setting.name, values.cloned().collect())?;
        }
        if setting.negatable && matches.get_flag(&format!("no-{}", setting.name)) {
            layers.flag(setting.name, vec!["false".to_owned()])?;
        }
    }
    let log_level = log_value(app, matches, "log-level", shared.log.0)?.unwrap_or_default();
    let log_format = log_value(app, matches, "log-format", shared.log.1)?.unwrap_or_default();
    let words = match shared.words {
        Some(_) => matches.get_many::<String>("words").unwrap_or_default().cloned().collect(),
        None => Vec::new(),
    };
    let check_config = shared.check_config && matches.get_flag("check-config");
    Ok(Invocation { settings: layers.finish(), words, check_config, log_format, log_level })
}

fn log_variable(app: &App, what: &str) -> String {
    format!("{}_LOG_{what}", app.env_prefix)
}

/// The flag `id` (spelled `flag` by this command), or its variable.
fn log_value<T: FromSetting>(
    app: &App,
    matches: &clap::ArgMatches,
    id: &str,
    flag: &str,
) -> Result<Option<T>, ConfigError> {
    let variable = log_variable(app, if id == "log-level" { "LEVEL" } else { "FORMAT" });
    let (text, place) = match matches.get_one::<String>(id) {
        Some(text) => (text.clone(), format!("--{flag}")),
        None => match std::env::var(&variable) {
            Ok(text) if !text.is_empty() => (text, format!("environment variable {variable}")),
            _ => return Ok(None),
        },
    };
    T::from_setting(&text).map(Some).map_err(|reason| ConfigError::Value { place, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: App = App {
        after_help: "Examples:\n  tool --peer a",
        settings: &[Setting::text(
            "peer",
            "HOST",
            "Whom to ask (a name, an address), once for each; it must answer",
        )
        .default("b")
        .group("Peers")],
        ..App::new("tool", "TOOL", "Does things")
    };

    #[test]
    fn short_help_leaves_out_variables_and_examples() {
        let build = Build { name: "tool", version: "1", revision: "r" };
        let help = |extent| command_with(&build, &APP, Shared::default(), extent).render_help().to_string();
        let (short, whole) = (help(Help::Short), help(Help::Whole));
        for text in
            ["Peers:", "--peer <HOST>", "Whom to ask (a name, an address), once for each", "--check-config"]
        {
            assert!(short.contains(text) && whole.contains(text), "{text}: {short}\n{whole}");
        }
        for text in ["it must answer [default: b]", "TOOL_PEER", "TOOL_CONFIG", "TOOL_LOG_LEVEL", "Examples:"]
        {
            assert!(!short.contains(text) && whole.contains(text), "{text}: {short}\n{whole}");
        }
        assert!(short.contains("`tool --help` says more"), "{short}");
    }
}
