//! Serving an axum router in a node's world.

use std::io;
use std::net::SocketAddr;

use axum::Router;

use crate::env::{BoxStream, Listener};
use crate::node::Node;

/// Serves `router` on what `listener` accepts, until the node's world says stop.
///
/// # Errors
///
/// That of the listener's address.
pub async fn serve(node: &Node, listener: Box<dyn Listener>, router: Router) -> io::Result<()> {
    let node = node.clone();
    let address = listener.local_addr()?;
    let accepting = Accepting { listener, address };
    axum::serve(accepting, router)
        .with_graceful_shutdown(async move { node.env().stop().await })
        .await
}

struct Accepting {
    listener: Box<dyn Listener>,
    address: SocketAddr,
}

impl axum::serve::Listener for Accepting {
    type Io = BoxStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    // Such as too many open files: wait for some to close.
                    tracing::error!(%error, "no connection could be accepted");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
