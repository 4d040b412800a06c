//! Starts a presence server.

mod cli;

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use presence_core::token::KeyError;
use presence_server::app::{self, Tokens};
use presence_server::cluster::{self, Mesh};
use presence_server::env::{Environment, Listener, System};
use presence_server::journal::Files;
use presence_server::node::Node;
use presence_server::serve;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::cli::cluster::ClusterError;
use crate::cli::value::{SomeTime, secret_in};
use crate::cli::{App, Cli, LogFormat, SignIn};

/// The exit code of a server that could not start, as of a bad flag.
const NOT_STARTED: u8 = 2;

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the asynchronous runtime cannot start: {0}")]
    Runtime(io::Error),
    #[error("signals cannot be handled: {0}")]
    Signals(io::Error),
    #[error("the host {host:?} has no address: {error}")]
    Resolve { host: String, error: io::Error },
    #[error("cannot listen on {address}: {}", reason(.error, "--port takes another, and 0 a free one"))]
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
    #[error("the secret key base cannot be read from {}: {error}", .path.display())]
    SecretFile { path: PathBuf, error: io::Error },
    #[error("{0} (--secret-key-base or --secret-key-base-file)")]
    Secret(KeyError),
    #[error(transparent)]
    Node(#[from] presence_server::node::StartError),
    #[error("journals cannot be written to {}: {error}", .path.display())]
    Journal { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Secrets(#[from] ClusterError),
    #[error("{}", mesh_reason(.0))]
    Mesh(#[from] cluster::StartError),
    #[error("--auth is for --app guide: the conformance application has its own users")]
    AuthOfConformance,
}

fn mesh_reason(error: &cluster::StartError) -> String {
    match error {
        cluster::StartError::Bind { address, error } => {
            let reason = reason(error, "--cluster-bind takes another");
            format!("cannot await other nodes on {address}: {reason}")
        }
        error => error.to_string(),
    }
}

fn reason(error: &io::Error, other_port: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("the port is in use; {other_port}"),
        _ => error.to_string(),
    }
}

/// It gives memory back that the system's own allocator keeps after a rush: after 5,000 clients have
/// joined one room that is a fifth.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        // Prints the reason and exits with 2, or the help with 0.
        Err(error) => error.exit(),
    };
    let started = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ended = started.map_err(StartError::Runtime).and_then(|runtime| {
        let ended = runtime.block_on(run(&cli));
        // Whatever has not ended by now is not waited for.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "presence-server: {error}");
            ExitCode::from(NOT_STARTED)
        }
    }
}

/// Serves until a signal comes.
async fn run(cli: &Cli) -> Result<(), StartError> {
    begin_log(cli);
    let system = System::new();
    // Before the first word of listening, so that a stop right after it is in good order too.
    let signals = Signals::listen().map_err(StartError::Signals)?;
    #[expect(clippy::disallowed_methods, reason = "no node's task")]
    tokio::spawn(signals.stop(system.clone()));
    let (listener, address) = listen(&system, &cli.host, cli.port).await?;
    let mut config = cli.config();
    if let Some(directory) = &cli.cluster.journal {
        let path = directory.clone();
        let journals = Files::new(directory);
        let journals = journals.map_err(|error| StartError::Journal { path, error })?;
        config.journals = Some(Arc::new(journals));
    }
    let mesh = cli.cluster.mesh()?;
    let node = Node::start(Arc::new(system.clone()), config)?;
    let router = match cli.app {
        App::Guide if cli.sign_in.auth => {
            app::guide_with_sign_in(&node, tokens(&cli.sign_in, &system)?)
        }
        App::Guide => app::guide(&node),
        App::Conformance if cli.sign_in.auth => return Err(StartError::AuthOfConformance),
        App::Conformance => {
            let tokens = Tokens::new(&app::conformance::secret_key_base());
            app::conformance(&node, tokens.map_err(StartError::Secret)?)
        }
    };
    let query = match cli.app {
        App::Guide => "/?name=Alice",
        App::Conformance => "",
    };
    // Last, since others send their clients here once they know this node.
    if let Some(mesh) = mesh {
        Mesh::start_for(&node, mesh).await?;
    }
    let name = &*node.config().name;
    tracing::info!(name, incarnation = node.incarnation(), %address, "listening");
    // Whoever has closed our output does not want to know.
    let _ = writeln!(io::stdout(), "listening on http://{address}{query}");
    serve::serve(&node, listener, router).await;
    Ok(())
}

/// Writes the log to standard error.
fn begin_log(cli: &Cli) {
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&cli.log))
        .with_writer(io::stderr);
    match cli.log_format {
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => {
            log.json().flatten_event(true).init();
            // Or a panic would be lines among the objects.
            std::panic::set_hook(Box::new(|panic| {
                tracing::error!(error = %panic, "a panic");
            }));
        }
    }
}

/// Listens on the first address of a host that can be listened on.
async fn listen(
    system: &System,
    host: &str,
    port: u16,
) -> Result<(Box<dyn Listener>, SocketAddr), StartError> {
    let unresolved = |error| StartError::Resolve {
        host: host.to_owned(),
        error,
    };
    let addresses = system.resolve(host, port).await.map_err(unresolved)?;
    let mut failed = unresolved(io::Error::other("it has none"));
    for address in addresses {
        let listening = system.listen(address).await;
        match listening.and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((address, listener)) => return Ok((listener, address)),
            Err(error) => failed = StartError::Listen { address, error },
        }
    }
    Err(failed)
}

/// The tokens of the guide, signed with the secret that was given or with a random one.
fn tokens(given: &SignIn, system: &System) -> Result<Tokens, StartError> {
    let secret = match (&given.secret_key_base, &given.secret_key_base_file) {
        (Some(secret), _) => secret.clone(),
        (None, Some(path)) => secret_in(path).map_err(|error| StartError::SecretFile {
            path: path.clone(),
            error,
        })?,
        (None, None) => {
            tracing::warn!(
                "tokens are signed with a random secret, and end with this process: \
                 --secret-key-base gives one that stays"
            );
            let random = (0..4).map(|_| format!("{:016x}", system.random()));
            random.collect()
        }
    };
    let SomeTime(max_age) = given.token_max_age;
    let tokens = Tokens::new(&secret).map_err(StartError::Secret)?;
    Ok(tokens.with_max_age(max_age))
}

/// The signals that stop the server.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Stops what lives in `system` at the first signal, and the process at the second.
    async fn stop(mut self, system: System) {
        self.next().await;
        tracing::info!("stopping");
        system.request_stop();
        let kind = self.next().await;
        // As a shell reports a process that a signal has ended.
        std::process::exit(128 + kind.as_raw_value());
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        }
    }
}
