//! Dialling: each place has a task that connects to it whenever the node there is not.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info};

use super::handshake::{HandshakeError, Role};
use super::meet::MeetError;
use super::mesh::Shared;
use super::places::{Dialled, Next};
use super::roster::{Attempt, Sign};
use crate::env::BoxStream;

/// How many addresses of one name are tried.
const MAX_ADDRESSES: usize = 16;

/// How often the names in the settings are resolved where all behind them is connected: once in so
/// many periods.
const RESTING_PERIODS: u32 = 6;

/// Resolves an address of the settings again and again, and has all that it stands for dialled.
pub(super) async fn follow(shared: Arc<Shared>, entry: String) {
    loop {
        let mut reached = false;
        match shared.resolve(&entry).await {
            Ok(addresses) => {
                let addresses = addresses.iter().take(shared.config.max_peers);
                let addresses: Vec<_> = addresses.map(SocketAddr::to_string).collect();
                for address in &addresses {
                    shared.want(address, None);
                }
                reached = wait(&shared, &addresses).await;
            }
            Err(error) if shared.said.is_new(&entry, "resolve") => {
                info!(address = entry, %error, "no address of a node to join");
            }
            Err(error) => debug!(address = entry, %error, "no address of a node to join"),
        }
        if !reached {
            tokio::time::sleep(shared.config.resolve_period).await;
        }
    }
}

/// Waits while the nodes at all of these addresses are connected, but not for ever. Returns whether it
/// has waited.
async fn wait(shared: &Shared, addresses: &[String]) -> bool {
    let mut periods = 0;
    while periods < RESTING_PERIODS && shared.are_reached(addresses) {
        tokio::time::sleep(shared.config.resolve_period).await;
        periods += 1;
    }
    periods > 0
}

/// Dials a place whenever its node is not connected, until the place is forgotten.
pub(super) async fn keep(shared: Arc<Shared>, address: String, changed: Arc<Notify>) {
    loop {
        match shared.next(&address, &changed) {
            Next::Forget => return,
            Next::Rest => changed.notified().await,
            Next::Dial(due) if due > Instant::now() => tokio::select! {
                biased;
                () = changed.notified() => {}
                () = sleep_until(due) => {}
            },
            Next::Dial(_) => dial(&shared, &address).await,
        }
    }
}

/// Why a dial has made no link.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("{0}")]
    Resolve(io::Error),
    #[error("nobody listens")]
    Refused,
    #[error("no answer in time")]
    TimedOut,
    #[error("{0}")]
    Connect(io::Error),
    #[error(transparent)]
    Meet(#[from] MeetError),
}

impl DialError {
    fn sign(&self) -> Sign {
        match self {
            Self::Refused => Sign::Refused,
            Self::TimedOut | Self::Meet(MeetError::TimedOut(_)) => Sign::TimedOut,
            _ => Sign::Other,
        }
    }

    fn dialled(&self) -> Dialled {
        match self {
            Self::Meet(MeetError::Handshake(HandshakeError::Itself)) => Dialled::Itself,
            Self::Meet(error) if error.is_expected() => Dialled::Already,
            _ => Dialled::Failed,
        }
    }
}

async fn dial(shared: &Arc<Shared>, address: &str) {
    debug!(address, "dialling");
    let attempt = shared.attempt();
    let dialled = connect(shared, address, attempt).await;
    shared.abandon(attempt);
    let Err(error) = dialled else {
        return;
    };
    match &error {
        DialError::Meet(error) => shared.log_refusal(address, error),
        error => {
            let kind = match error {
                DialError::Resolve(_) => "resolve",
                DialError::Refused => "refused",
                DialError::TimedOut => "timed out",
                _ => "connect",
            };
            if shared.said.is_new(address, kind) {
                info!(address, %error, "a node is out of reach");
            } else {
                debug!(address, %error, "a node is out of reach");
            }
        }
    }
    shared.dialled(address, error.dialled(), error.sign());
}

/// Makes a link with the node at a place.
async fn connect(shared: &Arc<Shared>, address: &str, attempt: Attempt) -> Result<(), DialError> {
    let (stream, to) = open(shared, address).await?;
    let mut meeting = shared.meeting(Role::Dialer, stream).await?;
    let begin = |met: &_| shared.begin(address, attempt, met);
    let met = meeting.dial(&shared.local, shared.nonce(), begin).await?;
    let link = shared
        .welcomed(attempt, &met, to.ip())
        .map_err(MeetError::from)?;
    shared.run(link, meeting, address.to_owned());
    Ok(())
}

/// A connection to the first address of a place that takes one.
async fn open(shared: &Shared, place: &str) -> Result<(BoxStream, SocketAddr), DialError> {
    let addresses = shared.resolve(place).await.map_err(DialError::Resolve)?;
    let mut worst = None;
    for &address in addresses.iter().take(MAX_ADDRESSES) {
        let opening = shared.env.connect(address);
        let error = match timeout(shared.config.connect_timeout(), opening).await {
            Ok(Ok(stream)) => return Ok((stream, address)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                DialError::Refused
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => DialError::TimedOut,
            Ok(Err(error)) => DialError::Connect(error),
            Err(_) => DialError::TimedOut,
        };
        // Only where all refuse does nobody listen.
        if !matches!((&worst, &error), (Some(_), DialError::Refused)) {
            worst = Some(error);
        }
    }
    Err(worst.unwrap_or_else(|| DialError::Resolve(io::ErrorKind::NotFound.into())))
}
