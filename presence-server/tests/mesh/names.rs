//! The real world, with a name of its own.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use presence_server::env::{BoxStream, Environment, Listener, System};

/// The name that is known here.
pub(crate) const NAME: &str = "node.test";

/// A world where [`NAME`] stands for these addresses.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) system: System,
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Environment for Names {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Box<dyn Listener>>> {
        self.system.listen(address)
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxStream>> {
        self.system.connect(address)
    }

    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        if host == NAME {
            let addresses = self.addresses.clone();
            return Box::pin(async { Ok(addresses) });
        }
        self.system.resolve(host, port)
    }

    fn unix_time(&self) -> Duration {
        self.system.unix_time()
    }

    fn random(&self) -> u64 {
        self.system.random()
    }

    fn stop(&self) -> BoxFuture<'_, ()> {
        self.system.stop()
    }
}
