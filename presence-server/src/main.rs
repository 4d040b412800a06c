//! Starts a presence server.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use presence_server::app::{self, Tokens};
use presence_server::env::{Environment, System};
use presence_server::node::{Config, Node};
use presence_server::serve;
use tracing_subscriber::EnvFilter;

/// Who is online, told to every client of a topic.
///
/// Starts a server for phoenix.js clients, with the guide's page on http://localhost:4000/?name=Alice.
#[derive(Debug, Parser)]
#[command(name = "presence-server", version)]
struct Cli {
    /// The address to listen on.
    #[arg(long, env = "PRESENCE_HOST", default_value = "127.0.0.1")]
    host: String,
    /// The port to listen on; 0 takes a free one.
    #[arg(long, env = "PRESENCE_PORT", default_value_t = 4000)]
    port: u16,
    /// What to serve.
    #[arg(long, env = "PRESENCE_APP", value_enum, default_value_t = App::Guide)]
    app: App,
    /// What is logged, such as `info` or `presence_server=debug`.
    #[arg(long, env = "PRESENCE_LOG", default_value = "warn")]
    log: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum App {
    /// The guide's page and its room.
    Guide,
    /// The application that conformance tests drive.
    Conformance,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("presence-server: {reason}");
            ExitCode::from(2)
        }
    }
}

#[tokio::main]
async fn run(cli: &Cli) -> Result<(), String> {
    let filter = EnvFilter::try_new(&cli.log);
    let filter = filter.map_err(|error| format!("--log {:?} is no filter: {error}", cli.log))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();

    let system = System::new();
    let addresses = system.resolve(&cli.host, cli.port).await;
    let address: SocketAddr = addresses
        .ok()
        .and_then(|addresses| addresses.first().copied())
        .ok_or_else(|| format!("--host {:?} is no address", cli.host))?;
    let listener = system.listen(address).await;
    let listener = listener.map_err(|error| format!("can't listen on {address}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;

    let mut config = Config::default();
    if matches!(cli.app, App::Conformance) {
        config.poll_window = Duration::from_secs(1);
    }
    let node = Node::start(Arc::new(system.clone()), config);
    let router = match cli.app {
        App::Guide => app::guide(&node),
        App::Conformance => {
            let tokens = Tokens::new(&app::conformance::secret_key_base());
            app::conformance(&node, tokens.map_err(|error| error.to_string())?)
        }
    };
    match cli.app {
        App::Guide => println!("listening on http://{address}/?name=Alice"),
        App::Conformance => println!("listening on http://{address}"),
    }
    tokio::spawn(async move {
        // A world without signals is never told to stop.
        stop_signal().await;
        system.request_stop();
    });
    serve::serve(&node, listener, router).await;
    Ok(())
}

async fn stop_signal() {
    let interrupt = tokio::signal::ctrl_c();
    let Ok(mut terminate) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt => {}
        _ = terminate.recv() => {}
    }
}
