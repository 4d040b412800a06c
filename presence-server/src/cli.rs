//! The command line.

pub(crate) mod cluster;
pub(crate) mod value;

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Args, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};
use presence_server::app::Tokens;
use presence_server::node::Config;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use self::cluster::Cluster;
use self::value::{Bytes, SomeTime, Time, count, port, yes_or_no};

#[derive(Debug, Parser)]
#[command(
    name = "presence-server",
    version,
    max_term_width = 100,
    about = "\
Tells phoenix.js clients who is online, live.

Without options it serves the guide of Phoenix Presence: open http://localhost:4000/?name=Alice in a \
few tabs. Each option has a variable of the environment, too; what the command line says wins.",
    after_help = "\
Times are written 500ms, 30s, 5m, 12h or 14d; sizes 512, 64KiB, 8MiB or 1GiB. A bare number is \
seconds, for MS milliseconds, for SIZE bytes.
SIGTERM or ctrl-c stops the server in good order, a second one at once.
Exit code: 0 after a stop, 2 if it cannot start."
)]
pub(crate) struct Cli {
    /// The address to listen on, or a name for it
    #[arg(long, env = "PRESENCE_HOST", default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// The port to listen on; 0 takes a free one
    #[arg(long, env = "PRESENCE_PORT", default_value_t = 4000, value_parser = port)]
    pub(crate) port: u16,
    /// What to serve: the guide's page and room (guide), or the tests' application (conformance)
    #[arg(long, env = "PRESENCE_APP", value_enum, default_value_t = App::Guide, hide_possible_values = true)]
    pub(crate) app: App,
    /// What to log: off, error, warn, info, debug or trace, or TARGET=LEVEL,…
    #[arg(long, env = "PRESENCE_LOG", value_name = "FILTER", default_value = "warn", value_parser = log_filter)]
    pub(crate) log: String,
    /// How to log: as text, or as one JSON object a line (json)
    #[arg(long, env = "PRESENCE_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text, hide_possible_values = true)]
    pub(crate) log_format: LogFormat,
    #[command(flatten)]
    pub(crate) sign_in: SignIn,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    polling: Polling,
    #[command(flatten)]
    stopping: Stopping,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum App {
    Guide,
    Conformance,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sign-in to the guide")]
pub(crate) struct SignIn {
    /// Let in only who has signed in, and list people by their token
    #[arg(long, env = "PRESENCE_AUTH", value_parser = yes_or_no)]
    pub(crate) auth: bool,
    /// The secret that tokens are signed with, at least 20 bytes; without one they end with the
    /// process
    #[arg(
        long,
        env = "PRESENCE_SECRET_KEY_BASE",
        value_name = "SECRET",
        conflicts_with = "secret_key_base_file"
    )]
    pub(crate) secret_key_base: Option<String>,
    /// A file that holds the secret; space around it is not part of it
    #[arg(long, env = "PRESENCE_SECRET_KEY_BASE_FILE", value_name = "FILE")]
    pub(crate) secret_key_base_file: Option<PathBuf>,
    /// How long a token is good for
    #[arg(long, env = "PRESENCE_TOKEN_MAX_AGE", value_name = "TIME", default_value_t = SomeTime(Tokens::MAX_AGE))]
    pub(crate) token_max_age: SomeTime,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct Limits {
    /// Connections at once, WebSockets among them; one more is refused
    #[arg(long, env = "PRESENCE_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = Config::default().max_connections, value_parser = count(usize::MAX))]
    max_connections: usize,
    /// The largest frame that a client may send
    #[arg(long, env = "PRESENCE_MAX_FRAME", value_name = "SIZE", default_value_t = Bytes(Config::default().wire.max_frame_bytes))]
    max_frame: Bytes,
    /// How much may wait for one socket before its client counts as too slow and is closed
    #[arg(long, env = "PRESENCE_MAX_SOCKET_QUEUE", value_name = "SIZE", default_value_t = Bytes(Config::default().socket_queue_bytes))]
    max_socket_queue: Bytes,
    /// Channels that one socket may join at once
    #[arg(long, env = "PRESENCE_MAX_CHANNELS", value_name = "COUNT", default_value_t = Config::default().channels.max_channels, value_parser = count(usize::MAX))]
    max_channels: usize,
    /// The longest name of a topic
    #[arg(long, env = "PRESENCE_MAX_TOPIC", value_name = "SIZE", default_value_t = Bytes(Config::default().wire.max_topic_bytes))]
    max_topic: Bytes,
    /// The longest key of a presence, at most 32767
    #[arg(long, env = "PRESENCE_MAX_KEY", value_name = "SIZE", default_value_t = Bytes(Config::default().tracker.limits.key_bytes), value_parser = key_bytes)]
    max_key: Bytes,
    /// The largest meta of a presence
    #[arg(long, env = "PRESENCE_MAX_META", value_name = "SIZE", default_value_t = Bytes(Config::default().tracker.limits.meta_bytes))]
    max_meta: Bytes,
    /// Presences at once, in all topics together
    #[arg(long, env = "PRESENCE_MAX_PRESENCES", value_name = "COUNT", default_value_t = Config::default().tracker.limits.entries, value_parser = count(Config::default().tracker.limits.entries))]
    max_presences: usize,
    /// How long a WebSocket may be silent before it is closed
    #[arg(long, env = "PRESENCE_IDLE_TIMEOUT", value_name = "TIME", default_value_t = SomeTime(Config::default().idle_timeout))]
    idle_timeout: SomeTime,
    /// How long a client may take nothing of what is sent to it before its connection is closed
    #[arg(long, env = "PRESENCE_SEND_TIMEOUT", value_name = "TIME", default_value_t = SomeTime(Config::default().send_timeout))]
    send_timeout: SomeTime,
    /// How long the head of a connection's next request may take, and then its body
    #[arg(long, env = "PRESENCE_REQUEST_TIMEOUT", value_name = "TIME", default_value_t = SomeTime(Config::default().request_timeout))]
    request_timeout: SomeTime,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Long polling")]
struct Polling {
    /// How long a poll waits for messages; without this 10s, with --app conformance 1s
    #[arg(long, env = "PRESENCE_POLL_WINDOW", value_name = "TIME")]
    poll_window: Option<SomeTime>,
    /// Sessions at once; one more is refused
    #[arg(long, env = "PRESENCE_MAX_POLL_SESSIONS", value_name = "COUNT", default_value_t = Config::default().poll_sessions, value_parser = count(usize::MAX))]
    max_poll_sessions: usize,
    /// How much may wait for the next poll of one session before it is closed
    #[arg(long, env = "PRESENCE_MAX_POLL_QUEUE", value_name = "SIZE", default_value_t = Bytes(Config::default().poll_queue_bytes))]
    max_poll_queue: Bytes,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Stopping")]
struct Stopping {
    /// Sockets that are closed at once when the server stops, so that they connect again
    #[arg(long, env = "PRESENCE_DRAIN_BATCH", value_name = "COUNT", default_value_t = Config::default().drain_batch, value_parser = count(usize::MAX))]
    drain_batch: usize,
    /// The pause before as many more are
    #[arg(long, env = "PRESENCE_DRAIN_PAUSE", value_name = "TIME", default_value_t = Time(Config::default().drain_pause))]
    drain_pause: Time,
    /// How long the server waits for what is open before it exits in any case
    #[arg(long, env = "PRESENCE_SHUTDOWN_TIMEOUT", value_name = "TIME", default_value_t = Time(Config::default().shutdown_timeout))]
    shutdown_timeout: Time,
}

impl Cli {
    /// Reads the arguments and the environment.
    ///
    /// # Errors
    ///
    /// That of clap, which is also how it asks to print its help.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let mut command = Self::command().mut_args(tell_variable);
        let matches = command.try_get_matches_from_mut(std::env::args_os());
        matches
            .and_then(|matches| Self::from_arg_matches(&matches))
            .map_err(|error| name_variable(error, &command))
    }

    /// The settings of the node.
    pub(crate) fn config(&self) -> Config {
        let mut config = Config::default();
        self.cluster.configure(&mut config);
        let Limits {
            max_connections,
            max_frame: Bytes(max_frame),
            max_socket_queue: Bytes(max_socket_queue),
            max_channels,
            max_topic: Bytes(max_topic),
            max_key: Bytes(max_key),
            max_meta: Bytes(max_meta),
            max_presences,
            idle_timeout: SomeTime(idle_timeout),
            send_timeout: SomeTime(send_timeout),
            request_timeout: SomeTime(request_timeout),
        } = self.limits;
        config.max_connections = max_connections;
        config.wire.max_frame_bytes = max_frame;
        config.wire.max_topic_bytes = max_topic;
        config.socket_queue_bytes = max_socket_queue;
        config.channels.max_channels = max_channels;
        config.tracker.limits.topic_bytes = max_topic;
        config.tracker.limits.key_bytes = max_key;
        config.tracker.limits.meta_bytes = max_meta;
        config.tracker.limits.entries = max_presences;
        config.idle_timeout = idle_timeout;
        config.send_timeout = send_timeout;
        config.request_timeout = request_timeout;

        config.poll_sessions = self.polling.max_poll_sessions;
        config.poll_queue_bytes = self.polling.max_poll_queue.0;
        config.poll_window = match (self.polling.poll_window, self.app) {
            (Some(SomeTime(window)), _) => window,
            (None, App::Guide) => config.poll_window,
            (None, App::Conformance) => std::time::Duration::from_secs(1),
        };

        config.drain_batch = self.stopping.drain_batch;
        config.drain_pause = self.stopping.drain_pause.0;
        config.shutdown_timeout = self.stopping.shutdown_timeout.0;
        config
    }
}

/// Gives the variable and the default of a flag a line of their own in the help. (clap would show
/// the variable's value beside it, which may be a secret.)
fn tell_variable(arg: Arg) -> Arg {
    let (Some(help), Some(variable)) = (arg.get_help(), arg.get_env()) else {
        return arg;
    };
    let variable = variable.to_string_lossy();
    let defaults = arg.get_default_values().iter();
    let default: String = defaults
        .map(|value| format!(", default {}", value.to_string_lossy()))
        .collect();
    let help = format!("{help}\n[{variable}{default}]");
    let arg = arg.help(help).hide_env(true);
    if default.is_empty() {
        return arg;
    }
    arg.hide_default_value(true)
}

/// Says which variable a bad value came from, which clap does not.
fn name_variable(mut error: clap::Error, command: &clap::Command) -> clap::Error {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let arg = command
        .get_arguments()
        .find(|arg| arg.to_string() == *shown);
    let (Some(long), Some(variable)) = (
        arg.and_then(Arg::get_long),
        arg.and_then(Arg::get_env).and_then(OsStr::to_str),
    ) else {
        return error;
    };
    let flag = format!("--{long}");
    let on_command_line = std::env::args_os().any(|arg| {
        let arg = arg.to_string_lossy();
        arg.strip_prefix(&flag)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    if !on_command_line {
        let variable = ContextValue::String(variable.to_owned());
        error.insert(ContextKind::InvalidArg, variable);
    }
    error
}

fn key_bytes(text: &str) -> Result<Bytes, String> {
    let most = Config::default().tracker.limits.key_bytes;
    match text.parse()? {
        Bytes(bytes) if bytes > most => Err(format!("a key has at most {most} bytes")),
        bytes => Ok(bytes),
    }
}

/// Reads a log filter. A single word that is no level would be taken for the name of a crate, and
/// nothing be logged.
fn log_filter(text: &str) -> Result<String, String> {
    let is_word = |part: &&str| part.chars().all(|c| c.is_alphanumeric() || c == '-');
    let words = text.split(',').map(str::trim).filter(is_word);
    for word in words {
        if word.parse::<LevelFilter>().is_err() {
            return Err(format!(
                "{word:?} is no level: off, error, warn, info, debug or trace"
            ));
        }
    }
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Cli {
        let args = [&["presence-server"], args].concat();
        Cli::try_parse_from(args).unwrap()
    }

    #[test]
    fn the_command_is_sound() {
        Cli::command().mut_args(tell_variable).debug_assert();
    }

    #[test]
    fn without_flags_the_node_has_its_own_defaults_but_for_topics() {
        let mut expected = Config::default();
        // What the wire lets through is all that there can be.
        expected.tracker.limits.topic_bytes = expected.wire.max_topic_bytes;
        assert_eq!(
            format!("{:?}", parsed(&[]).config()),
            format!("{expected:?}")
        );
    }

    #[test]
    fn flags_set_what_they_name() {
        let config = parsed(&[
            "--max-frame=64KiB",
            "--max-channels=3",
            "--max-presences=5",
            "--idle-timeout=90s",
            "--send-timeout=7s",
            "--poll-window=500ms",
            "--drain-pause=0",
            "--shutdown-timeout=1m",
        ])
        .config();
        assert_eq!(config.wire.max_frame_bytes, 65_536);
        assert_eq!(config.channels.max_channels, 3);
        assert_eq!(config.tracker.limits.entries, 5);
        assert_eq!(config.idle_timeout.as_secs(), 90);
        assert_eq!(config.send_timeout.as_secs(), 7);
        assert_eq!(config.poll_window.as_millis(), 500);
        assert_eq!(config.drain_pause.as_secs(), 0);
        assert_eq!(config.shutdown_timeout.as_secs(), 60);
    }

    #[test]
    fn the_conformance_application_polls_for_a_second_unless_told_otherwise() {
        let window = |args: &[&str]| parsed(args).config().poll_window.as_secs();
        assert_eq!(window(&["--app=conformance"]), 1);
        assert_eq!(window(&["--app=conformance", "--poll-window=7s"]), 7);
    }

    #[test]
    fn a_log_filter_is_levels_for_all_or_for_a_target() {
        assert!(log_filter("info").is_ok());
        assert!(log_filter("warn,presence_server=debug").is_ok());
        assert!(
            log_filter("loud")
                .unwrap_err()
                .starts_with("\"loud\" is no level")
        );
        assert!(log_filter("presence_server=loud").is_err());
    }
}
