//! What a client has of the outside: the network to the nodes, which may stall for it alone.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use presence_server::env::{BoxStream, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::{Outside, Said};
use super::environment::connect;
use super::gate::Process;
use super::happened::Happened;
use super::host::HTTP;
use super::stage::Stage;
use crate::sabotage::Sabotage;
use crate::truth::Number;

/// The outside of one client.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) stage: Arc<Stage>,
    /// Its network: stopped while nothing passes between it and any node.
    pub(super) network: Process,
    /// The nodes that its requests may come to, beside its own.
    pub(super) others: Vec<usize>,
}

impl Outside for Window {
    fn connect(&self, _: usize, node: usize) -> BoxFuture<'_, io::Result<BoxStream>> {
        Box::pin(async move {
            std::future::poll_fn(|context| match self.network.holds(context.waker()) {
                true => Poll::Pending,
                false => Poll::Ready(()),
            })
            .await;
            let address = SocketAddr::new(turmoil::lookup(&*self.stage.name(node)), HTTP);
            let inner = connect(&self.stage, address, (None, Some(node)), false).await?;
            let network = self.network.clone();
            Ok(Box::new(Stalling { inner, network }) as BoxStream)
        })
    }

    fn number(&self, client: usize, topic: &str, key: &str) -> Number {
        let number = self.stage.next_number();
        self.stage.note(Happened::Numbered {
            client,
            topic: topic.into(),
            key: key.into(),
            number,
        });
        number
    }

    fn elsewhere(&self, _: usize) -> Option<usize> {
        // One request in four; but not across a cut that lasts until all heals, over which no session is
        // reached.
        let wanders = !self.others.is_empty() && self.stage.below(4) == 0;
        let wanders = wanders && !self.stage.is_part_calm();
        let node =
            wanders.then(|| self.others[self.stage.below(self.others.len() as u64) as usize])?;
        self.stage.takes_requests(node).then_some(node)
    }

    fn random(&self) -> u64 {
        self.stage.random()
    }

    fn said(&self, client: usize, said: Said) {
        self.stage.note(Happened::Said { client, said });
    }

    fn misses_rejoin(&self, _: usize) -> bool {
        self.stage.acts(Sabotage::RejoinMissed)
    }
}

/// A connection over a network that may stall.
struct Stalling {
    inner: BoxStream,
    network: Process,
}

impl Stalling {
    fn ready(&mut self, context: &Context<'_>) -> Poll<Pin<&mut dyn Stream>> {
        if self.network.holds(context.waker()) {
            return Poll::Pending;
        }
        Poll::Ready(Pin::new(&mut *self.inner))
    }
}

impl AsyncRead for Stalling {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let inner = std::task::ready!(self.ready(context));
        inner.poll_read(context, buffer)
    }
}

impl AsyncWrite for Stalling {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let inner = std::task::ready!(self.ready(context));
        inner.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = std::task::ready!(self.ready(context));
        inner.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = std::task::ready!(self.ready(context));
        inner.poll_shutdown(context)
    }
}
