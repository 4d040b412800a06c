//! Accepting: who connects has a limited time to prove that it belongs to the cluster, and so many may
//! try at once.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::handshake::Role;
use super::link::Link;
use super::meet::{MeetError, Meeting};
use super::mesh::Shared;
use crate::env::{BoxStream, Listener};

/// The pause after the system has no connection to give, such as when all its files are open.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections for as long as it runs. Who comes while too many are at their handshake waits
/// in the system's queue.
pub(super) async fn accept(shared: Arc<Shared>, mut listener: Box<dyn Listener>) {
    let permits = Arc::new(Semaphore::new(shared.config.max_handshakes));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, from)) => {
                let meeting = Arc::clone(&shared);
                shared.tasks.spawn(async move {
                    answer(&meeting, stream, from).await;
                    drop(permit);
                });
            }
            Err(error) => {
                if shared.said.is_new("listener", "accept") {
                    warn!(%error, "no connection can be accepted");
                } else {
                    debug!(%error, "no connection can be accepted");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(shared: &Arc<Shared>, stream: BoxStream, from: SocketAddr) {
    // The port is another one each time, and so no part of what is logged once.
    let address = from.ip().to_canonical().to_string();
    match meet(shared, stream, from.ip()).await {
        Ok((link, meeting)) => shared.run(link, meeting, address),
        Err(error) => shared.log_refusal(&address, &error),
    }
}

async fn meet(
    shared: &Arc<Shared>,
    stream: BoxStream,
    from: IpAddr,
) -> Result<(Arc<Link>, Meeting), MeetError> {
    let mut meeting = shared.meeting(Role::Acceptor, stream).await?;
    let admit = |met: &_, lost| shared.admit(met, from, lost);
    let link = meeting.answer(&shared.local, shared.nonce(), admit).await?;
    Ok((link, meeting))
}
